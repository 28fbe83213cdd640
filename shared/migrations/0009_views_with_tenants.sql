-- The views show whose an event was, in a last column.
SET LOCAL lock_timeout = '500ms';

CREATE OR REPLACE VIEW results AS
    SELECT DISTINCT ON (event_id, service) *
    FROM outcomes ORDER BY event_id, service, state DESC, finished_at DESC;

CREATE OR REPLACE VIEW audit AS
    SELECT event_id, service, attempt, class AS outcome, code, detail, took_ms, worker, trace_id, at, tenant FROM failures
    UNION ALL
    SELECT event_id, service, attempts, state, code, detail, took_ms, worker, trace_id, finished_at, tenant
    FROM outcomes WHERE state = 'done';
