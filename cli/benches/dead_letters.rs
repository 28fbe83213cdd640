//! Dead letters by the hundred thousand: how fast `weir dlq` lists and replays them and how much memory it takes,
//! against bare loops over the same server.
//!
//! `cargo bench -p weir-cli --bench dead_letters -- --letters 10000,100000`

#![allow(clippy::unwrap_used, reason = "a measurement that fails ends here")]
#![allow(
    clippy::print_stdout,
    missing_docs,
    reason = "a program that prints its figures"
)]

use std::fs::File;
use std::future::Future;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use async_nats::HeaderMap;
use async_nats::jetstream;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::json;
use shared::config::fleet::Streams;
use shared::dead_letter::{self, Attempt, Burial};
use shared::event::{Event, EventId};
use shared::failure::Reason;
use shared::servers::{Nats, NatsOptions};
use shared::subject::{DEAD_STREAM, Service, headers};
use shared::telemetry::propagation::millis;
use shared::{topology, wire};
use tokio::process::Command;

/// Letters in flight, as `weir dlq` has them.
const IN_FLIGHT: usize = 256;
/// Most letters that the bare loop replays.
const BARE: u64 = 100_000;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut letters = vec![10_000, 100_000];
    while let Some(argument) = arguments.next() {
        if argument == "--letters" {
            let list = arguments.next().unwrap();
            letters = list.split(',').map(|n| n.parse().unwrap()).collect();
        }
    }
    println!("| letters | what | bare loop | weir | ratio | peak memory |");
    println!("|---|---|---|---|---|---|");
    for count in letters {
        measure(count).await;
    }
}

struct Stage {
    nats: Nats,
    js: jetstream::Context,
    github: Service,
    scratch: tempfile::TempDir,
}

async fn measure(count: u64) {
    let scratch = tempfile::tempdir().unwrap();
    let nats = Nats::start(NatsOptions::new(scratch.path().join("nats")))
        .await
        .unwrap();
    let js = jetstream::new(async_nats::connect(nats.url()).await.unwrap());
    let github = Service::new("github").unwrap();
    let streams = Streams {
        max_bytes: -1,
        ..Streams::default()
    };
    topology::ensure(&js, std::slice::from_ref(&github), &streams)
        .await
        .unwrap();
    let stage = Stage {
        nats,
        js,
        github,
        scratch,
    };

    stage.bury(count).await;
    let bare = stage.bare_list(count).await;
    let limit = count.to_string();
    let list = stage.weir(&["dlq", "list", "--json", "--limit", &limit]).await;
    assert_eq!(list.lines, count);
    row(count, "list", bare, &list);

    // The bare loop sends and removes letters of its own behind these, so that both go through the same stream.
    let few = count.min(BARE);
    stage.bury(few).await;
    let bare = stage.bare_replay(few).await.mul_f64(count as f64 / few as f64);
    let replay = stage.weir(&["dlq", "replay", "--all"]).await;
    assert_eq!(stage.messages(DEAD_STREAM).await, 0);
    assert_eq!(stage.messages(&stage.github.stream()).await, few + count);
    row(count, "replay", bare, &replay);
}

fn row(count: u64, what: &str, bare: Duration, weir: &Ran) {
    let rate = |took: Duration| count as f64 / took.as_secs_f64();
    let (bare, ours) = (rate(bare), rate(weir.took));
    let peak = weir.peak_kib as f64 / 1024.0;
    println!(
        "| {count} | {what} | {bare:.0}/s | {ours:.0}/s | {:.2} | {peak:.1} MiB |",
        ours / bare
    );
}

/// What a command took.
struct Ran {
    took: Duration,
    peak_kib: u64,
    lines: u64,
}

