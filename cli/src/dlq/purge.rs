//! `weir dlq purge`: removes dead letters for good.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::context::ContextBuilder;
use shared::subject::{DEAD_STREAM, Service};

use super::chosen::{Work, letters_of};
use super::letters::Depth;
use super::pipeline::Tally;
use super::remove::remove;
use crate::args::{Chosen, DlqPurge};
use crate::failure::Failure;
use crate::terminal;

/// How long the server may take to remove any number of letters in one go.
const PURGE_WITHIN: Duration = Duration::from_mins(2);

pub(super) async fn run(purge: DlqPurge) -> Result<(), Failure> {
    let chosen = &purge.chosen;
    chosen.check()?;
    let asks = !purge.yes && !chosen.dry_run;
    if asks && !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(Failure::usage(
            "what is purged cannot be brought back, and there is nobody to ask: give --yes, or --dry-run to see how \
             many letters it would be",
        ));
    }
    let work = Work::start(&purge.fleet, purge.insisting.patience).await?;
    if asks || chosen.dry_run {
        let count = work.count(chosen).await?;
        if chosen.dry_run {
            terminal::out(format_args!("would purge {}", letters_of(count)));
            return Ok(());
        }
        if count > 0 && !confirmed(&work, count).await? {
            return Err(Failure::failed("nothing was purged"));
        }
    }
    let tally = if chosen.sequences.is_empty() && chosen.selection.is_by_service() {
        at_once(&work, chosen).await?
    } else {
        one_by_one(&work, chosen).await
    };
    work.conclude(chosen, "purged", tally)
}

async fn confirmed(work: &Work, count: u64) -> Result<bool, Failure> {
    terminal::note(format_args!(
        "Purge {}? They cannot be brought back. Type yes:",
        letters_of(count)
    ));
    let answer = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    });
    // Ctrl-C is an answer too.
    let Some(answer) = work.patience.stop().run_until_cancelled(answer).await else {
        return Ok(false);
    };
    let line = answer.map_err(Failure::failed)?;
    let line = line.map_err(Failure::at("reading the answer"))?;
    Ok(matches!(line.trim(), "yes" | "y"))
}

/// Lets the server remove all letters, or all of a service, that were there when the command began.
async fn at_once(work: &Work, chosen: &Chosen) -> Result<Tally, Failure> {
    let js = ContextBuilder::new()
        .timeout(PURGE_WITHIN)
        .build(work.client.clone());
    let failed = Failure::at(format!("purging {DEAD_STREAM}"));
    let stream = js.get_stream_no_info(DEAD_STREAM).await;
    let after = work.stream.cached_info().state.last_sequence + 1;
    let purge = stream.map_err(Failure::failed)?.purge().sequence(after);
    let purged = match &chosen.selection.service {
        Some(service) => purge.filter(Service::dead(service)).await,
        None => purge.await,
    };
    Ok(Tally {
        done: purged.map_err(failed)?.purged,
        ..Tally::default()
    })
}

async fn one_by_one(work: &Work, chosen: &Chosen) -> Tally {
    let shared = Arc::new((work.js.clone(), work.patience.clone()));
    let one = |sequence, _| {
        let shared = Arc::clone(&shared);
        async move {
            let (js, patience) = &*shared;
            patience.insist(|| remove(js, sequence)).await
        }
    };
    work.each(chosen, Depth::Headers, None, one).await
}
