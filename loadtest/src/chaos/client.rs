//! The client: sends events at a steady rate, each until it is acknowledged, and remembers what it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::{Trouble, until};

/// Longest wait for one answer: beyond the patience that ingest has.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// How long an event is sent again and again.
const GIVE_UP: Duration = Duration::from_secs(90);
/// Pause before an event is sent again.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// How often a balancer asks its replicas whether they are ready.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// How often in a row a replica says no before it gets no more requests, as balancers have it.
const REFUSALS: u32 = 3;
/// Most events under way at once.
const IN_FLIGHT: usize = 2_000;
/// Examples kept of what went wrong.
const EXAMPLES: usize = 10;

/// What an event asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A comment on GitHub.
    Comment,
    /// A message in Slack.
    Message,
    /// A delivery to a webhook's receiver.
    Hook,
    /// A call that is none: a dead letter.
    Wrong,
    /// A delivery with a body that is too large for a message.
    Large,
}

/// Bytes of a large body: beyond what a message of NATS holds by default.
const LARGE: usize = 1_500_000;

impl Kind {
    fn service(self) -> &'static str {
        match self {
            Self::Comment | Self::Wrong => "github",
            Self::Message => "slack",
            Self::Hook | Self::Large => "http",
        }
    }

    /// How ids of its events begin.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Comment => "comment:",
            Self::Message => "message:",
            Self::Hook => "hook:",
            Self::Wrong => "wrong:",
            Self::Large => "large:",
        }
    }

    fn event(self, id: &str, number: u64) -> Value {
        match self {
            Self::Comment => {
                let path = format!("/repos/octo/hello/issues/{}/comments", number % 20 + 1);
                let data =
                    json!({"method": "POST", "path": path, "body": {"body": format!("comment of {id}")}});
                json!({"v": 1, "type": "call", "id": id, "data": data})
            }
            Self::Message => {
                let args =
                    json!({"channel": format!("C{:04}", number % 20), "text": format!("message of {id}")});
                json!({"v": 1, "type": "call", "id": id, "data": {"method": "chat.postMessage", "args": args}})
            }
            Self::Hook => json!({"v": 1, "type": "order.paid", "id": id, "data": {"number": number}}),
            Self::Wrong => json!({"v": 1, "type": "call", "id": id, "data": {"path": "nowhere"}}),
            Self::Large => {
                // Digits of a seeded generator, so that compressing does not make it small again.
                let mut random = StdRng::seed_from_u64(number);
                let text: String = (0..LARGE)
                    .map(|_| char::from(random.random_range(b'!'..=b'~')))
                    .collect();
                json!({"v": 1, "type": "file.stored", "id": id, "data": {"text": text}})
            }
        }
    }
}

/// How the client sends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// Events a second.
    pub(super) rate: u32,
    /// What they ask for, one after another.
    pub(super) mix: &'static [Kind],
    /// Whether an event that is not acknowledged is sent again, with the same id.
    pub(super) again: bool,
    /// Copies of each event sent at the same time.
    pub(super) copies: usize,
    /// Whether the client is behind a balancer, which knows the ready replicas only.
    pub(super) balanced: bool,
}

/// All three services, steadily.
pub(super) const ALL: &[Kind] = &[Kind::Comment, Kind::Message, Kind::Hook];

/// What the client was told.
#[derive(Clone, Debug, Default)]
pub(super) struct Traffic {
    /// Ids with a 202.
    pub(super) acknowledged: BTreeSet<String>,
    /// Ids without.
    pub(super) unacknowledged: BTreeSet<String>,
    /// Answers, by status or what went wrong.
    pub(super) answers: BTreeMap<String, u64>,
    /// 429 and 503 that did not say when to come again.
    pub(super) without_retry_after: u64,
    /// The slowest answer.
    pub(super) slowest: Duration,
    /// The first answers that were no 202.
    pub(super) examples: Vec<String>,
}

#[derive(Debug)]
struct Door {
    url: String,
    ready: bool,
    /// Times in a row that it was not ready when asked.
    refusals: u32,
}

