#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use async_nats::jetstream;
use prometheus_client::registry::Registry;
use shared::config::fleet::Streams;
use shared::servers::{Nats, NatsOptions};
use shared::subject::BREAKERS_BUCKET;
use shared::topology;

use super::super::breaker::Outcome;
use super::super::lease::shown;
use super::*;
use crate::handler::Completion;

const URL: &str = "http://upstream.example/hook";
const OTHER: &str = "http://other.example/hook";

/// A NATS server, and workers on it.
struct Stage {
    nats: Nats,
    tasks: TaskTracker,
    _dir: Box<dyn Send + Sync>,
}

impl Stage {
    async fn new() -> Self {
        let dir = shared::servers::scratch_dir().unwrap();
        let nats = Nats::start(NatsOptions::new(dir.path())).await.unwrap();
        Self {
            nats,
            tasks: TaskTracker::new(),
            _dir: Box::new(dir),
        }
    }

    async fn worker(&self, name: &str, urls: &[&str], rule: &str) -> Upstreams {
        let client = async_nats::connect(self.nats.url()).await.unwrap();
        let js = jetstream::new(client.clone());
        let service = Service::new("http").unwrap();
        let urls: Vec<_> = urls.iter().map(|url| (*url).to_owned()).collect();
        let parts = Parts {
            service: &service,
            urls: &urls,
            looked_at: false,
            rule: Some(rule.parse().unwrap()),
            timeout: Duration::from_secs(2),
            worker: name,
            metrics: &Metrics::register(&mut Registry::default()),
            fleet: Fleet::new(&client, &js, &Streams::default(), &service),
        };
        let upstreams = Upstreams::start(&self.tasks, parts).unwrap();
        within("what is out of service is known", upstreams.known()).await;
        upstreams
    }

    async fn workers(&self, count: usize, rule: &str) -> Vec<Upstreams> {
        let mut workers = Vec::new();
        for n in 0..count {
            workers.push(self.worker(&format!("w{n}"), &[URL], rule).await);
        }
        workers
    }

    async fn js(&self) -> jetstream::Context {
        jetstream::new(async_nats::connect(self.nats.url()).await.unwrap())
    }
}

async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(Duration::from_secs(120), wait).await;
    waited.unwrap_or_else(|_| panic!("in vain: {what}"))
}

/// Waits until a worker may pull as `wanted` says.
async fn admits(worker: &Upstreams, what: &str, wanted: impl Fn(&Admission) -> bool) -> Admission {
    within(what, async {
        loop {
            let seen = *worker.shared.changes.borrow();
            let admission = worker.admission();
            if wanted(&admission) {
                return admission;
            }
            drop(admission);
            let soon = Duration::from_millis(50);
            worker.moved(soon, seen).await;
        }
    })
    .await
}

fn is_free(admission: &Admission) -> bool {
    matches!(admission, Admission::Free)
}

fn is_shut(admission: &Admission) -> bool {
    // Longer than counts are awaited.
    matches!(admission, Admission::Wait { after, .. } if *after > Duration::from_millis(300))
}

fn fails() -> Result<Completion, Failure> {
    Err(Failure::unknown("http_500", "x"))
}

/// An attempt whose call ends so.
async fn attempt(worker: &Upstreams, result: &Result<Completion, Failure>) -> Result<String, Out> {
    let lease = worker.choose(None, false).await?;
    let bound = lease.bound();
    let url = bound.begun().base.clone();
    if result.is_ok() {
        bound.answered();
    }
    lease.report(result);
    Ok(url)
}

const SLOW: &str = "50% of 10 in 30s, open 10m";
const QUICK: &str = "50% of 10 in 30s, open 500ms to 500ms";

