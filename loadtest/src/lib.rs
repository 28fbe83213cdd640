//! Weir's proof: load, a simulated provider that counts, an OTLP receiver, conservation by id.

pub mod conservation;
pub mod fleet;
pub mod generator;
pub mod provider;
pub mod report;
pub mod traces;