struct Inner {
    http: reqwest::Client,
    token: String,
    run: String,
    manner: Manner,
    doors: Mutex<Vec<Door>>,
    traffic: Mutex<Traffic>,
    acknowledged: watch::Sender<u64>,
    stop: CancellationToken,
}

/// A client at work. Dropping it stops it.
pub(super) struct Client {
    inner: Arc<Inner>,
    work: JoinSet<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    /// Begins to send.
    pub(super) fn start(manner: Manner, doors: &[String], token: &str, seed: u64) -> Self {
        let door = |url: &String| Door {
            url: url.clone(),
            ready: true,
            refusals: 0,
        };
        let inner = Arc::new(Inner {
            http: reqwest::Client::new(),
            token: token.to_owned(),
            run: uuid::Uuid::now_v7().simple().to_string(),
            manner,
            doors: Mutex::new(doors.iter().map(door).collect()),
            traffic: Mutex::default(),
            acknowledged: watch::Sender::new(0),
            stop: CancellationToken::new(),
        });
        let mut work = JoinSet::new();
        work.spawn(send_all(Arc::clone(&inner), seed));
        if manner.balanced {
            work.spawn(balance(Arc::clone(&inner)));
        }
        Self { inner, work }
    }

    /// From now on these are the replicas.
    pub(super) fn doors(&self, urls: &[String]) {
        let mut doors = lock(&self.inner.doors);
        let known = |url: &String| doors.iter().any(|door| door.url == *url && door.ready);
        let now = urls
            .iter()
            .map(|url| Door {
                url: url.clone(),
                ready: known(url) || !self.inner.manner.balanced,
                refusals: 0,
            })
            .collect();
        *doors = now;
    }

    /// Waits until the balancer knows every replica to be ready.
    pub(super) async fn all_ready(&self) -> Result<(), Trouble> {
        until("replicas that are ready", GIVE_UP, async || {
            let ready = lock(&self.inner.doors).iter().all(|door| door.ready);
            ready.then_some(())
        })
        .await
    }

    /// Waits until so many more events are acknowledged.
    pub(super) async fn more(&self, count: u64) -> Result<(), Trouble> {
        let mut seen = self.inner.acknowledged.subscribe();
        let goal = *seen.borrow() + count;
        let waiting = timeout(GIVE_UP, seen.wait_for(|now| *now >= goal)).await;
        match waiting {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Trouble::Failed(format!(
                "waited {GIVE_UP:?} in vain for {count} more acknowledgements: {:?}",
                lock(&self.inner.traffic).answers
            ))),
        }
    }

    /// What it was told so far.
    pub(super) fn traffic(&self) -> Traffic {
        lock(&self.inner.traffic).clone()
    }

    /// Sends nothing new, and tells everything once the last event is acknowledged or given up.
    pub(super) async fn finish(mut self) -> Result<Traffic, Trouble> {
        self.inner.stop.cancel();
        while let Some(ended) = self.work.join_next().await {
            ended.map_err(Trouble::at("the client"))?;
        }
        Ok(self.traffic())
    }
}

