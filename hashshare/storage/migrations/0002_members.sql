-- Who the members are: the registry, as signed, and what the server adds to it.

-- Every version of the registry, as the canonical bytes that its statement names.
CREATE TABLE registry (
    version     bigint      PRIMARY KEY CHECK (version > 0),
    log_index   bigint      NOT NULL UNIQUE REFERENCES leaf,
    document    bytea       NOT NULL,
    accepted_at timestamptz NOT NULL
);

-- A row for each member of the registry, made together with the registry that first has it.
-- The row is locked for the whole of a submission, so nothing that is written often is here.
CREATE TABLE member (
    member_no integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    member_id text    COLLATE "C" NOT NULL UNIQUE,
    -- Head of the member's chain of submissions; 32 zero bytes when it has none.
    sequence  bigint  NOT NULL DEFAULT 0 CHECK (sequence >= 0),
    last_id   bytea   NOT NULL DEFAULT decode(repeat('00', 32), 'hex')
                      CHECK (octet_length(last_id) = 32)
);

CREATE TABLE certificate (
    -- SHA-256 of the DER.
    fingerprint  bytea       PRIMARY KEY CHECK (octet_length(fingerprint) = 32),
    member_id    text        COLLATE "C" NOT NULL REFERENCES member (member_id),
    label        text        NOT NULL,
    not_before   timestamptz NOT NULL,
    not_after    timestamptz NOT NULL CHECK (not_after > not_before),
    der          bytea       NOT NULL,
    revoked_at   timestamptz,
    reason       text,
    last_seen_at timestamptz,
    CHECK ((revoked_at IS NULL) = (reason IS NULL))
);

CREATE INDEX certificate_of_member ON certificate (member_id);

CREATE TABLE invitation (
    -- SHA-256 of the token; the token itself is not kept.
    token_digest  bytea       PRIMARY KEY CHECK (octet_length(token_digest) = 32),
    invitation_id text        COLLATE "C" NOT NULL UNIQUE,
    member_id     text        COLLATE "C" NOT NULL REFERENCES member (member_id),
    label         text        NOT NULL,
    created_at    timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL CHECK (expires_at > created_at),
    failed_tries  integer     NOT NULL DEFAULT 0,
    -- Digest of both public keys of the one enrolment that used it: the same keys again are
    -- answered the same, others are refused.
    used_by       bytea       CHECK (octet_length(used_by) = 32),
    used_at       timestamptz,
    fingerprint   bytea       UNIQUE REFERENCES certificate,
    revoked_at    timestamptz,
    CHECK ((used_by IS NULL) = (used_at IS NULL)),
    CHECK ((used_by IS NULL) = (fingerprint IS NULL))
);

CREATE INDEX invitation_of_member ON invitation (member_id);

-- Submission keys whose possession was proven. A key counts only once the registry lists it.
CREATE TABLE enrolment (
    -- Base64 of the 32 bytes, as in the registry.
    submission_key text        COLLATE "C" PRIMARY KEY,
    member_id      text        COLLATE "C" NOT NULL REFERENCES member (member_id),
    fingerprint    bytea       NOT NULL REFERENCES certificate,
    enrolled_at    timestamptz NOT NULL,
    approved_at    timestamptz
);

CREATE INDEX enrolment_of_member ON enrolment (member_id);

-- The version that a member pulled last, for admins to see who lags.
CREATE TABLE pull (
    member_id text        COLLATE "C" NOT NULL REFERENCES member (member_id),
    list_name text        COLLATE "C" NOT NULL,
    version   bigint      NOT NULL CHECK (version >= 0),
    pulled_at timestamptz NOT NULL,
    PRIMARY KEY (member_id, list_name)
);
