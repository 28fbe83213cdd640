//! What Weir's services speak with each other. An event's path through the house, and where each step is decided:
//!
//! 1. A webhook or a publisher's event becomes an [`event::Event`]; [`wire`] says how it looks in bytes.
//! 2. It is published to its service's subject ([`subject`]) and kept in that service's stream ([`topology`]).
//! 3. A worker takes it under the limits that the whole fleet shares ([`limiter`]).
//! 4. What goes wrong is a [`failure::Failure`]: retried on a schedule ([`backoff`]) or a [`dead_letter`].
//! 5. All of it is one trace ([`telemetry`]), seen in logs, metrics and [`health`].
//!
//! Every service reads its settings by [`config`], connects by [`connect`], listens by [`serve`], starts and stops by [`lifecycle`].

pub mod access;
pub mod address;
pub mod backoff;
pub mod bearer;
pub mod breaker;
pub mod cache;
pub mod claim;
pub mod config;
pub mod connect;
pub mod dead_letter;
pub mod event;
pub mod failpoint;
pub mod failure;
pub mod form;
pub mod health;
pub mod lifecycle;
pub mod limiter;
pub mod schedule;
pub mod serve;
#[cfg(feature = "servers")]
pub mod servers;
pub mod store;
pub mod stored;
pub mod subject;
pub mod telemetry;
pub mod topology;
pub mod warm;
pub mod wire;
