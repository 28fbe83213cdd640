//! The external metrics API over TLS, with a cluster around it that the tests run themselves.

#![allow(clippy::unwrap_used, reason = "tests panic on failure")]
#![allow(
    clippy::print_stderr,
    reason = "what was not shown for want of a client is said"
)]

mod answers;
mod authority;
mod clients;
mod cluster;
mod process;
mod refusals;
mod settings;
mod stage;
