//! What is kept in Postgres and asked of it, on real servers.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::format_push_string,
    reason = "a test fails by panicking and tells figures"
)]

mod filters;
mod history;
mod indexes;
mod migrations;
mod partitions;
mod pools;
mod replica;
mod world;
