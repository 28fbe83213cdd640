//! One model: where it is, what it costs, its limits, and the call itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use prometheus_client::metrics::counter::Counter;
use reqwest::Url;
use shared::config::reader::without_password;
use shared::failure::Failure;
use shared::limiter::live::{self, InForce};
use shared::limiter::{Charge, Rule};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::ask::Request;
use super::health::Health;
use super::money::{Price, Usage, most_tokens_of, tokens_of};
use super::protocol::{Finish, Gather, Protocol, Trouble};
use super::sse;
use crate::handler::IDEMPOTENCY_KEY;
use crate::limits::{Limits, Set};
use crate::outbound::flow::Flow;
use crate::outbound::{Answer, Outbound};
use crate::outcome::OWN_LIMIT;
use crate::quota::{Quota, Turn};

/// The limits that only the handler knows the cost of.
pub(super) const APART: &[&str] = &["tokens", "input-tokens", "output-tokens"];
/// How long a call waits here for its turn; longer it waits in the retry stream, or the next model is asked.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// What an Anthropic model is taken to write while nothing is known.
const FIRST_GUESS: u32 = 512;

/// A model of a service.
#[derive(Debug)]
pub(super) struct Model {
    /// What events call it.
    pub(super) name: String,
    /// Whose API it is.
    pub(super) protocol: Protocol,
    /// What its maker calls it.
    pub(super) id: String,
    /// The base of its API, and where questions go.
    pub(super) base: String,
    pub(super) url: Url,
    pub(super) token: Option<String>,
    pub(super) price: Price,
    pub(super) limits: Arc<Limits>,
    pub(super) quota: Quota,
    pub(super) health: Health,
    /// Calls at a time to this maker.
    pub(super) parallel: Arc<Semaphore>,
    /// When the next of those that wait for `requests` may expect its turn.
    pub(super) next: Mutex<Option<Instant>>,
    /// Calls of which its maker has told more than they can have used.
    pub(super) doubted: Counter,
}

/// A model's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) finish: Finish,
    pub(super) usage: Usage,
    /// The model's own name for itself.
    pub(super) exact: String,
}

/// A call without an answer to be used.
#[derive(Debug)]
pub(super) struct Unsaid {
    pub(super) failure: Failure,
    /// What it may have cost all the same.
    pub(super) usage: Option<Usage>,
}

impl From<Failure> for Unsaid {
    /// Of a call that cost nothing: it was not made, or refused.
    fn from(failure: Failure) -> Self {
        Self { failure, usage: None }
    }
}

/// A question as it goes out.
#[derive(Debug)]
pub(super) struct Letter {
    body: Bytes,
    /// The most that it can use.
    pub(super) most: Usage,
}

impl Model {
    /// Which it is, and the limits that each of its calls falls under.
    pub(super) fn in_force(&self) -> live::Model {
        let limit = |(name, Set { rule, shadow })| {
            let apart = false;
            (name, InForce { rule, shadow, apart })
        };
        live::Model {
            id: format!("{}:{}", self.protocol.as_str(), self.id),
            url: without_password(&self.base),
            tag: self.limits.tag().to_owned(),
            provider: self.protocol.provider().as_str().to_owned(),
            limits: self.limits.table().into_iter().map(limit).collect(),
        }
    }

    /// A question in its maker's words.
    pub(super) fn letter(&self, request: &Request) -> Letter {
        let body = Bytes::from(self.protocol.body(&self.id, request).to_string());
        let most = Usage {
            input: most_tokens_of(body.len()),
            cached: 0,
            output: request.max_tokens.into(),
            estimated: true,
        };
        Letter { body, most }
    }

    /// What is reserved of each limit in tokens: what is usual, which the answer corrects. Anthropic counts what is written
    /// only, the others what may be.
    fn charges(&self, request: &Request, letter: &Letter) -> Vec<Charge> {
        let (read, write) = (tokens_of(letter.body.len()), u64::from(request.max_tokens));
        let small = |tokens: u64| u32::try_from(tokens).unwrap_or(u32::MAX);
        let written = self
            .limits
            .estimate("output-tokens", FIRST_GUESS)
            .min(request.max_tokens);
        let costs = [
            ("tokens", small(read + write)),
            ("input-tokens", small(read)),
            ("output-tokens", written),
        ];
        let charge = |(name, cost)| self.limits.charge(name, cost);
        costs.into_iter().filter_map(charge).collect()
    }

    /// Asks. `key` goes along as the idempotency key: makers do not heed it, what stands between may.
    pub(super) async fn ask(
        &self,
        outbound: &Outbound,
        request: &Request,
        letter: &Letter,
        key: &str,
        longest: Duration,
    ) -> Result<Said, Unsaid> {
        let out = |after: Duration| {
            Failure::throttled("breaker", format!("{} is out of service", self.name), after)
        };
        let pass = self.health.enter(Instant::now()).map_err(out)?;
        let busy = || {
            Failure::throttled(
                "busy",
                "as many calls as may be are under way",
                Duration::from_secs(1),
            )
        };
        let permit = timeout(PATIENCE, self.parallel.acquire()).await;
        let _permit = permit.map_err(|_| busy())?.map_err(|_| busy())?;
        let turn = self.turn(self.charges(request, letter)).await?;
        let called = timeout(longest, self.call(outbound, request, letter, key, &turn)).await;
        let called = called.unwrap_or_else(|_| {
            let failure = Failure::unknown("timeout", format!("no answer within {longest:?}"));
            let usage = Some(letter.most);
            Err(Unsaid { failure, usage })
        });
        pass.tell(
            called.as_ref().err().map(|unsaid| &unsaid.failure),
            rand::random(),
            Instant::now(),
        );
        called
    }

