//! Deciding and writing down each call, under one lock.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::StatusCode;
use rand::{SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{
    ProviderConfig,
    clock::{Clock, Moment},
    drive,
    exchange::{Ask, Reply},
    faults::{Draw, Fate, Faults},
    github, hooks,
    kept::Kept,
    ledger::{Answer, Api, Call, Counts, Doubled, Ledger},
    limits::{Crowded, LimitStats, Limits},
    linear, llm, slack,
};

/// Credentials whose simultaneous requests are counted apart.
const MAX_CREDENTIALS: usize = 10_000;

/// What the provider saw since its start or the last reset.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stats {
    /// All calls, by what came of them; `refused` are the breaches.
    pub total: Counts,
    /// The same for each API.
    pub api: BTreeMap<Api, Counts>,
    /// Every limit that was asked, by name, until now.
    pub limits: BTreeMap<String, LimitStats>,
    /// Requests at the same time.
    pub concurrency: Concurrency,
    /// Effects that took place more than once.
    pub doubled: Doubled,
    /// Tokens that models used in accepted calls.
    #[serde(default)]
    pub tokens: BTreeMap<Api, llm::Used>,
    /// First call, milliseconds since the start.
    pub first_call_ms: Option<f64>,
    /// Last call, milliseconds since the start.
    pub last_call_ms: Option<f64>,
}

/// GitHub's limit on requests at the same time.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Concurrency {
    /// Requests allowed at a time.
    pub limit: usize,
    /// Most seen at a time from one credential, the refused one included.
    pub peak: usize,
    /// Requests beyond the limit.
    pub breaches: u64,
}

struct Book {
    limits: Limits,
    ledger: Ledger,
    kept: Kept,
    faults: Faults,
    rng: StdRng,
    slots: HashMap<u64, Arc<Semaphore>>,
    concurrency: Concurrency,
    tokens: BTreeMap<Api, llm::Used>,
}

impl Book {
    fn new(config: &ProviderConfig, clock: Clock) -> Self {
        let limit = config.github.concurrent;
        Self {
            limits: Limits::new(clock.origin()),
            ledger: Ledger::new(config.ledger_capacity),
            kept: Kept::default(),
            faults: config.faults,
            rng: StdRng::seed_from_u64(config.seed),
            slots: HashMap::new(),
            concurrency: Concurrency {
                limit,
                peak: 0,
                breaches: 0,
            },
            tokens: BTreeMap::new(),
        }
    }
}

/// State shared by all requests.
pub(super) struct Sim {
    config: ProviderConfig,
    pub(super) clock: Clock,
    book: Mutex<Book>,
    pub(super) stop: CancellationToken,
}

/// Holds a slot until the answer is on its way.
pub(super) struct Decided {
    pub(super) reply: Reply,
    pub(super) draw: Draw,
    pub(super) slot: Option<OwnedSemaphorePermit>,
}

impl Sim {
    pub(super) fn new(config: ProviderConfig, stop: CancellationToken) -> Arc<Self> {
        let clock = Clock::new(config.clock_skew_ms);
        let book = Mutex::new(Book::new(&config, clock));
        Arc::new(Self {
            config,
            clock,
            book,
            stop,
        })
    }

    pub(super) fn stats(&self) -> Stats {
        let book = self.book();
        let span = book.ledger.span_ms();
        Stats {
            total: book.ledger.total(),
            api: book.ledger.counts().clone(),
            limits: book.limits.seen(self.clock.now().since_start),
            concurrency: book.concurrency,
            doubled: book.ledger.doubled(),
            tokens: book.tokens.clone(),
            first_call_ms: span.map(|(first, _)| first),
            last_call_ms: span.map(|(_, last)| last),
        }
    }

    pub(super) fn calls(&self, id: Option<&str>, limit: usize) -> Vec<Call> {
        self.book().ledger.calls(id, limit)
    }

    pub(super) fn effects(&self) -> HashMap<String, u32> {
        self.book().ledger.effects().clone()
    }

