//! Ingest as its senders and operators see it, against a real NATS server.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests panic on failure")]

mod ingest {
    mod batches;
    mod binary;
    mod bounds;
    mod contents;
    mod drain;
    mod duplicates;
    mod full;
    mod large;
    mod outage;
    mod refusals;
    mod running;
    mod sources;
    mod traces;
}
