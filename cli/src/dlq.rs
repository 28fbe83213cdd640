//! `weir dlq`: dead letters, seen and sent back. Memory stays flat however many there are: lists read headers in
//! bounded batches, payloads are read one at a time.

mod letters;
mod list;
mod replay;
mod show;

use crate::args::Dlq;
use crate::failure::Failure;

pub(crate) async fn run(dlq: Dlq) -> Result<(), Failure> {
    match dlq {
        Dlq::List(list) => list::run(list).await,
        Dlq::Show(show) => show::run(show).await,
        Dlq::Replay(replay) => Box::pin(replay::run(replay)).await,
    }
}
