-- When each version was published, to the microsecond, for reports; older ones to the second, as signed.

ALTER TABLE publication ADD COLUMN published_at timestamptz;

UPDATE publication
   SET published_at = (
           convert_from(
               decode(convert_from(leaf.entry, 'UTF8')::json ->> 'payload', 'base64'), 'UTF8'
           )::json ->> 'created_at'
       )::timestamptz
  FROM leaf
 WHERE leaf.log_index = publication.log_index;

ALTER TABLE publication ALTER COLUMN published_at SET DEFAULT clock_timestamp();
ALTER TABLE publication ALTER COLUMN published_at SET NOT NULL;

-- The version that first covers a leaf; the version that was the newest at a time.
CREATE INDEX publication_covering ON publication (hash_set_no, log_size, version);
CREATE INDEX publication_in_time ON publication (hash_set_no, published_at);
CREATE INDEX submission_in_time ON submission (accepted_at);

-- When a member was first sent a list of at least a certain version.
CREATE INDEX trail_of_pulls
    ON trail (member_id, (facts ->> 'list'), ((facts ->> 'target')::bigint))
    WHERE kind = 'pull';
