//! `weir dlq`: dead letters, seen, sent back and removed. Memory stays flat however many there are: they are read in
//! bounded batches, headers only, and of payloads no more are in memory than [`pipeline`] has room for.

mod chosen;
mod letters;
mod list;
mod pace;
mod patience;
mod pipeline;
mod purge;
mod remove;
mod replay;
mod selection;
mod show;

use crate::args::Dlq;
use crate::failure::Failure;

pub(crate) async fn run(dlq: Dlq) -> Result<(), Failure> {
    match dlq {
        Dlq::List(list) => list::run(list).await,
        Dlq::Show(show) => show::run(show).await,
        Dlq::Replay(replay) => Box::pin(replay::run(replay)).await,
        Dlq::Purge(purge) => Box::pin(purge::run(purge)).await,
    }
}
