//! What is done to the letters that were chosen, and what is said of it.

use std::time::{Duration, SystemTime};

use async_nats::jetstream;
use async_nats::jetstream::stream::Stream;
use indicatif::{ProgressBar, ProgressStyle};
use shared::config::Fleet;
use shared::dead_letter::DeadLetter;
use shared::lifecycle;
use shared::telemetry::propagation::rfc3339;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::letters::{Depth, Found, Letters, one, stream};
use super::pace::Pace;
use super::patience::{Halt, Patience};
use super::pipeline::{Done, Pipeline, Place, Tally};
use crate::args::{Chosen, Selection, Where};
use crate::failure::Failure;
use crate::{fleet, terminal};

impl Chosen {
    /// Refuses a choice that names nothing.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.sequences.is_empty() && !self.all && self.selection.is_everything() {
            return Err(Failure::usage(
                "name dead letters by their sequences (`weir dlq list` shows them) or by what they have in common, \
                 such as --service or --code, or give --all",
            ));
        }
        self.selection.check()
    }
}

/// A command that goes through dead letters.
pub(super) struct Work {
    fleet: Fleet,
    pub(super) js: jetstream::Context,
    pub(super) client: async_nats::Client,
    pub(super) stream: Stream,
    pub(super) patience: Patience,
    stop: CancellationToken,
    bar: ProgressBar,
    started: SystemTime,
    span: Duration,
}

impl Work {
    /// Finds the letters for a command that changes them: from here on Ctrl-C ends what is in flight in order, a
    /// second one at once.
    pub(super) async fn start(place: &Where, span: Duration) -> Result<Self, Failure> {
        let work = Self::look(place, span).await?;
        lifecycle::cancel_on_signal(work.stop.clone()).map_err(Failure::at("waiting for signals"))?;
        Ok(work)
    }

    /// Finds the letters for a command that only reads them.
    pub(super) async fn look(place: &Where, span: Duration) -> Result<Self, Failure> {
        let reached = fleet::reach(place, None).await?;
        let (stop, bar) = (CancellationToken::new(), ProgressBar::no_length());
        Ok(Self {
            stream: stream(&reached.js).await?,
            fleet: reached.fleet,
            js: reached.js,
            client: reached.client,
            patience: Patience::new(span, stop.clone(), bar.clone()),
            stop,
            bar,
            started: SystemTime::now(),
            span,
        })
    }

    /// The most bytes that a letter may have.
    fn largest(&self) -> usize {
        self.client.server_info().max_payload
    }

    /// The letters that may fit a selection.
    pub(super) async fn letters(&self, selection: &Selection, depth: Depth) -> Result<Letters, Halt> {
        let (fleet, js, stream) = (self.fleet.clone(), self.js.clone(), self.stream.clone());
        Letters::open(
            fleet,
            js,
            stream,
            selection,
            depth,
            &self.patience,
            self.largest(),
        )
        .await
    }

    /// How many letters were chosen.
    pub(super) async fn count(&self, chosen: &Chosen) -> Result<u64, Failure> {
        let failed = |halt| self.failed(halt);
        let mut count = 0;
        if chosen.sequences.is_empty() {
            let mut letters = self
                .letters(&chosen.selection, Depth::Headers)
                .await
                .map_err(failed)?;
            if chosen.selection.is_by_service() {
                count = letters.total;
            } else {
                self.show(letters.total);
                while let Some((found, looked_at)) = letters.next().await.map_err(failed)? {
                    count += found.len() as u64;
                    self.bar.set_message(format!("{count} found"));
                    self.bar.inc(looked_at);
                }
                self.bar.finish_and_clear();
            }
            letters.close().await;
        } else {
            for sequence in &chosen.sequences {
                let found = self.patience.insist(|| one(&self.js, *sequence)).await;
                count += u64::from(found.map_err(failed)?.is_some());
            }
        }
        Ok(count)
    }

