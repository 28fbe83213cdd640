#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use std::net::SocketAddr;

use axum::body::Body;
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::DropGuard;

use super::*;

const SILENCE: Duration = Duration::from_secs(1);
/// Far longer than anything here takes.
const LATEST: Duration = Duration::from_secs(20);

struct Running {
    address: SocketAddr,
    open: Gauge,
    task: JoinHandle<bool>,
    stop: DropGuard,
}

impl Running {
    async fn start(router: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let bounds = Bounds {
            connections: 8,
            silence: SILENCE,
            head: 16 * 1024,
            headers: 100,
            streams: 10,
        };
        let (open, stop) = (Gauge::default(), CancellationToken::new());
        let task = serve(listener, router, bounds, open.clone(), stop.clone(), LATEST);
        Self {
            address,
            open,
            task: tokio::spawn(task),
            stop: stop.drop_guard(),
        }
    }

    async fn says(&self, what: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(what.as_bytes()).await.unwrap();
        stream
    }
}

async fn rest(mut stream: TcpStream) -> String {
    let mut read = Vec::new();
    // Whether it ends by a goodbye or a reset.
    let _ = timeout(LATEST, stream.read_to_end(&mut read)).await.unwrap();
    String::from_utf8_lossy(&read).into_owned()
}

fn asks(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
}

#[tokio::test]
async fn whoever_asks_nothing_is_sent_away_whatever_else_they_say() {
    let running = Running::start(Router::new().route("/", get(|| async { "here" }))).await;
    for (says, told) in [("", ""), ("PRI * HT", ""), (&asks("/"), "here")] {
        let answer = rest(running.says(says).await).await;
        assert!(answer.ends_with(told), "{says:?}: {answer}");
    }
    // HTTP/2: every ping is answered, except the one that belongs to the end.
    let settings = "\0\0\0\x04\0\0\0\0\0";
    let mut stream = running
        .says(&format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{settings}"))
        .await;
    let held = async {
        let mut leaving = false;
        loop {
            let mut head = [0; 9];
            if stream.read_exact(&mut head).await.is_err() {
                return;
            }
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            if stream.read_exact(&mut payload).await.is_err() {
                return;
            }
            leaving |= head[3] == 7;
            if head[3] == 6 && head[4] == 0 && !leaving {
                head[4] = 1;
                let _ = stream.write_all(&[&head[..], &payload].concat()).await;
            }
        }
    };
    timeout(LATEST, held).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_waits_for_us_is_no_silence() {
    let (end, ended) = oneshot::channel::<Bytes>();
    let ended = Arc::new(std::sync::Mutex::new(Some(ended)));
    let slow = get(move || {
        let ended = ended.lock().unwrap().take().unwrap();
        async move { Body::from_stream(stream::once(ended)) }
    });
    let running = Running::start(Router::new().route("/", slow)).await;
    let mut asked = running.says(&asks("/")).await;
    let mut first = [0; 8];
    timeout(LATEST, asked.read_exact(&mut first))
        .await
        .unwrap()
        .unwrap();
    // As long as it takes to send somebody else away, twice.
    for _ in 0..2 {
        rest(running.says("").await).await;
    }
    end.send("the end".into()).unwrap();
    assert!(rest(asked).await.contains("the end"));
}

#[tokio::test]
async fn whoever_takes_nothing_of_an_answer_is_sent_away() {
    let endless = get(|| async {
        let chunk = || Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 8 * 1024]));
        Body::from_stream(stream::repeat_with(chunk))
    });
    let running = Running::start(Router::new().route("/", endless)).await;
    let mut asked = running.says(&asks("/")).await;
    let mut first = [0; 8];
    timeout(LATEST, asked.read_exact(&mut first))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(running.open.get(), 1);
    let deadline = Instant::now() + LATEST;
    while running.open.get() > 0 {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_is_in_flight_is_finished_at_the_end() {
    let (end, ended) = oneshot::channel::<Bytes>();
    let ended = Arc::new(std::sync::Mutex::new(Some(ended)));
    let slow = get(move || {
        let ended = ended.lock().unwrap().take().unwrap();
        async move { Body::from_stream(stream::once(ended)) }
    });
    let running = Running::start(Router::new().route("/", slow)).await;
    let mut asked = running.says(&asks("/")).await;
    let mut first = [0; 8];
    timeout(LATEST, asked.read_exact(&mut first))
        .await
        .unwrap()
        .unwrap();
    drop(running.stop);
    end.send("the end".into()).unwrap();
    assert!(rest(asked).await.contains("the end"));
    assert!(timeout(LATEST, running.task).await.unwrap().unwrap());
}
