//! The access log on a real Postgres.
#![allow(
    clippy::unwrap_used,
    clippy::float_cmp,
    reason = "a test fails by panicking, and sums of whole numbers are exact"
)]

mod away;
mod fold;
mod log;
mod world;
mod worth;
