//! Whole analyses: each language, dependencies, what is not parsed again, git on disk and over HTTP, hostile
//! repositories, Postgres, and real code.
#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

mod dependencies;
mod disk;
mod flood;
mod hostile;
mod http;
mod incremental;
mod languages;
mod postgres;
mod real;
mod world;