#[tokio::test(flavor = "multi_thread")]
async fn workers_with_few_failures_each_open_it_for_all() {
    let stage = Stage::new().await;
    let workers = stage.workers(6, SLOW).await;
    for worker in &workers {
        for _ in 0..2 {
            attempt(worker, &fails()).await.unwrap();
        }
    }
    for worker in &workers {
        admits(worker, "out of service everywhere", is_shut).await;
    }
    let late = stage.worker("late", &[URL], SLOW).await;
    assert!(is_shut(&late.admission()), "who comes later knows from the start");
    let out = late.choose(None, false).await.unwrap_err();
    assert_eq!(out.upstream, "http://upstream.example");
    let failure = Failure::from(out);
    assert_eq!(
        (failure.class(), &*failure.reason().code),
        ("throttled", OUT_OF_SERVICE)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_alone_fails_takes_it_from_nobody() {
    let stage = Stage::new().await;
    let workers = stage.workers(3, SLOW).await;
    let done = Ok(Completion::new("http_200"));
    for worker in &workers[1..] {
        for _ in 0..20 {
            attempt(worker, &done).await.unwrap();
        }
    }
    for _ in 0..10 {
        attempt(&workers[0], &fails()).await.unwrap();
    }
    assert!(!is_free(&workers[0].admission()), "it waits for the others' word");
    admits(&workers[0], "goes on", is_free).await;
    for worker in &workers {
        assert!(is_free(&worker.admission()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_the_fleet_probes_and_all_know_what_came_of_it() {
    let stage = Stage::new().await;
    let workers = stage.workers(4, QUICK).await;
    for _ in 0..10 {
        attempt(&workers[0], &fails()).await.unwrap();
    }
    let mut candidates = Vec::new();
    for worker in &workers {
        admits(worker, "out of service", |now| !is_free(now)).await;
        let due = |now: &Admission| matches!(now, Admission::One(_));
        match admits(worker, "a probe is due", due).await {
            Admission::One(candidate) => candidates.push(candidate),
            other => panic!("{other:?}"),
        }
        assert!(
            matches!(worker.admission(), Admission::Wait { .. }),
            "one candidate at a time"
        );
    }
    let asked = workers
        .iter()
        .zip(candidates)
        .map(|(worker, candidate)| worker.choose(Some(candidate), false));
    let mut leases: Vec<Lease> = futures_util::future::join_all(asked)
        .await
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(leases.len(), 1, "one of four probes");
    let lease = leases.pop().unwrap();
    lease.still().unwrap();
    let bound = lease.bound();
    bound.begun();
    bound.answered();
    lease.report(&Ok(Completion::new("http_200")));
    for worker in &workers {
        admits(worker, "in service everywhere", is_free).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_at_its_last_attempt_leaves_the_probe_to_others() {
    let stage = Stage::new().await;
    let worker = stage.worker("w", &[URL], QUICK).await;
    for _ in 0..10 {
        attempt(&worker, &fails()).await.unwrap();
    }
    let due = |now: &Admission| matches!(now, Admission::One(_));
    let candidate = match admits(&worker, "a probe is due", due).await {
        Admission::One(candidate) => Some(candidate),
        _ => None,
    };
    worker.choose(candidate, true).await.unwrap_err();
    let lease = within("its own probe, when nobody else comes", async {
        loop {
            if let Ok(lease) = worker.choose(None, true).await {
                return lease;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    drop(lease);
    admits(&worker, "a probe that was not made is due again", due).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_in_order_is_called_and_the_first_again_when_it_is_back() {
    let stage = Stage::new().await;
    let worker = stage.worker("w", &[URL, OTHER], QUICK).await;
    assert_eq!(attempt(&worker, &fails()).await.unwrap(), URL);
    within("the other", async {
        while attempt(&worker, &fails()).await.unwrap() == URL {}
    })
    .await;
    assert!(is_free(&worker.admission()), "one is in service");
    let done = Ok(Completion::new("http_200"));
    let mut to_other = 0;
    within("the first again", async {
        while attempt(&worker, &done).await.unwrap() == OTHER {
            to_other += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(to_other > 0);
    // That was a probe; what it found goes by way of the fleet.
    within("the first for good", async {
        let mut in_a_row = 0;
        while in_a_row < 10 {
            let called = attempt(&worker, &done).await.unwrap();
            in_a_row = if called == URL { in_a_row + 1 } else { 0 };
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_deleted_or_holds_garbage_stops_nothing() {
    let stage = Stage::new().await;
    let workers = stage.workers(2, SLOW).await;
    let js = stage.js().await;
    let shut = async || {
        for _ in 0..10 {
            let _ = attempt(&workers[0], &fails()).await;
        }
        for worker in &workers {
            admits(worker, "out of service", is_shut).await;
        }
    };
    shut().await;
    js.delete_key_value(BREAKERS_BUCKET).await.unwrap();
    for worker in &workers {
        admits(worker, "nothing is known to be out of service", is_free).await;
    }
    shut().await;
    let bucket = topology::breakers_bucket(&js, &Streams::default()).await.unwrap();
    let key = &workers[0].shared.lines[0].upstream.key;
    let record = within("a record", async {
        loop {
            if let Ok(Some(record)) = bucket.get(key.as_str()).await {
                return record;
            }
        }
    })
    .await;
    let record = Record::read(&record).unwrap();
    assert_eq!(
        (record.upstream.as_str(), record.place, record.of),
        ("http://upstream.example", 1, 1)
    );
    bucket
        .put(key.as_str(), "{\"state\":\"ajar\"".into())
        .await
        .unwrap();
    for word in ["", "{}", "\u{0}", "{\"says\":\"counts\",\"key\":7}"] {
        let subject = Service::new("http").unwrap().breaker();
        let client = async_nats::connect(stage.nats.url()).await.unwrap();
        client.publish(subject, word.into()).await.unwrap();
        client.flush().await.unwrap();
    }
    for worker in &workers {
        admits(worker, "garbage is taken for closed", is_free).await;
    }
    shut().await;
    bucket.delete(key.as_str()).await.unwrap();
    for worker in &workers {
        admits(worker, "somebody has closed it by hand", is_free).await;
    }
    shut().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_nats_a_worker_goes_on_by_itself() {
    let stage = Stage::new().await;
    let worker = stage.worker("w", &[URL], QUICK).await;
    let Stage { mut nats, .. } = stage;
    nats.stop().await.unwrap();
    within("out of service", async {
        while attempt(&worker, &fails()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let done = Ok(Completion::new("http_200"));
    within("probed and in service", async {
        while attempt(&worker, &done).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    admits(&worker, "free", is_free).await;
}

#[test]
fn upstreams_are_named_without_what_may_be_secret() {
    let service = Service::new("http").unwrap();
    let urls = [
        "https://me:hunter2@a.example/services/T0/hunter2",
        "https://a.example:443/services/T0/hunter3",
        "http://127.0.0.1:9000/x?token=hunter2",
    ];
    let named = named(&service, &urls.map(str::to_owned)).unwrap();
    let shown: Vec<_> = named.iter().map(|upstream| upstream.shown.as_str()).collect();
    assert_eq!(
        shown,
        [
            "https://a.example",
            "https://a.example #2",
            "http://127.0.0.1:9000"
        ]
    );
    assert!(named[2].key.starts_with("http.") && named[2].key.len() == 17);
    let same = ["https://a.example:443/x/", "https://you:hunter2@a.example/x"];
    let said = super::named(&service, &same.map(str::to_owned)).unwrap_err();
    assert_eq!(said, "two URLs are the same upstream, https://a.example");
}

#[test]
fn what_attempts_show() {
    let shows = |result: Result<Completion, Failure>, answered| match shown(&result, answered) {
        Outcome::Works => "works",
        Outcome::Fails(_) => "fails",
        Outcome::Nothing => "nothing",
    };
    let transient = |code: &'static str| Err(Failure::transient(code, "x"));
    for code in [
        "connect",
        "connection",
        "timeout",
        "http_500",
        "http_503",
        "http_529",
        "service_unavailable",
    ] {
        assert_eq!(shows(transient(code), true), "fails", "{code}");
    }
    for code in ["http_408", "http_425"] {
        assert_eq!(shows(transient(code), true), "nothing", "{code}");
    }
    let throttled = Err(Failure::throttled("http_429", "x", Duration::ZERO));
    assert_eq!(shows(throttled, true), "nothing");
    let permanent = |code: &'static str| Err(Failure::permanent(code, "x"));
    assert_eq!(shows(permanent("http_404"), true), "works");
    assert_eq!(shows(permanent("http_501"), true), "nothing");
    assert_eq!(shows(permanent("call"), false), "nothing");
    assert_eq!(shows(Ok(Completion::new("http_200")), true), "works");
    assert_eq!(shows(Ok(Completion::new("nothing_to_do")), false), "nothing");
}
