//! Answers that are read as they are written, and those that are none.

use std::io;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use futures_util::{StreamExt, stream};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;

/// What a stream ends with.
#[derive(Debug, Clone, Copy)]
enum End {
    /// As it should.
    Well,
    /// Never.
    Never,
    /// The connection breaks.
    Break,
}

/// An API that streams these pieces to everybody, and tells of each connection that is over.
async fn streaming(kind: &'static str, pieces: Vec<Vec<u8>>, end: End) -> (String, mpsc::Receiver<()>) {
    shared::lifecycle::install_tls();
    let (over, overs) = mpsc::channel(64);
    let app = Router::new().fallback(move || {
        let guard = Guard(over.clone());
        let pieces = stream::iter(pieces.clone().into_iter().map(Ok));
        let ends: stream::BoxStream<'static, Result<Vec<u8>, io::Error>> = match end {
            End::Well => stream::empty().boxed(),
            // More and more of the last piece.
            End::Never => {
                let last = chunk("x");
                stream::unfold((), move |()| {
                    let last = last.clone();
                    async move {
                        tokio::task::yield_now().await;
                        Some((Ok(last), ()))
                    }
                })
                .boxed()
            }
            End::Break => stream::once(async {
                // What was sent before must leave first.
                tokio::time::sleep(Duration::from_millis(5)).await;
                Err(io::Error::other("broken"))
            })
            .boxed(),
        };
        let body = pieces.chain(ends).map(move |piece| {
            let _ = &guard;
            piece
        });
        std::future::ready(([("content-type", kind)], Body::from_stream(body)).into_response())
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, overs)
}

struct Guard(mpsc::Sender<()>);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

fn chunk(text: &str) -> Vec<u8> {
    let data = json!({"model": "m", "choices": [{"delta": {"content": text}, "finish_reason": null}]});
    format!("data: {data}\n\n").into_bytes()
}

fn ending() -> Vec<u8> {
    let end = json!({"choices": [{"delta": {}, "finish_reason": "stop"}]});
    let usage =
        json!({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}});
    format!("data: {end}\n\ndata: {usage}\n\ndata: [DONE]\n\n").into_bytes()
}

const SSE: &str = "text/event-stream; charset=utf-8";

async fn asked(url: &str, data: &Value) -> Outcome {
    let all = settings(url, &["a"], &[]);
    let stage = Stage::new(&KIND, url, &borrowed(&all));
    stage.handle(&event("ask", data)).await
}

#[tokio::test]
async fn a_stream_is_read_to_its_end_and_its_use_is_known() {
    let (url, _) = streaming(SSE, vec![chunk("Hel"), chunk("lo"), ending()], End::Well).await;
    let (_, told) = result(asked(&url, &json!({"prompt": "x", "stream": true})).await);
    assert_eq!(
        (&told["text"], &told["finish"]),
        (&json!("Hello"), &json!("stop"))
    );
    assert_eq!(told["usage"], json!({"input": 5, "cached": 0, "output": 7}));
    assert_eq!(told["cost"]["estimated"], false);
}

#[tokio::test]
async fn what_is_enough_is_not_read_on() {
    for (wish, text) in [
        (json!({"prompt": "x", "enough": 4}), "Hell"),
        (json!({"prompt": "x", "stop": ["lo"]}), "Hel"),
    ] {
        let (url, mut over) = streaming(SSE, vec![chunk("Hel"), chunk("lo")], End::Never).await;
        let (_, told) = result(asked(&url, &wish).await);
        assert_eq!((&told["text"], &told["finish"]), (&json!(text), &json!("enough")));
        assert_eq!(told["cost"]["estimated"], true, "the maker has not told");
        assert!(told["cost"]["nano_usd"].as_u64().unwrap() > 0);
        over.recv().await.unwrap();
    }
}

#[tokio::test]
async fn a_stream_without_an_end_is_bounded() {
    let (url, mut over) = streaming(SSE, Vec::new(), End::Never).await;
    let outcome = asked(&url, &json!({"prompt": "x", "stream": true})).await;
    assert_eq!(failure(outcome), ("permanent", "oversized".into()));
    over.recv().await.unwrap();
}

#[tokio::test]
async fn answers_that_are_none_are_told_apart() {
    let oversized = vec![vec![b'x'; 1 << 20]; 11];
    let cut = br#"{"choices":[{"message":{"content":"Hel"#.to_vec();
    for (kind, pieces, end, class, code) in [
        (SSE, vec![chunk("Hel")], End::Break, "transient", "connection"),
        (SSE, vec![chunk("Hel")], End::Well, "transient", "cut_answer"),
        (
            SSE,
            vec![b"data: garbage\n\n".to_vec()],
            End::Well,
            "transient",
            "malformed_answer",
        ),
        (
            SSE,
            vec![b"data: \xff\xfe\n\n".to_vec()],
            End::Well,
            "transient",
            "malformed_answer",
        ),
        (
            SSE,
            vec![b"<html>".to_vec()],
            End::Well,
            "transient",
            "cut_answer",
        ),
        (
            SSE,
            vec![b"x".repeat(2 << 20)],
            End::Well,
            "transient",
            "malformed_answer",
        ),
        (
            SSE,
            vec![
                chunk("Hel"),
                b"data: {\"error\":{\"type\":\"server_error\",\"message\":\"x\"}}\n\n".to_vec(),
            ],
            End::Well,
            "transient",
            "http_500",
        ),
        (
            SSE,
            vec![b"data: {\"error\":{\"code\":\"rate_limit_exceeded\",\"message\":\"x\"}}\n\n".to_vec()],
            End::Well,
            "throttled",
            "http_429",
        ),
        (
            "application/json",
            vec![cut.clone()],
            End::Well,
            "transient",
            "malformed_answer",
        ),
        (
            "application/json",
            vec![cut],
            End::Break,
            "transient",
            "connection",
        ),
        (
            "application/json",
            vec![b"\xff\xfe".to_vec()],
            End::Well,
            "transient",
            "malformed_answer",
        ),
        (
            "application/json",
            vec![],
            End::Well,
            "transient",
            "malformed_answer",
        ),
        (
            "text/html",
            vec![b"<html>".to_vec()],
            End::Well,
            "transient",
            "malformed_answer",
        ),
        ("application/json", oversized, End::Well, "permanent", "oversized"),
    ] {
        let shown = pieces
            .first()
            .map(|piece| String::from_utf8_lossy(&piece[..piece.len().min(60)]).into_owned());
        let (url, _over) = streaming(kind, pieces, end).await;
        let outcome = asked(&url, &json!({"prompt": "x", "stream": true})).await;
        assert_eq!(
            failure(outcome),
            (class, code.to_owned()),
            "{kind} {shown:?} {end:?}"
        );
    }
}

#[tokio::test]
async fn a_maker_that_says_nothing_is_not_waited_for_longer_than_a_call_may_take() {
    let app = Router::new().fallback(std::future::pending::<()>);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let all = settings(&url, &["a"], &[("TIMEOUT", "50ms")]);
    let stage = Stage::new(&KIND, &url, &borrowed(&all));
    let outcome = stage.handle(&event("ask", &json!({"prompt": "x"}))).await;
    assert_eq!(failure(outcome), ("transient", "timeout".into()));
}
