//! Load: an open loop that keeps its schedule whatever the answers do, and a closed loop for the most that goes through.

mod closed;
mod open;
mod schedule;
mod tally;
pub mod target;
#[cfg(test)]
mod tests;

pub use self::{
    closed::{Closed, saturate},
    open::{Open, run},
    schedule::{BadPhase, Phase, Schedule},
    tally::{Latency, LoadResult, Outcome, Sent},
    target::Target,
};
