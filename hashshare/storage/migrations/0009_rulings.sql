-- What reviewers decide about hashes, and how disputes count.

ALTER TABLE submission DROP CONSTRAINT submission_operation_check;
ALTER TABLE submission ADD CONSTRAINT submission_operation_check
    CHECK (operation IN ('assert', 'withdraw', 'dispute', 'rule'));

-- Of disputes under a bound: the time at their place in the log, and whether they count while
-- no other member disputes the same.
ALTER TABLE submission ADD COLUMN disputed_at timestamptz;
ALTER TABLE submission ADD COLUMN alone boolean NOT NULL DEFAULT true;

CREATE INDEX submission_disputed ON submission (member_no, hash_set_no, disputed_at)
    WHERE disputed_at IS NOT NULL;

-- Rows are never changed or deleted; of those about one hash the latest in the log holds. Like
-- the other tables that name hashes it has no foreign keys.
CREATE TABLE ruling (
    hash_set_no integer NOT NULL,
    hash_id     integer NOT NULL,
    member_no   integer NOT NULL,
    sequence    bigint  NOT NULL,
    decision    text    COLLATE "C" NOT NULL CHECK (decision IN ('keep', 'remove')),
    reason      text    NOT NULL,
    PRIMARY KEY (hash_set_no, hash_id, member_no, sequence)
);

-- That a member stands by what it asserts of the hashes of a case, which is a submission with
-- disputes that no ruling has settled. It changes no list: it is for those who decide.
CREATE TABLE confirmation (
    log_index    bigint      NOT NULL REFERENCES submission,
    member_no    integer     NOT NULL REFERENCES member,
    comment      text        NOT NULL,
    confirmed_at timestamptz NOT NULL,
    PRIMARY KEY (log_index, member_no)
);

-- To find the disputes that are open.
CREATE INDEX dispute_open ON dispute (hash_set_no, member_no, sequence) WHERE ended_in IS NULL;
