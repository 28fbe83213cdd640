-- What became of each event, append-only and in partitions of a week, so that old ones are dropped whole. It is the
-- inbox too: an event found done here is not done again (docs/decisions/0009-effect-once.md).
CREATE TABLE outcomes (
    event_id    text        NOT NULL COLLATE "C",
    service     text        NOT NULL COLLATE "C",
    state       text        NOT NULL CHECK (state IN ('done', 'dead')),
    attempts    integer     NOT NULL,
    code        text        NOT NULL,
    detail      text        NOT NULL,
    result      json,
    took_ms     bigint      NOT NULL,
    worker      text        NOT NULL,
    trace_id    text        NOT NULL,
    accepted_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    PRIMARY KEY (event_id, service, finished_at)
) PARTITION BY RANGE (finished_at);
CREATE INDEX outcomes_by_time ON outcomes USING brin (finished_at);
-- For what comes when no partition has been made for it. Nothing is ever refused for the want of one.
CREATE TABLE outcomes_default PARTITION OF outcomes DEFAULT;

-- What was recorded before, one statement: the tables of a fleet that starts for the first time are empty.
INSERT INTO outcomes SELECT event_id, service, state, attempts, code, detail, result, took_ms, worker, trace_id,
    accepted_at, finished_at FROM results;

ALTER TABLE failures RENAME TO failures_before;
DROP INDEX failures_by_event;
DROP INDEX failures_by_time;
CREATE TABLE failures (
    event_id    text        NOT NULL COLLATE "C",
    service     text        NOT NULL COLLATE "C",
    attempt     integer     NOT NULL,
    class       text        NOT NULL CHECK (class IN ('transient', 'unknown', 'permanent')),
    code        text        NOT NULL,
    detail      text        NOT NULL,
    took_ms     bigint      NOT NULL,
    worker      text        NOT NULL,
    trace_id    text        NOT NULL,
    at          timestamptz NOT NULL,
    PRIMARY KEY (event_id, service, at)
) PARTITION BY RANGE (at);
CREATE INDEX failures_by_time ON failures USING brin (at);
CREATE TABLE failures_default PARTITION OF failures DEFAULT;
INSERT INTO failures SELECT * FROM failures_before ON CONFLICT DO NOTHING;

DROP VIEW audit;
DROP TABLE failures_before;
DROP TABLE results;

-- One row an event and service: a done one wins, else the latest.
CREATE VIEW results AS
    SELECT DISTINCT ON (event_id, service) *
    FROM outcomes ORDER BY event_id, service, state DESC, finished_at DESC;

-- The audit log: every attempt, who, when, with what result, in which trace.
CREATE VIEW audit AS
    SELECT event_id, service, attempt, class AS outcome, code, detail, took_ms, worker, trace_id, at FROM failures
    UNION ALL
    SELECT event_id, service, attempts, state, code, detail, took_ms, worker, trace_id, finished_at
    FROM outcomes WHERE state = 'done';

-- A call that must not be made twice is noted here before it begins, and the note goes with its outcome. One that is
-- left says that nobody knows what became of the call.
CREATE TABLE intents (
    event_id    text        NOT NULL COLLATE "C",
    service     text        NOT NULL COLLATE "C",
    worker      text        NOT NULL,
    asked       bigint      NOT NULL,
    starts      integer     NOT NULL,
    replay      bigint      NOT NULL,
    ended       boolean     NOT NULL DEFAULT false,
    since       timestamptz NOT NULL,
    at          timestamptz NOT NULL,
    PRIMARY KEY (event_id, service)
);

-- How often a message was begun that came again, without coming to an end: it may be what ends its workers.
CREATE TABLE suspects (
    service     text        NOT NULL COLLATE "C",
    sequence    bigint      NOT NULL,
    starts      integer     NOT NULL,
    at          timestamptz NOT NULL,
    PRIMARY KEY (service, sequence)
);
