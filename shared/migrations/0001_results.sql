-- What became of each event: one row an event and service, written before the event is acked. It is the audit record
-- of the attempt that ended the event too, so that the common case, done at the first attempt, costs one row.
CREATE TABLE results (
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
    PRIMARY KEY (event_id, service)
);
-- A range index: a second B-tree would tempt the planner away from the primary key while the table is small.
CREATE INDEX results_by_time ON results USING brin (finished_at);

-- Every attempt that failed, append-only.
CREATE TABLE failures (
    event_id    text        NOT NULL COLLATE "C",
    service     text        NOT NULL COLLATE "C",
    attempt     integer     NOT NULL,
    class       text        NOT NULL CHECK (class IN ('transient', 'permanent')),
    code        text        NOT NULL,
    detail      text        NOT NULL,
    took_ms     bigint      NOT NULL,
    worker      text        NOT NULL,
    trace_id    text        NOT NULL,
    at          timestamptz NOT NULL
);
CREATE INDEX failures_by_event ON failures (event_id);
CREATE INDEX failures_by_time ON failures USING brin (at);

-- The audit log: every attempt, who, when, with what result, in which trace.
CREATE VIEW audit AS
    SELECT event_id, service, attempt, class AS outcome, code, detail, took_ms, worker, trace_id, at FROM failures
    UNION ALL
    SELECT event_id, service, attempts, state, code, detail, took_ms, worker, trace_id, finished_at
    FROM results WHERE state = 'done';
