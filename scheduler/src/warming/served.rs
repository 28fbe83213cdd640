//! The warming of one service's cache: learns the past, hears of the news every few seconds, plans, and has keys fetched.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::kv::Store;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use shared::access::Access;
use shared::access::read::{self, Reader};
use shared::limiter::live::Now;
use shared::subject::Service;
use shared::warm::{self, Mode, Outcome, State};
use sqlx::PgPool;
use tokio::time::{Instant, MissedTickBehavior};

use super::desk::Desk;
use super::fetch::{End, Sent, fetch};
use super::outbox::Outbox;
use super::{Term, now_ms, standing};
use crate::board::{Board, Known};
use crate::warm::access::OLDEST_MS;
use crate::warm::judge::Standing;
use crate::warm::plan::Warm;
use crate::warm::predict::Source;
use crate::warm::{Settings, Warmer};

/// Pause between two looks into the access log, which workers write as often.
const NEWS_EVERY: Duration = Duration::from_secs(5);
/// Pause before it is asked again whether a service has a cache.
const ASK_AGAIN: Duration = Duration::from_secs(15);
/// Steps of the log that one look reads, about 100,000 accesses each; the next look reads on.
const MOST_STEPS: usize = 5;
/// Where an event has waited for longer, nothing is fetched ahead.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Warms one service's cache, for as long as this is polled.
pub(super) async fn serve(term: Arc<Term>, desk: Arc<Desk>, database: PgPool) {
    loop {
        let trouble = match ttl_ms(&term.limits, &desk.service).await {
            Ok(0) => {
                desk.begin(None);
                desk.view().state = State::NotCached;
                None
            }
            Ok(ttl_ms) => {
                let served = Served {
                    term: Arc::clone(&term),
                    desk: Arc::clone(&desk),
                    database: database.clone(),
                    ttl_ms,
                    saved: None,
                };
                match served.run().await {
                    Ok(()) => continue,
                    Err(trouble) => Some(trouble),
                }
            }
            Err(trouble) => Some(trouble),
        };
        if let Some(trouble) = &trouble {
            tracing::warn!(service = %desk.service, trouble, "this cache is not warmed for now");
        }
        desk.view().trouble = trouble;
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// For how long the service's workers keep answers, by their own word: a setting of ours could be another than theirs.
async fn ttl_ms(limits: &Store, service: &Service) -> Result<u64, String> {
    let told = limits.get(service.limits_now()).await;
    let told = told.map_err(|error| format!("what its workers say cannot be read: {error}"))?;
    let Some(told) = told else { return Ok(0) };
    let now: Now = serde_json::from_slice(&told)
        .map_err(|error| format!("what its workers say makes no sense: {error}"))?;
    Ok(now.cache)
}

struct Served {
    term: Arc<Term>,
    desk: Arc<Desk>,
    database: PgPool,
    ttl_ms: u64,
    /// The standing that lies in the bucket.
    saved: Option<Standing>,
}

impl Served {
    /// Works until its entries stay for another time.
    async fn run(mut self) -> Result<(), String> {
        let desk = Arc::clone(&self.desk);
        self.saved = standing::load(&self.term.bucket, &desk.service).await?;
        let settings = Settings::new(self.ttl_ms);
        let interval = Duration::from_millis(settings.interval_ms);
        {
            let mut view = desk.view();
            (view.state, view.ttl_ms, view.trouble) = (State::Learning, self.ttl_ms, None);
        }
        desk.begin(Some(Warmer::new(settings, self.saved.clone())));
        let from_ms = now_ms().saturating_sub(OLDEST_MS);
        let mut reader = read::since(&self.database, &desk.service, from_ms);
        self.learn(&mut reader).await?;

        let mut news = tokio::time::interval(NEWS_EVERY);
        news.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_round = Instant::now();
        let mut outbox = Outbox::new(next_round);
        let mut asking: FuturesUnordered<BoxFuture<'static, Sent>> = FuturesUnordered::new();
        loop {
            let due = outbox.due().filter(|_| asking.is_empty());
            tokio::select! {
                _ = news.tick() => {
                    let now = Instant::now();
                    let round = now >= next_round;
                    self.look(&mut reader, &mut outbox, round.then_some(now + interval)).await?;
                    if round {
                        next_round = now + interval;
                        self.keep().await?;
                        if ttl_ms(&self.term.limits, &desk.service).await? != self.ttl_ms {
                            return Ok(());
                        }
                    }
                }
                Some(sent) = asking.next() => self.take_in(&sent, &mut outbox).await?,
                () = at(due), if due.is_some() => {
                    let batch = outbox.batch(Instant::now());
                    if self.term.job.leadership.leads() {
                        let keys = batch.iter().map(|warm| warm.key).collect();
                        let client = self.term.job.client.clone();
                        let asked = fetch(client, self.database.clone(), desk.service.clone(), keys);
                        asking.push(Box::pin(asked));
                    } else {
                        self.skip(batch.into_iter());
                    }
                }
            }
        }
    }

    /// Learns what lies in the log by now.
    async fn learn(&self, reader: &mut Reader) -> Result<(), String> {
        let (mut learnt, mut left_out) = (0, 0);
        loop {
            let step = reader.next().await.map_err(|error| away(&error))?;
            learnt += step.accesses.len();
            left_out += self
                .apart(move |warmer| warmer.replay(step.accesses, now_ms()))
                .await?;
            if !step.more {
                break;
            }
        }
        tracing::info!(service = %self.desk.service, learnt, left_out, "learnt when this cache is asked for what");
        Ok(())
    }

    /// Takes in the news and plans what follows from them; with `round`, by when that is to have left, all that is known.
    async fn look(
        &self,
        reader: &mut Reader,
        outbox: &mut Outbox,
        round: Option<Instant>,
    ) -> Result<(), String> {
        let (allowed, state) = self.allowed().await?;
        let mut accesses: Vec<Access> = Vec::new();
        for _ in 0..MOST_STEPS {
            let step = reader.next().await.map_err(|error| away(&error))?;
            accesses.extend(step.accesses);
            if !step.more {
                break;
            }
        }
        let rounds = self.term.job.metrics.rounds.clone();
        let is_round = round.is_some();
        let (soon, all, live, silent) = self
            .apart(move |warmer| {
                let now_ms = now_ms();
                for access in &accesses {
                    warmer.observe(access, now_ms);
                }
                let soon = warmer.after(now_ms, allowed);
                let begun = Instant::now();
                let mut all = Vec::new();
                if is_round {
                    all = warmer.round(now_ms, allowed);
                    rounds.observe(begun.elapsed().as_secs_f64());
                }
                let judge = warmer.judge();
                let live = Source::ALL.iter().any(|source| judge.live(*source, now_ms));
                let silent = judge.silent_until_ms().is_some_and(|until| until > now_ms);
                (soon, all, live, silent)
            })
            .await?;
        let metrics = &self.term.job.metrics;
        for warm in soon.iter().chain(&all) {
            metrics.planned(&self.desk.service, warm.source);
        }
        self.desk
            .with(|warmer| metrics.judged(&self.desk.service, warmer.judge(), now_ms()));
        outbox.soon(soon);
        if let Some(by) = round {
            outbox.round(all, by);
        }
        if !allowed {
            self.skip(outbox.clear());
        }
        let mut view = self.desk.view();
        view.trouble = None;
        view.state = match state {
            State::Live if silent => State::Silent,
            State::Live if !live => State::Shadow,
            state => state,
        };
        Ok(())
    }

    /// Whether calls may be made now, and what people are told of it.
    async fn allowed(&self) -> Result<(bool, State), String> {
        let (bucket, now) = (&self.term.bucket, now_ms());
        let own = warm::paused(bucket, Some(&self.desk.service), now).await?;
        let all = warm::paused(bucket, None, now).await?;
        let is_paused = own.is_some() || all.is_some();
        self.desk.view().paused = own;
        Ok(match self.term.job.mode {
            _ if is_paused => (false, State::Paused),
            Mode::Off | Mode::Shadow => (false, State::Shadow),
            Mode::On if !has_room(&self.term.job.board, &self.desk.service) => (false, State::NoRoom),
            Mode::On => (true, State::Live),
        })
    }

    /// What became of keys.
    async fn take_in(&mut self, sent: &Sent, outbox: &mut Outbox) -> Result<(), String> {
        let (service, metrics) = (&self.desk.service, &self.term.job.metrics);
        if sent.requested {
            metrics.requested(service);
        }
        let now_ms = now_ms();
        let silenced = self.desk.with(|warmer| {
            let mut refused = false;
            for (key, end) in &sent.ends {
                metrics.key(service, end.as_str());
                if !end.called() {
                    warmer.skipped(*key);
                }
                refused |= *end == End::Said(Outcome::Refused);
            }
            if refused {
                warmer.silence(now_ms);
            }
            let ago = sent
                .refused_ago
                .map(|ago| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX));
            refused || ago.is_some_and(|ago| warmer.refused(now_ms.saturating_sub(ago)))
        });
        if silenced == Some(true) {
            tracing::warn!(%service, "the API refused a call: its cache is not warmed for a while");
            self.skip(outbox.clear());
            self.desk.view().state = State::Silent;
            self.keep().await?;
        }
        Ok(())
    }

    /// These keys are not fetched after all.
    fn skip(&self, planned: impl Iterator<Item = Warm>) {
        self.desk.with(|warmer| {
            for warm in planned {
                warmer.skipped(warm.key);
                self.term.job.metrics.key(&self.desk.service, "put_off");
            }
        });
    }

    /// Leaves the standing to whoever leads next, where it has changed.
    async fn keep(&mut self) -> Result<(), String> {
        let now = self.desk.with(|warmer| warmer.judge().standing().clone());
        if now.is_none() || now == self.saved || !self.term.job.leadership.leads() {
            return Ok(());
        }
        if let Some(standing) = &now {
            standing::save(&self.term.bucket, &self.desk.service, standing).await?;
        }
        self.saved = now;
        Ok(())
    }

    /// Works with what was learnt where that may take a while.
    async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Warmer) -> T + Send + 'static,
    ) -> Result<T, String> {
        let desk = Arc::clone(&self.desk);
        let done = tokio::task::spawn_blocking(move || desk.with(work)).await;
        done.map_err(|error| error.to_string())?
            .ok_or_else(|| "nothing was learnt".to_owned())
    }
}

/// Whether nothing waits for longer than it takes to be worked off, which must be known.
fn has_room(board: &Board, service: &Service) -> bool {
    match board.known(service) {
        Some((Known::Fresh(observation, _), _)) => {
            observation.oldest_age().is_none_or(|age| age < LONGEST_WAIT)
        }
        Some((Known::Stale(..) | Known::Never, _)) | None => false,
    }
}

async fn at(due: Option<Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due).await;
    }
}

fn away(error: &sqlx::Error) -> String {
    format!("the access log cannot be read: {error}")
}
