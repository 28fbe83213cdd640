//! `weir dlq` against a real NATS server: which letters it takes, what it does to them, and what is left of them when it
//! is stopped, killed or cut off in the middle.

#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

mod dlq {
    mod filters;
    mod interrupted;
    mod purge;
    mod replay;
    mod stage;
    mod worker;
}
