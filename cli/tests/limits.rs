//! `weir limits` and `weir explain` against real servers and a real worker, which a test run of the workspace builds
//! beside it.

#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

mod limits {
    mod budgets;
    mod chain;
    mod change;
    mod explain;
    mod models;
    mod stage;
    mod upstreams;
}
