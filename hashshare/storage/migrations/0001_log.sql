-- The log: an append-only Merkle tree (RFC 9162) of signed statements.
--
-- The one row of "log" is locked by whoever appends, as the last lock of its transaction.
-- So the order of indexes is the order of commits, without a gap, over all server processes.

CREATE TABLE log (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    size      bigint  NOT NULL CHECK (size >= 0),
    -- Roots of the complete subtrees that the tree consists of, the largest first.
    frontier  bytea   NOT NULL CHECK (octet_length(frontier) = 32 * bit_count(size::bit(64))),
    root      bytea   NOT NULL CHECK (octet_length(root) = 32)
);

INSERT INTO log (size, frontier, root) VALUES (0, ''::bytea, sha256(''::bytea));

CREATE TABLE leaf (
    log_index    bigint PRIMARY KEY CHECK (log_index >= 0),
    statement_id bytea  NOT NULL CHECK (octet_length(statement_id) = 32),
    payload_type text   NOT NULL,
    -- The canonical bytes of the envelope. A bundle of entries gives each 16 bits of length.
    entry        bytea  NOT NULL CHECK (octet_length(entry) BETWEEN 1 AND 65535),
    -- The same statement is never logged twice: a repetition gets its first receipt.
    CONSTRAINT leaf_statement_once UNIQUE (statement_id)
);

-- Nodes as C2SP tlog-tiles has them: level 0 holds the leaf hashes, and a node of a higher
-- level is over 256 nodes of the level below. Only complete nodes are here; none ever changes.
CREATE TABLE log_node (
    level      smallint NOT NULL CHECK (level BETWEEN 0 AND 7),
    node_index bigint   NOT NULL CHECK (node_index >= 0),
    hash       bytea    NOT NULL CHECK (octet_length(hash) = 32),
    PRIMARY KEY (level, node_index)
);
