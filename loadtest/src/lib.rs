//! Weir's proof: load, a simulated provider that counts, an OTLP receiver, conservation by id, faults on purpose.

pub mod chaos;
pub mod conservation;
pub mod fault;
pub mod fleet;
pub mod generator;
pub mod provider;
pub mod report;
pub mod traces;
