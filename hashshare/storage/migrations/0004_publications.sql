-- What was published: versions, the state of each list at each, the changes between them.

-- Two publishers that make the same version collide on the primary key; with the reference to
-- the version before, versions of a hash set are gapless and never fork.
CREATE TABLE publication (
    hash_set_no       integer NOT NULL REFERENCES hash_set,
    version           bigint  NOT NULL CHECK (version > 0),
    log_index         bigint  NOT NULL UNIQUE REFERENCES leaf,
    log_size          bigint  NOT NULL CHECK (log_size > 0 AND log_size <= log_index),
    registry_version  bigint  NOT NULL REFERENCES registry,
    statement_id      bytea   NOT NULL UNIQUE CHECK (length(statement_id) = 32),
    previous          bigint  GENERATED ALWAYS AS (nullif(version - 1, 0)) STORED,
    PRIMARY KEY (hash_set_no, version),
    FOREIGN KEY (hash_set_no, previous) REFERENCES publication (hash_set_no, version)
);

-- One row a list and version. A list whose view was deleted gets one last row that is not
-- listed and has no entries, so that its bits are kept should the view come back.
CREATE TABLE list_state (
    hash_set_no  integer  NOT NULL,
    view         text     NOT NULL,
    algorithm    text     NOT NULL,
    version      bigint   NOT NULL,
    listed       boolean  NOT NULL,
    count        bigint   NOT NULL CHECK (count >= 0 AND (listed OR count = 0)),
    bits         smallint NOT NULL CHECK (bits BETWEEN 0 AND 20),
    root         bytea    NOT NULL CHECK (length(root) = 32),
    changes      bigint   NOT NULL CHECK (changes >= 0),
    PRIMARY KEY (hash_set_no, view, algorithm, version),
    -- The rows are written before the publication, whose statement is only then known.
    FOREIGN KEY (hash_set_no, version) REFERENCES publication DEFERRABLE INITIALLY DEFERRED
);

CREATE INDEX list_state_version ON list_state (hash_set_no, version);
CREATE INDEX list_state_deleted ON list_state (hash_set_no, view, algorithm, version)
    WHERE NOT listed;

-- The changes that a version makes in a list, in key order over all its parts.
CREATE TABLE change_run (
    hash_set_no  integer NOT NULL,
    view         text    NOT NULL,
    algorithm    text    NOT NULL,
    version      bigint  NOT NULL,
    part         integer NOT NULL CHECK (part >= 0),
    first_key    bytea   NOT NULL,
    last_key     bytea   NOT NULL CHECK (last_key >= first_key),
    changes      bytea   NOT NULL,
    PRIMARY KEY (hash_set_no, view, algorithm, version, part),
    FOREIGN KEY (hash_set_no, version) REFERENCES publication DEFERRABLE INITIALLY DEFERRED
);

-- Hash values do not compress.
ALTER TABLE change_run ALTER COLUMN changes SET STORAGE EXTERNAL;

-- Parquet files of whole lists, kept as blobs under their digests.
CREATE TABLE snapshot (
    hash_set_no  integer NOT NULL,
    view         text    NOT NULL,
    algorithm    text    NOT NULL,
    version      bigint  NOT NULL,
    sha256       bytea   NOT NULL CHECK (length(sha256) = 32),
    size         bigint  NOT NULL CHECK (size > 0),
    count        bigint  NOT NULL CHECK (count >= 0),
    PRIMARY KEY (hash_set_no, view, algorithm, version),
    FOREIGN KEY (hash_set_no, view, algorithm, version) REFERENCES list_state
);

-- To find the hash sets that have submissions which no publication covers.
CREATE INDEX submission_of_hash_set ON submission (hash_set_no, log_index);
