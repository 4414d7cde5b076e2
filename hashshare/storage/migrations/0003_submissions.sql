-- What the members say: hashes, and who asserts or disputes them.
--
-- An assertion or dispute names its submission by the member's own sequence number, which is
-- known long before the log is locked; submission (member_no, sequence) gives the log index.
-- Within one member the order of sequences is the order of log indexes, and only the member
-- itself ends what it said, so that a stance needs no other order.
--
-- The three tables that grow with the hashes have no foreign keys: a check for each of a
-- million rows costs more than all else. They are written by storage/assertions.py alone,
-- which takes the ids from these tables in the same transaction.

-- A row for each hash set of the registry. Locked by whoever gives out hash ids.
CREATE TABLE hash_set (
    hash_set_no  integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hash_set_id  text    COLLATE "C" NOT NULL UNIQUE,
    -- Ids are dense: 1 to last_hash_id, each once.
    last_hash_id integer NOT NULL DEFAULT 0 CHECK (last_hash_id >= 0)
);

-- Each hash once, however many members speak of it. Rows are never changed or deleted.
CREATE TABLE hash (
    hash_set_no integer NOT NULL,
    hash_id     integer NOT NULL,
    algorithm   text    COLLATE "C" NOT NULL,
    value       bytea   NOT NULL,
    -- The value before the algorithm: it nearly always decides a comparison alone.
    CONSTRAINT hash_once UNIQUE (hash_set_no, value, algorithm),
    PRIMARY KEY (hash_set_no, hash_id)
);

CREATE TABLE submission (
    log_index     bigint      PRIMARY KEY REFERENCES leaf,
    statement_id  bytea       NOT NULL UNIQUE,
    member_no     integer     NOT NULL REFERENCES member,
    hash_set_no   integer     NOT NULL REFERENCES hash_set,
    operation     text        NOT NULL CHECK (operation IN ('assert', 'withdraw', 'dispute')),
    sequence      bigint      NOT NULL CHECK (sequence > 0),
    batch         bytea       NOT NULL CHECK (octet_length(batch) = 32),
    records       integer     NOT NULL,
    hashes        integer     NOT NULL,
    new           integer     NOT NULL,
    known         integer     NOT NULL,
    unchanged     integer     NOT NULL,
    ended         integer     NOT NULL,
    accepted_at   timestamptz NOT NULL,
    CONSTRAINT submission_chain UNIQUE (member_no, sequence)
);

CREATE INDEX submission_batch ON submission (batch);

-- What a member says of a hash under one of its record ids ('' where it gave none).
-- In force while ended_in is null. Only ended_in is ever updated, and once.
CREATE TABLE assertion (
    hash_set_no    integer NOT NULL,
    hash_id        integer NOT NULL,
    member_no      integer NOT NULL,
    -- Of the member's submission that said it first in this form.
    sequence       bigint  NOT NULL,
    -- Of the member's submission that ended it.
    ended_in       bigint  CHECK (ended_in > sequence),
    record         text    COLLATE "C" NOT NULL,
    classification text    COLLATE "C" NOT NULL,
    media          text    COLLATE "C",
    basis          text    COLLATE "C" NOT NULL,
    -- At most one in force; and as an index, everything ever said of a hash.
    CONSTRAINT assertion_once
        UNIQUE NULLS NOT DISTINCT (hash_set_no, hash_id, member_no, record, ended_in)
);

-- To withdraw a record by its id.
CREATE INDEX assertion_record ON assertion (hash_set_no, member_no, record)
    WHERE ended_in IS NULL AND record <> '';

-- That a member holds a hash to be wrongly listed. In force while ended_in is null.
CREATE TABLE dispute (
    hash_set_no integer NOT NULL,
    hash_id     integer NOT NULL,
    member_no   integer NOT NULL,
    sequence    bigint  NOT NULL,
    ended_in    bigint  CHECK (ended_in > sequence),
    reason      text    COLLATE "C" NOT NULL,
    CONSTRAINT dispute_once
        UNIQUE NULLS NOT DISTINCT (hash_set_no, hash_id, member_no, ended_in)
);

-- The hashes whose stances a submission changed, ascending, for the publisher: cut into parts
-- numbered from 0. A submission that changes nothing has none.
CREATE TABLE touched (
    hash_set_no integer   NOT NULL REFERENCES hash_set,
    log_index   bigint    NOT NULL REFERENCES submission,
    part        integer   NOT NULL CHECK (part >= 0),
    hash_ids    integer[] NOT NULL CHECK (cardinality(hash_ids) > 0),
    PRIMARY KEY (hash_set_no, log_index, part)
);

ALTER TABLE touched ALTER COLUMN hash_ids SET STORAGE EXTERNAL;
