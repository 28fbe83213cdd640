//! What autoscalers are told, by schedulers that look at a real NATS server.

#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

mod autoscaler;
#[path = "../../examples/hpa/controller.rs"]
mod controller;
mod figures;
mod stage;
