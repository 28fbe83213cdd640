//! The cache on real servers, cut and slowed on the way to them.
#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

mod entries;
mod fleet;
mod flights;
mod invalidations;
mod levels;
mod rubbish;
mod world;