/// Asks every replica whether it is ready, as a balancer does.
async fn balance(inner: Arc<Inner>) {
    let mut ticks = interval(ASK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // On after the stop: events under way still need a door.
    while Arc::strong_count(&inner) > 1 {
        ticks.tick().await;
        let urls: Vec<String> = lock(&inner.doors).iter().map(|door| door.url.clone()).collect();
        for url in urls {
            let asked = inner
                .http
                .get(format!("{url}/health/ready"))
                .timeout(ASK_EVERY * 10);
            let ready = match asked.send().await {
                Ok(answer) => answer.status().is_success(),
                // Late is not unready: it stays what it was.
                Err(error) if error.is_timeout() => continue,
                Err(_) => false,
            };
            let mut doors = lock(&inner.doors);
            let Some(door) = doors.iter_mut().find(|door| door.url == url) else {
                continue;
            };
            if ready {
                (door.ready, door.refusals) = (true, 0);
                continue;
            }
            door.refusals += 1;
            door.ready &= door.refusals < REFUSALS;
        }
        if inner.stop.is_cancelled() && Arc::strong_count(&inner) <= 2 {
            return;
        }
    }
}

async fn send_all(inner: Arc<Inner>, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let places = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut ticks = interval(Duration::from_secs(1) / inner.manner.rate.max(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut events = JoinSet::new();
    for number in 0.. {
        let tick = async {
            ticks.tick().await;
            Arc::clone(&places).acquire_owned().await
        };
        let Some(Ok(place)) = inner.stop.run_until_cancelled(tick).await else {
            break;
        };
        let kind = inner.manner.mix[number % inner.manner.mix.len()];
        let id = format!("{}{}:{number}", kind.prefix(), inner.run);
        let event = kind.event(&id, number as u64).to_string();
        let path = format!("/v1/events/{}", kind.service());
        let (inner, seed) = (Arc::clone(&inner), random.random::<u64>());
        events.spawn(async move {
            let copies = (0..inner.manner.copies).map(|copy| {
                let copy = copy as u64;
                deliver(&inner, &id, &path, &event, StdRng::seed_from_u64(seed ^ copy))
            });
            let told = futures_util::future::join_all(copies).await;
            let mut traffic = lock(&inner.traffic);
            if told.contains(&true) {
                traffic.acknowledged.insert(id);
                inner.acknowledged.send_modify(|count| *count += 1);
            } else {
                traffic.unacknowledged.insert(id);
            }
            drop(place);
        });
        while events.try_join_next().is_some() {}
    }
    while events.join_next().await.is_some() {}
}

/// Whether it was acknowledged.
async fn deliver(inner: &Inner, id: &str, path: &str, event: &str, mut random: StdRng) -> bool {
    let give_up = Instant::now() + GIVE_UP;
    loop {
        if attempt(inner, id, path, event, &mut random).await {
            return true;
        }
        if !inner.manner.again || Instant::now() >= give_up {
            return false;
        }
        tokio::time::sleep(AGAIN_AFTER.mul_f64(random.random_range(0.5..1.5))).await;
    }
}

async fn attempt(inner: &Inner, id: &str, path: &str, event: &str, random: &mut StdRng) -> bool {
    let door = {
        let doors = lock(&inner.doors);
        let ready: Vec<&Door> = doors.iter().filter(|door| door.ready).collect();
        if ready.is_empty() {
            None
        } else {
            Some(ready[random.random_range(0..ready.len())].url.clone())
        }
    };
    let Some(door) = door else {
        note(inner, "no replica is ready", || {
            format!("{id}: no replica is ready")
        });
        return false;
    };
    let began = Instant::now();
    let sent = inner
        .http
        .post(format!("{door}{path}"))
        .bearer_auth(&inner.token)
        .header("content-type", "application/json")
        .timeout(ANSWER_WITHIN)
        .body(event.to_owned())
        .send()
        .await;
    let took = began.elapsed();
    let answer = match sent {
        Ok(answer) => answer,
        Err(error) => {
            let kind = if error.is_connect() {
                "not connected"
            } else if error.is_timeout() {
                "no answer in time"
            } else {
                "broken off"
            };
            note(inner, kind, || format!("{id}: {kind} after {took:?}: {error:?}"));
            return false;
        }
    };
    let status = answer.status();
    let told_when = answer.headers().contains_key("retry-after");
    // The body too: a 202 counts when it has come whole.
    let body = answer.bytes().await;
    {
        let mut traffic = lock(&inner.traffic);
        traffic.slowest = traffic.slowest.max(took);
        let temporary = status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS;
        traffic.without_retry_after += u64::from(temporary && !told_when);
    }
    let accepted = status == StatusCode::ACCEPTED && body.is_ok();
    let text = body.unwrap_or_default();
    note(inner, status.as_str(), || {
        format!(
            "{id}: {status} after {took:?}: {}",
            String::from_utf8_lossy(&text)
        )
    });
    accepted
}

fn note(inner: &Inner, kind: &str, example: impl FnOnce() -> String) {
    let mut traffic = lock(&inner.traffic);
    *traffic.answers.entry(kind.to_owned()).or_default() += 1;
    if kind != "202" && traffic.examples.len() < EXAMPLES {
        traffic.examples.push(example());
    }
}
