-- Messages that are owed since an event is done and that are not known to be published: events that rules emit on it, and
-- dead letters of rules that failed. Written with the event's outcome and removed before the event is acked, so the table is
-- empty but for what is under way and what a worker has left behind.
CREATE TABLE follow_ups (
    event_id    text        NOT NULL COLLATE "C",
    service     text        NOT NULL COLLATE "C",
    part        integer     NOT NULL,
    rule        text        NOT NULL,
    subject     text        NOT NULL,
    headers     json        NOT NULL,
    payload     bytea       NOT NULL,
    at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, service, part)
);
-- What was left behind is looked for by its age.
CREATE INDEX follow_ups_by_age ON follow_ups (at);
