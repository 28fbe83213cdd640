-- Which event follows from which, and by which rule: written with the outcome of the event that it follows from, and kept
-- as long as outcomes are. What is owed leaves follow_ups once it is published; this stays, for people who ask.
CREATE TABLE followed (
    event_id      text        NOT NULL COLLATE "C",
    service       text        NOT NULL COLLATE "C",
    rule          text        NOT NULL,
    child_id      text        NOT NULL COLLATE "C",
    child_service text        NOT NULL COLLATE "C",
    at            timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, service, child_id, child_service)
);
CREATE INDEX followed_by_child ON followed (child_id, child_service);
CREATE INDEX followed_by_time ON followed USING brin (at);
