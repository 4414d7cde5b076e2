-- What auditors have said of the log's checkpoints: of each, what it audited last.

CREATE TABLE audit_cosignature (
    -- Name and key id of the auditor, as its line has them.
    cosigner    text        COLLATE "C" PRIMARY KEY,
    size        bigint      NOT NULL CHECK (size > 0),
    -- The line of the signed note (C2SP tlog-cosignature).
    line        text        NOT NULL,
    -- What the line says.
    signed_at   timestamptz NOT NULL,
    received_at timestamptz NOT NULL
);