    /// Does `work` to every letter that was chosen, many at once, no faster than `pace`. Where `depth` asks for it and
    /// it pays, `work` gets the letter itself.
    pub(super) async fn each<F>(
        &self,
        chosen: &Chosen,
        depth: Depth,
        mut pace: Option<Pace>,
        work: impl Fn(u64, Option<DeadLetter>) -> F,
    ) -> Tally
    where
        F: Future<Output = Result<Done, Halt>> + Send + 'static,
    {
        let named = !chosen.sequences.is_empty();
        let mut pipeline = Pipeline::new(self.stop.clone(), self.bar.clone(), named);
        let mut ended = None;
        if named {
            self.show(chosen.sequences.len() as u64);
            for sequence in &chosen.sequences {
                let Some(place) = self.place(&mut pipeline, &mut pace, self.largest() as u64).await else {
                    break;
                };
                pipeline.begin(place, *sequence, work(*sequence, None));
                self.bar.inc(1);
            }
        } else {
            // Payloads of letters that do not fit would be read for nothing, and one read long before its turn may be
            // of a letter that is gone by then.
            let depth = if pace.is_none() && chosen.selection.is_by_service() {
                depth
            } else {
                Depth::Headers
            };
            let read = self.each_fitting(chosen, depth, &mut pipeline, &mut pace, &work);
            ended = read.await.err();
        }
        let mut tally = pipeline.finish().await;
        tally.ended = tally.ended.or(ended);
        self.bar.finish_and_clear();
        tally
    }

    async fn each_fitting<F>(
        &self,
        chosen: &Chosen,
        depth: Depth,
        pipeline: &mut Pipeline,
        pace: &mut Option<Pace>,
        work: &impl Fn(u64, Option<DeadLetter>) -> F,
    ) -> Result<(), Halt>
    where
        F: Future<Output = Result<Done, Halt>> + Send + 'static,
    {
        let mut letters = self.letters(&chosen.selection, depth).await?;
        self.show(letters.total);
        'reading: while let Some((found, looked_at)) = letters.next().await? {
            for Found { letter, size } in found {
                let Some(place) = self.place(pipeline, pace, size).await else {
                    break 'reading;
                };
                let sequence = letter.sequence;
                let whole = (depth == Depth::Payload).then_some(letter);
                pipeline.begin(place, sequence, work(sequence, whole));
            }
            self.bar.inc(looked_at);
        }
        letters.close().await;
        Ok(())
    }

    /// A place in flight, at a moment at which the next letter may begin.
    async fn place(&self, pipeline: &mut Pipeline, pace: &mut Option<Pace>, bytes: u64) -> Option<Place> {
        let place = pipeline.place(bytes).await?;
        if let Some(pace) = pace {
            if let Some(next) = pace.next() {
                self.stop.run_until_cancelled(sleep_until(next)).await?;
            }
            pace.begun(Instant::now());
        }
        Some(place)
    }

    fn show(&self, total: u64) {
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} taken, {msg}, {elapsed}, {eta} left");
        self.bar
            .set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        self.bar.set_length(total);
        self.bar.enable_steady_tick(Duration::from_millis(200));
    }

    /// A halt as the end of the command.
    pub(super) fn failed(&self, halt: Halt) -> Failure {
        Failure::Failed(match halt {
            Halt::Letter(why) => why,
            Halt::Stopped => "interrupted".into(),
            Halt::GaveUp(why) => format!("{why}, for {:?}", self.span),
        })
    }

    /// Says what was done, `verb` for example `replayed`, and what was not.
    pub(super) fn conclude(&self, chosen: &Chosen, verb: &str, tally: Tally) -> Result<(), Failure> {
        terminal::out(format_args!("{verb} {}", letters_of(tally.done)));
        let mut problems = Vec::new();
        if !chosen.sequences.is_empty() && tally.missing > 0 {
            problems.push(format!("{} of the sequences named no dead letter", tally.missing));
        }
        if tally.refused > 0 {
            problems.push(format!(
                "{} could not be {verb} and stay",
                letters_of(tally.refused)
            ));
        }
        if let Some(halt) = tally.ended {
            let why = match self.failed(halt) {
                Failure::Failed(why) | Failure::Usage(why) => why,
            };
            // What dies again while a replay runs looks like what it was to take.
            let before =
                if verb == "replayed" && chosen.sequences.is_empty() && chosen.selection.before.is_none() {
                    let started = rfc3339(self.started);
                    format!(", and --before {started} leaves out what has died since")
                } else {
                    String::new()
                };
            problems.push(format!(
                "{why}: nothing is lost, what was not {verb} is still there; the same command goes on with it{before}"
            ));
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Failure::Failed(problems.join("; ")))
        }
    }
}

/// `1 dead letter`, `2 dead letters`.
pub(super) fn letters_of(count: u64) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} dead letter{plural}")
}
