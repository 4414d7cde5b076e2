"""All that is kept: the database through asyncpg, and the blobs that it names."""
