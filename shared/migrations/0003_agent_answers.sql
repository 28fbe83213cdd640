-- The answers that an event has paid for, kept before it goes on: a delivery that comes again does not pay for them once
-- more. They are of no use when the event is done, and are removed by age.
CREATE TABLE agent_answers (
    service     text        NOT NULL COLLATE "C",
    event_id    text        NOT NULL COLLATE "C",
    step        text        NOT NULL COLLATE "C",
    answer      json        NOT NULL,
    at          timestamptz NOT NULL,
    PRIMARY KEY (event_id, service, step)
);
CREATE INDEX agent_answers_by_time ON agent_answers USING brin (at);
