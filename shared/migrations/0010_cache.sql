-- The third level of the cache: what is dear to fetch and lives long. Not logged, because it may be lost: after a crash of
-- Postgres it is empty, and a replica does not have it.
CREATE UNLOGGED TABLE cache_entries (
    -- SHA-256 of the key.
    key         bytea       PRIMARY KEY,
    -- When it was asked for, milliseconds since the Unix epoch: of two entries the later one stays.
    asked_at    bigint      NOT NULL,
    kept_until  timestamptz NOT NULL,
    bytes       bytea       NOT NULL
);
-- They are compressed already where that pays; and their sum is told without reading them.
ALTER TABLE cache_entries ALTER COLUMN bytes SET STORAGE EXTERNAL;
-- Each entry is replaced often and deleted in the end.
ALTER TABLE cache_entries SET (autovacuum_vacuum_scale_factor = 0.05, toast.autovacuum_vacuum_scale_factor = 0.05);
-- What ends first is looked for.
CREATE INDEX cache_entries_by_end ON cache_entries (kept_until);
