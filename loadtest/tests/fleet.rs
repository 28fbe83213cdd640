//! The whole house: real processes, real NATS, Redis and Postgres, a provider that counts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod fleet {
    pub(crate) mod agent;
    pub(crate) mod breaker;
    pub(crate) mod cache;
    pub(crate) mod claims;
    pub(crate) mod effects;
    pub(crate) mod failures;
    pub(crate) mod limits;
    pub(crate) mod one_event;
    pub(crate) mod publishers;
    pub(crate) mod review;
    pub(crate) mod rules;
    pub(crate) mod services;
    pub(crate) mod shutdown;
    pub(crate) mod warm;
    pub(crate) mod world;
}
