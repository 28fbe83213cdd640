-- What was asked of the caches of answers. A row holds what one worker noted of one service within a few seconds; those of
-- past hours are put together.
CREATE TABLE access_log (
    service     text        COLLATE "C" NOT NULL,
    -- By the database's clock: the moment at which the row's transaction began.
    flushed_at  timestamptz NOT NULL DEFAULT now(),
    -- Of the row's own: whoever writes it once more finds it, and whoever reads it once more knows it.
    batch       bytea       NOT NULL,
    -- Empty for a row that was put together from those of an hour.
    worker      text        NOT NULL,
    -- When the first and the last of them were, milliseconds since the Unix epoch.
    from_ms     bigint      NOT NULL,
    to_ms       bigint      NOT NULL,
    accesses    integer     NOT NULL,
    keys        integer     NOT NULL,
    packed      bytea       NOT NULL,
    PRIMARY KEY (service, flushed_at, batch)
) PARTITION BY RANGE (flushed_at);
-- They are compressed already where that pays.
ALTER TABLE access_log ALTER COLUMN packed SET STORAGE EXTERNAL;
CREATE TABLE access_log_default PARTITION OF access_log DEFAULT;

-- The sums of an hour. Each worker has its own rows, so that none waits for another.
CREATE TABLE access_hours (
    service     text        COLLATE "C" NOT NULL,
    hour        timestamptz NOT NULL,
    worker      text        NOT NULL,
    -- Of how many keys in a million they are.
    share       integer     NOT NULL,
    -- Look-ups by where they found their value.
    memory      bigint      NOT NULL,
    redis       bigint      NOT NULL,
    postgres    bigint      NOT NULL,
    nowhere     bigint      NOT NULL,
    -- Fetches that nobody asked for.
    unasked     bigint      NOT NULL,
    -- Hits behind which a call was made all the same.
    refreshed   bigint      NOT NULL,
    -- Misses whose fetch came to its end, and the milliseconds of those.
    fetched     bigint      NOT NULL,
    fetched_ms  bigint      NOT NULL,
    PRIMARY KEY (service, hour, worker, share)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX access_hours_by_hour ON access_hours (hour);

-- What to fetch for a key.
CREATE TABLE access_keys (
    service     text        COLLATE "C" NOT NULL,
    -- Of the cache's key; its first eight bytes stand for it in the log.
    digest      bytea       NOT NULL,
    name        text        NOT NULL,
    tenant      text,
    request     bytea       NOT NULL,
    seen_at     timestamptz NOT NULL,
    PRIMARY KEY (service, digest)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
-- What was seen longest ago goes first.
CREATE INDEX access_keys_by_age ON access_keys (service, seen_at);