    pub(super) fn created(&self) -> (usize, usize) {
        let kept = &self.book().kept;
        (kept.linear.len(), kept.drive.len())
    }

    pub(super) fn reset(&self) {
        let mut book = self.book();
        let faults = book.faults;
        *book = Book {
            faults,
            ..Book::new(&self.config, self.clock)
        };
    }

    pub(super) fn set_faults(&self, faults: Faults) {
        self.book().faults = faults;
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The clock is read under the lock, so that times in the logs never run backwards.
    pub(super) fn decide(&self, api: Api, ask: &Ask) -> Decided {
        let mut guard = self.book();
        let book = &mut *guard;
        let now = self.clock.now();
        let draw = book.faults.draw(&ask.headers, &mut book.rng);
        let (slot, ruling) = self.rule(book, api, ask, now);
        let (reply, answer, draw) = match ruling {
            Ok(reply) if reply.effect => match draw.fate {
                Fate::Error(status) => {
                    let body = json!({"message": "a fault of the simulated provider"});
                    (Reply::json(status, &body), Answer::Failed, draw)
                }
                Fate::LateError(status) => {
                    let body = json!({"message": "done, and a fault of the simulated provider"});
                    book.kept.keep(api, ask, now);
                    (Reply::json(status, &body), Answer::Accepted, draw)
                }
                Fate::Hang => (reply, Answer::Failed, draw),
                Fate::Lie if api == Api::Slack => (slack::trouble(), Answer::Failed, draw),
                Fate::Served | Fate::Cut | Fate::Swallow | Fate::Lie => {
                    book.kept.keep(api, ask, now);
                    (reply, Answer::Accepted, draw)
                }
            },
            Ok(reply) => (
                reply,
                Answer::Rejected,
                Draw {
                    fate: Fate::Served,
                    ..draw
                },
            ),
            Err(reply) => (
                reply,
                Answer::Refused,
                Draw {
                    fate: Fate::Served,
                    ..draw
                },
            ),
        };
        if answer == Answer::Accepted && matches!(api, Api::Openai | Api::Anthropic | Api::Xai) {
            let (used, sum) = (
                llm::used(&self.config.llm, api, ask),
                book.tokens.entry(api).or_default(),
            );
            sum.input += used.input;
            sum.output += used.output;
        }
        let credential = ask.scope();
        book.ledger.record(Call {
            at_ms: now.since_start.as_secs_f64() * 1e3,
            api,
            method: ask.method.to_string(),
            path: ask.path.clone(),
            credential: if credential == 0 {
                String::new()
            } else {
                format!("{credential:016x}")
            },
            status: if matches!(draw.fate, Fate::Hang | Fate::Swallow) {
                0
            } else {
                reply.status.as_u16()
            },
            answer,
            write: match api {
                Api::Github => github::is_write(ask),
                Api::Linear => linear::is_write(ask),
                Api::Drive => drive::is_write(ask),
                Api::Slack => slack::is_write(ask.path.trim_start_matches("/api/")),
                // An answer of a model is paid for.
                Api::Http | Api::Openai | Api::Anthropic | Api::Xai => true,
            },
            event_id: ask.event_id().map(str::to_owned),
            traceparent: ask.header("traceparent").map(str::to_owned),
        });
        Decided { reply, draw, slot }
    }

    /// `Ok` is an answer the API gives of itself, `Err` a refusal because of a limit.
    fn rule(
        &self,
        book: &mut Book,
        api: Api,
        ask: &Ask,
        now: Moment,
    ) -> (Option<OwnedSemaphorePermit>, Result<Reply, Reply>) {
        let turn = book.ledger.total().refused;
        let told = |reply| github::told(&self.config.github, reply);
        let method = ask.path.trim_start_matches("/api/");
        let (wrong, demands) = match api {
            Api::Github => (
                github::refuse_stranger(ask).or_else(|| github::refuse_wrong(ask)),
                github::demands(&self.config.github, ask),
            ),
            Api::Slack => (
                slack::refuse_wrong(method, ask),
                slack::demands(&self.config.slack, method, ask),
            ),
            Api::Http => (
                hooks::refuse_wrong(&self.config.hooks, ask, now),
                hooks::demands(&self.config.hooks, ask),
            ),
            Api::Linear => (
                linear::refuse_wrong(ask),
                linear::demands(&self.config.linear, ask),
            ),
            Api::Drive => (drive::refuse_wrong(ask), drive::demands(&self.config.drive, ask)),
            Api::Openai | Api::Anthropic | Api::Xai => (
                llm::refuse_wrong(&self.config.llm, api, ask),
                llm::demands(&self.config.llm, api, ask),
            ),
        };
        if let Some(reply) = wrong {
            return (None, Ok(reply));
        }
        let slot = match api {
            Api::Github => match take_slot(book, ask.scope()) {
                Ok(slot) => Some(slot),
                Err(Full::Slots) => {
                    let limits = &self.config.github;
                    let primary = github::primary(limits, ask);
                    let standing = book.limits.standing(now.since_start, &primary);
                    let reply = github::refuse_crowd(limits, ask, standing, now, turn);
                    return (None, Err(told(reply)));
                }
                Err(Full::Credentials) => return (None, Ok(crowded())),
            },
            Api::Slack | Api::Http | Api::Openai | Api::Anthropic | Api::Xai | Api::Linear | Api::Drive => {
                None
            }
        };
        let Ok(admission) = book.limits.admit(now.since_start, &demands) else {
            return (None, Ok(crowded()));
        };
        let allowed = admission.breached.is_none();
        let ruling = match api {
            Api::Github if allowed => {
                let primary = github::primary(&self.config.github, ask);
                let standing = admission.standings.first().copied();
                let standing = standing.unwrap_or_else(|| book.limits.standing(now.since_start, &primary));
                Ok(told(github::serve(ask, standing, now, &book.kept)))
            }
            Api::Github => {
                let reply = github::refuse(&self.config.github, ask, &admission, now, turn);
                Err(told(reply))
            }
            Api::Slack if allowed => Ok(slack::serve(method, ask, now, &book.kept)),
            Api::Slack => Err(slack::refuse(&admission, now)),
            Api::Http if allowed => Ok(hooks::serve()),
            Api::Http => Err(hooks::refuse(&admission, now)),
            Api::Linear if allowed => Ok(linear::serve(ask, &admission, now, &book.kept.linear)),
            Api::Linear => Err(linear::refuse(&admission, now)),
            Api::Drive if allowed => Ok(drive::serve(ask, now, &book.kept.drive)),
            Api::Drive => Err(drive::refuse(turn)),
            Api::Openai | Api::Anthropic | Api::Xai if allowed => {
                Ok(llm::serve(&self.config.llm, api, ask, &admission, now))
            }
            Api::Openai | Api::Anthropic | Api::Xai => Err(llm::refuse(api, &admission, now)),
        };
        (slot, ruling)
    }
}

enum Full {
    Slots,
    Credentials,
}

fn take_slot(book: &mut Book, scope: u64) -> Result<OwnedSemaphorePermit, Full> {
    let limit = book.concurrency.limit;
    if book.slots.len() >= MAX_CREDENTIALS && !book.slots.contains_key(&scope) {
        book.slots.retain(|_, slots| slots.available_permits() < limit);
        if book.slots.len() >= MAX_CREDENTIALS {
            return Err(Full::Credentials);
        }
    }
    let slots = book
        .slots
        .entry(scope)
        .or_insert_with(|| Arc::new(Semaphore::new(limit)));
    let taken = Arc::clone(slots).try_acquire_owned();
    let at_a_time = limit - slots.available_permits() + usize::from(taken.is_err());
    book.concurrency.peak = book.concurrency.peak.max(at_a_time);
    taken.map_err(|_| {
        book.concurrency.breaches += 1;
        Full::Slots
    })
}

fn crowded() -> Reply {
    let body = json!({"message": Crowded.to_string()});
    Reply::json(StatusCode::SERVICE_UNAVAILABLE, &body).rejected()
}
