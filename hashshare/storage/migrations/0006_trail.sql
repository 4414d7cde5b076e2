-- The audit trail: who did what, and what was refused. Never a hash value.
--
-- Rows are written by storage/trail.py. Nobody changes or deletes them, not by mistake either: the
-- trigger refuses. (Who owns the database can drop the trigger; a copy elsewhere shows that.)

CREATE TABLE trail (
    entry_no    bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind        text        COLLATE "C" NOT NULL
                            CHECK (kind IN ('submission', 'pull', 'act', 'refusal')),
    -- Null for who has no certificate, or one that is not known here.
    member_id   text        COLLATE "C",
    -- Of the certificate that was used, where it matters.
    fingerprint bytea       CHECK (octet_length(fingerprint) = 32),
    action      text        NOT NULL,
    -- The type of the problem that a refusal was answered with.
    problem     text        COLLATE "C",
    facts       jsonb       NOT NULL,
    CHECK ((kind = 'refusal') = (problem IS NOT NULL))
);

CREATE INDEX trail_in_time ON trail (recorded_at, entry_no);
CREATE INDEX trail_of_member ON trail (member_id, recorded_at, entry_no);
CREATE INDEX trail_of_kind ON trail (kind, recorded_at, entry_no);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'table % is append-only', TG_TABLE_NAME;
END
$$;

CREATE TRIGGER trail_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON trail
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