impl Stage {
    /// Lets so many events of 200 bytes die, with what a worker leaves in their headers.
    async fn bury(&self, count: u64) {
        let reason = Reason::new("http_500", "the endpoint answered 500 Internal Server Error");
        let start = self.last().await;
        let now = millis(SystemTime::now());
        let history: Vec<Attempt> = (0..3).map(|_| Attempt::now(&reason)).collect();
        stream::iter(start + 1..=start + count)
            .map(|n| {
                let (reason, history) = (&reason, &history);
                async move {
                    let id = EventId::new(format!("github:{n:032x}")).unwrap();
                    let mut event = Event::new(id.clone(), "issues.opened");
                    event.data = shared::event::Data::Blob {
                        content_type: "text/plain".into(),
                        bytes: Bytes::from(vec![b'x'; 120]),
                    };
                    let mut map = HeaderMap::new();
                    map.insert(
                        headers::TRACEPARENT,
                        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                    );
                    let burial = Burial {
                        service: &self.github,
                        sequence: n,
                        subject: "events.github.normal",
                        id: &id,
                        headers: Some(&map),
                        payload: wire::encode(&event),
                        reason,
                        attempts: 3,
                        history,
                        accepted: now,
                    };
                    dead_letter::bury(&self.js, burial).await.unwrap();
                }
            })
            .buffer_unordered(IN_FLIGHT)
            .collect::<()>()
            .await;
    }

    async fn last(&self) -> u64 {
        let stream = self.js.get_stream(DEAD_STREAM).await.unwrap();
        stream.cached_info().state.last_sequence
    }

    async fn messages(&self, stream: &str) -> u64 {
        self.js
            .get_stream(stream)
            .await
            .unwrap()
            .cached_info()
            .state
            .messages
    }

    /// Headers read in batches, and nothing done with them.
    async fn bare_list(&self, count: u64) -> Duration {
        let stream = self.js.get_stream(DEAD_STREAM).await.unwrap();
        let config = pull::Config {
            ack_policy: AckPolicy::None,
            headers_only: true,
            memory_storage: true,
            ..Default::default()
        };
        let consumer = stream.create_consumer(config).await.unwrap();
        let start = Instant::now();
        let mut read = 0;
        while read < count {
            let mut batch = consumer.fetch().max_messages(IN_FLIGHT).messages().await.unwrap();
            while let Some(message) = batch.next().await {
                message.unwrap();
                read += 1;
            }
        }
        start.elapsed()
    }

    /// The last letters read, published and removed, and nothing else looked at.
    async fn bare_replay(&self, count: u64) -> Duration {
        let stream = self.js.get_stream(DEAD_STREAM).await.unwrap();
        let last = stream.cached_info().state.last_sequence;
        let start = Instant::now();
        stream::iter(last - count + 1..=last)
            .map(|sequence| {
                let stream = &stream;
                async move {
                    let letter = stream.direct_get(sequence).await.unwrap();
                    let mut map = HeaderMap::new();
                    map.insert(headers::MESSAGE_ID, format!("bare:{sequence}"));
                    let subject = "events.github.normal";
                    let sent = self.js.publish_with_headers(subject, map, letter.payload).await;
                    sent.unwrap().await.unwrap();
                    let ask = json!({"seq": sequence, "no_erase": true});
                    let subject = format!("STREAM.MSG.DELETE.{DEAD_STREAM}");
                    let _: serde_json::Value = self.js.request(subject, &ask).await.unwrap();
                }
            })
            .buffer_unordered(IN_FLIGHT)
            .collect::<()>()
            .await;
        start.elapsed()
    }

    /// Runs a command and watches its memory.
    async fn weir(&self, arguments: &[&str]) -> Ran {
        let path = self.scratch.path().join("said");
        let start = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(arguments)
            .current_dir(self.scratch.path())
            .env("WEIR_NATS_URL", self.nats.url())
            .stdin(Stdio::null())
            .stdout(File::create(&path).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let pid = child.id().unwrap();
        let mut peak_kib = 0;
        let mut look = tokio::time::interval(Duration::from_millis(20));
        let status = until(&mut look, child.wait(), || {
            peak_kib = peak_kib.max(peak(pid).unwrap_or(0));
        })
        .await
        .unwrap();
        let took = start.elapsed();
        assert!(status.success(), "weir {arguments:?}");
        let said = std::io::BufReader::new(File::open(&path).unwrap());
        let lines = std::io::BufRead::lines(said).count() as u64;
        Ran {
            took,
            peak_kib,
            lines,
        }
    }
}

async fn until<T>(
    every: &mut tokio::time::Interval,
    done: impl Future<Output = T>,
    mut look: impl FnMut(),
) -> T {
    let mut done = std::pin::pin!(done);
    loop {
        tokio::select! {
            done = &mut done => return done,
            _ = every.tick() => look(),
        }
    }
}

/// The most memory that a process has had resident so far, in kibibytes.
fn peak(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}
