//! `weir dlq replay`: a letter goes back to where it lay, and is removed once the server has kept it there.

use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::stream::Stream;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Interval, MissedTickBehavior};

use super::letters::{Letters, one, stream};
use crate::args::DlqReplay;
use crate::failure::Failure;
use crate::{fleet, terminal};

pub(super) async fn run(replay: DlqReplay) -> Result<(), Failure> {
    if replay.sequences.is_empty() && !replay.all {
        return Err(Failure::usage(
            "name dead letters by their sequences (`weir dlq list` shows them), or give --all, with --service or \
             --code for some of them",
        ));
    }
    let reached = fleet::reach(&replay.fleet, None).await?;
    let stream = stream(&reached.js).await?;
    let mut work = Replay {
        js: reached.js,
        stream: stream.clone(),
        pace: replay.rate.map(pace),
        bar: ProgressBar::no_length(),
        replayed: 0,
        missing: 0,
    };
    let done = if replay.all {
        work.all(Letters::open(stream, &replay.selection).await?).await
    } else {
        work.these(&replay.sequences).await
    };
    work.bar.finish_and_clear();
    let plural = if work.replayed == 1 { "" } else { "s" };
    terminal::out(format_args!("replayed {} dead letter{plural}", work.replayed));
    done?;
    match work.missing {
        0 => Ok(()),
        n => Err(Failure::Failed(format!(
            "{n} of the sequences named no dead letter"
        ))),
    }
}

fn pace(pause: Duration) -> Interval {
    let mut pace = tokio::time::interval(pause);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

struct Replay {
    js: jetstream::Context,
    stream: Stream,
    pace: Option<Interval>,
    bar: ProgressBar,
    replayed: u64,
    missing: u64,
}

impl Replay {
    fn show(&mut self, total: u64) {
        let style =
            ProgressStyle::with_template("{bar:30} {pos}/{len} looked at, {msg}, {elapsed}, {eta} left");
        self.bar = ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        self.bar.enable_steady_tick(Duration::from_millis(200));
    }

    async fn these(&mut self, sequences: &[u64]) -> Result<(), Failure> {
        self.show(sequences.len() as u64);
        for sequence in sequences {
            if !self.one(*sequence).await? {
                self.missing += 1;
                self.bar
                    .suspend(|| terminal::note(format_args!("there is no dead letter {sequence}")));
            }
            self.bar.inc(1);
        }
        Ok(())
    }

    async fn all(&mut self, mut letters: Letters) -> Result<(), Failure> {
        self.show(letters.total);
        let done = loop {
            let (batch, looked_at) = match letters.next().await {
                Ok(Some(next)) => next,
                Ok(None) => break Ok(()),
                Err(failure) => break Err(failure),
            };
            let mut failed = None;
            for headed in &batch {
                // One that somebody else has replayed in the meantime is no failure.
                if let Err(failure) = self.one(headed.letter.sequence).await {
                    failed = Some(failure);
                    break;
                }
            }
            if let Some(failure) = failed {
                break Err(failure);
            }
            self.bar.inc(looked_at);
        };
        letters.close().await;
        done
    }

    /// Replays a letter and removes it; `false` when there is none.
    async fn one(&mut self, sequence: u64) -> Result<bool, Failure> {
        if let Some(pace) = &mut self.pace {
            pace.tick().await;
        }
        let Some(letter) = one(&self.stream, sequence).await? else {
            return Ok(false);
        };
        if letter.subject.is_empty() {
            return Err(Failure::Failed(format!(
                "dead letter {sequence} does not say where it lay"
            )));
        }
        letter
            .replay(&self.js)
            .await
            .map_err(Failure::at(format!("replaying dead letter {sequence}")))?;
        let removed = self.stream.delete_message(sequence).await;
        removed.map_err(Failure::at(format!(
            "dead letter {sequence} was replayed and could not be removed"
        )))?;
        self.replayed += 1;
        self.bar.set_message(format!("{} replayed", self.replayed));
        Ok(true)
    }
}
