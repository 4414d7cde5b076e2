-- What witnesses have said of the log's checkpoints, until a larger one has a quorum.

CREATE TABLE cosignature (
    size        bigint      NOT NULL CHECK (size > 0),
    -- Name and key id of the cosigner, as its line has them.
    cosigner    text        COLLATE "C" NOT NULL,
    -- The line of the signed note (C2SP tlog-cosignature).
    line        text        NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (size, cosigner)
);
