-- What the calls of an event have cost, or may cost that are under way: one row an event, a sum in nano-dollars for each
-- call. Written before a call begins, so that what a worker dies with counts as spent, and corrected after it.
CREATE TABLE agent_spending (
    service     text        NOT NULL COLLATE "C",
    event_id    text        NOT NULL COLLATE "C",
    calls       jsonb       NOT NULL,
    since       timestamptz NOT NULL,
    PRIMARY KEY (event_id, service)
);
CREATE INDEX agent_spending_by_time ON agent_spending USING brin (since);

-- Of events that are under way.
INSERT INTO agent_spending
    SELECT service, event_id, jsonb_object_agg(step, answer -> 'cost'), min(at) FROM agent_answers
    GROUP BY service, event_id;
