//! A real worker, which a test run of the workspace builds beside `weir`, gets what was replayed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_nats::HeaderMap;
use shared::dead_letter::DeadLetter;
use shared::event::{Event, EventId};
use shared::servers::{Redis, RedisOptions};
use shared::subject::headers;
use shared::wire;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::stage::{Stage, beside, until};

#[tokio::test]
async fn a_replayed_event_has_all_its_attempts_before_it_and_its_history_behind_it() {
    let stage = Stage::new().await;
    let redis = Redis::start(RedisOptions::new(stage.scratch.path().join("redis")))
        .await
        .unwrap();
    let well = Arc::new(AtomicBool::new(false));
    let endpoint = endpoint(Arc::clone(&well)).await;
    let mut worker = tokio::process::Command::new(beside("weir-worker"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("WEIR_") {
            worker.env_remove(name);
        }
    }
    let _worker = worker
        .current_dir(stage.scratch.path())
        .env("WEIR_NATS_URL", stage.nats.url())
        .env("WEIR_REDIS_URL", redis.url())
        .env("WEIR_POSTGRES_URL", "none")
        .env("WEIR_SERVICES", "http")
        .env("WEIR_SERVICE_HTTP_URL", &endpoint)
        .env("WEIR_SERVICE_HTTP_RETRIES", "50ms")
        .env("WEIR_WORKER_LISTEN", "127.0.0.1:0")
        .stderr(std::fs::File::create(stage.scratch.path().join("worker.log")).unwrap())
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();

    let event = Event::new(EventId::new("order-1").unwrap(), "order.paid");
    let mut map = HeaderMap::new();
    map.insert(headers::MESSAGE_ID, "order-1");
    let sent = stage
        .js
        .publish_with_headers("events.http", map, wire::encode(&event));
    sent.await.unwrap().await.unwrap();
    for died in 1..=2 {
        let letter = until("a dead letter", async || {
            let messages = stage.messages("WEIR_DEAD").await;
            messages.first().and_then(DeadLetter::read)
        })
        .await;
        assert_eq!((letter.id.as_str(), letter.attempts), ("order-1", 2));
        assert_eq!(letter.history.len(), 2 * died, "{:?}", letter.history);
        assert!(letter.history.is_sorted_by_key(|attempt| attempt.at));
        if died == 2 {
            well.store(true, Ordering::Relaxed);
        }
        let said = stage.weir(&["dlq", "replay", &letter.sequence.to_string()]).await;
        assert_eq!(said, "replayed 1 dead letter\n");
    }
    until("the event is done", async || {
        let (work, retry) = (stage.count("WEIR_http").await, stage.count("WEIR_RETRY").await);
        (work + retry + stage.count("WEIR_DEAD").await == 0).then_some(())
    })
    .await;
}

/// An endpoint that answers 500 until it is well.
async fn endpoint(well: Arc<AtomicBool>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, Arc::clone(&well)));
        }
    });
    url
}

async fn answer(mut stream: TcpStream, well: Arc<AtomicBool>) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    while !bytes.windows(4).any(|four| four == b"\r\n\r\n") {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
    let status = if well.load(Ordering::Relaxed) {
        "204 No Content"
    } else {
        "500 Internal Server Error"
    };
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).await?;
    // Whatever else was sent is read, so that closing does not cut the answer short.
    stream.shutdown().await?;
    while stream.read_buf(&mut bytes).await? > 0 {}
    Ok(())
}
