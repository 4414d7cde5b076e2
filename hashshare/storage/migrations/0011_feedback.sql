-- What members report that hashes did for them, in a month. Private statistics: in no log.
--
-- One row a member, hash and month: the same report again, or a later one, takes its place. A row
-- whose counts are all zero is not kept.

-- Like the other tables that name hashes it has no foreign keys.
CREATE TABLE feedback (
    hash_set_no    integer NOT NULL,
    hash_id        integer NOT NULL,
    -- First day of the month.
    month          date    NOT NULL CHECK (extract(day FROM month) = 1),
    member_no      integer NOT NULL,
    -- Whether the member lets these counts be shown as its own.
    named          boolean NOT NULL,
    matched        bigint  NOT NULL CHECK (matched BETWEEN 0 AND 1000000000000),
    false_positive bigint  NOT NULL CHECK (false_positive BETWEEN 0 AND 1000000000000),
    not_matched    bigint  NOT NULL CHECK (not_matched BETWEEN 0 AND 1000000000000),
    PRIMARY KEY (hash_set_no, hash_id, month, member_no)
);

CREATE INDEX feedback_in_time ON feedback (month, hash_set_no);

-- The same of a whole hash set, by members that count no single hashes.
CREATE TABLE feedback_total (
    hash_set_no    integer NOT NULL REFERENCES hash_set,
    month          date    NOT NULL CHECK (extract(day FROM month) = 1),
    member_no      integer NOT NULL REFERENCES member,
    named          boolean NOT NULL,
    matched        bigint  NOT NULL CHECK (matched BETWEEN 0 AND 1000000000000),
    false_positive bigint  NOT NULL CHECK (false_positive BETWEEN 0 AND 1000000000000),
    not_matched    bigint  NOT NULL CHECK (not_matched BETWEEN 0 AND 1000000000000),
    PRIMARY KEY (hash_set_no, month, member_no)
);
