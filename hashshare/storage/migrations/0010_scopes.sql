-- What a certificate of a member is for, where that is not all; and what it is asked for with.

ALTER TABLE certificate
    ADD COLUMN scope           text   COLLATE "C" CHECK (scope IN ('pull', 'push', 'both')),
    -- Null for all.
    ADD COLUMN scope_hash_sets text[] COLLATE "C",
    ADD CHECK (scope IS NOT NULL OR scope_hash_sets IS NULL);

ALTER TABLE invitation
    ADD COLUMN scope           text   COLLATE "C" CHECK (scope IN ('pull', 'push', 'both')),
    ADD COLUMN scope_hash_sets text[] COLLATE "C",
    ADD CHECK (scope IS NOT NULL OR scope_hash_sets IS NULL);