    async fn turn(&self, charges: Vec<Charge>) -> Result<Turn, Failure> {
        // Whoever comes back has waited for its turn, and whoever is new takes its place behind the others below.
        let turn = self.quota.turn(None, charges, PATIENCE, true).await;
        turn.map_err(|wait| {
            Failure::throttled(
                OWN_LIMIT,
                format!("{}: {wait}", self.name),
                self.planned(wait.after),
            )
        })
    }

    /// In how long a call may expect its turn that was told to wait: behind all that were told so before.
    fn planned(&self, wait: Duration) -> Duration {
        let now = Instant::now();
        let rule = self.limits.table().get("requests").map(|set| set.rule);
        let between = rule.and_then(|rule: Rule| Some(rule.period()? / rule.calls().max(1)));
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = next.unwrap_or(now).max(now + wait);
        *next = Some(turn + between.unwrap_or_default());
        turn - now
    }

    async fn call(
        &self,
        outbound: &Outbound,
        request: &Request,
        letter: &Letter,
        key: &str,
        turn: &Turn,
    ) -> Result<Said, Unsaid> {
        let question = outbound
            .client()
            .post(self.url.clone())
            .header(IDEMPOTENCY_KEY, key)
            .header(CONTENT_TYPE, "application/json")
            .body(letter.body.clone());
        let question = self.protocol.authorized(question, self.token.as_deref()).build();
        let question = question.map_err(|e| Failure::permanent("request", e))?;
        let mut flow = outbound
            .open(question, self.protocol.path())
            .await
            .map_err(|failure| {
                // Nobody knows whether a question that was sent is being answered.
                let sent = matches!(failure, Failure::Transient { unknown: true, .. });
                let usage = sent.then_some(letter.most);
                Unsaid { failure, usage }
            })?;
        if flow.status != StatusCode::OK {
            let answer = flow.whole().await?;
            return Err(self.refused(&answer, turn).into());
        }
        let mut gather = Gather::default();
        let read = self.read(&mut flow, request, &mut gather).await;
        let usage = gather.usage().map(|usage| self.believed(usage, letter.most));
        let told = usage.map_or_else(String::new, |usage| self.protocol.told(usage).to_string());
        let head = |body: String| Answer {
            status: flow.status,
            headers: flow.headers.clone(),
            body: body.into(),
            cut: false,
        };
        let finish = match read {
            Ok(early) => {
                turn.answered(&head(told));
                if early {
                    Ok(Finish::Enough)
                } else {
                    gather.finish()
                }
            }
            Err(Broken::Error(status, body)) => {
                let mut answer = head(body.to_string());
                answer.status = status;
                Err(self.refused(&answer, turn))
            }
            Err(Broken::Failed(failure)) => {
                turn.answered(&head(told));
                Err(failure)
            }
        };
        let spent = usage.unwrap_or_else(|| {
            let reckoned = gather.reckoned(letter.most, finish.is_ok());
            self.believed(reckoned, letter.most)
        });
        match finish {
            Ok(finish) => Ok(Said {
                usage: spent,
                text: gather.text,
                finish,
                exact: gather.exact,
            }),
            Err(failure) => Err(Unsaid {
                failure,
                usage: Some(spent),
            }),
        }
    }

    /// Reads an answer. `true` when we had enough before its end.
    async fn read(&self, flow: &mut Flow, request: &Request, gather: &mut Gather) -> Result<bool, Broken> {
        let kind = flow.headers.get(http::header::CONTENT_TYPE);
        let streams = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        if !streams {
            // Some servers answer whole whatever is asked.
            let mut body = Vec::new();
            while let Some(bytes) = flow.next().await? {
                body.extend_from_slice(&bytes);
            }
            self.protocol.whole(gather, &body)?;
            // A refusal stays one.
            return Ok(gather.finish().is_ok() && gather.early(&[], request.enough));
        }
        let mut decoder = sse::Decoder::default();
        while !gather.is_closed()
            && let Some(bytes) = flow.next().await?
        {
            let events = decoder.push(&bytes).map_err(|bad| malformed(bad.to_string()))?;
            for event in events {
                self.protocol.event(gather, &event)?;
                if gather.early(&request.stop, request.enough) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// What a maker tells, as far as it can be true: one false figure must not use up a budget or a limit.
    fn believed(&self, told: Usage, most: Usage) -> Usage {
        let believed = told.within(most);
        if (believed.input, believed.cached, believed.output) != (told.input, told.cached, told.output) {
            tracing::warn!(
                model = self.name,
                ?told,
                ?believed,
                "its maker tells of more than a call can have used"
            );
            self.doubted.inc();
        }
        believed
    }

    fn refused(&self, answer: &Answer, turn: &Turn) -> Failure {
        let reading = turn.answered(answer);
        self.protocol.failure(answer, &reading, SystemTime::now())
    }
}

/// Why an answer was not read to its end.
enum Broken {
    Failed(Failure),
    Error(StatusCode, serde_json::Value),
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Trouble> for Broken {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Malformed(what) => malformed(what),
            Trouble::TooLong => Self::Failed(Failure::permanent(
                "oversized",
                "the answer is too long to be kept",
            )),
            Trouble::Error(status, body) => Self::Error(status, body),
        }
    }
}

fn malformed(what: String) -> Broken {
    Broken::Failed(Failure::unknown("malformed_answer", what))
}
