//! What one sender may take of the whole: size, time, rate.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::refusals::refused;
use super::running::{Answer, Running};

#[tokio::test]
async fn a_body_without_a_length_is_bounded_too() {
    let running = Running::start(&[("WEIR_INGEST_MAX_BODY", "64KB")]).await;
    let before = running.refused("body_too_large").await;
    let chunks = (0..100).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 1024]));
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
    let url = format!("{}/webhooks/github", running.base);
    let response = running.http.post(url).body(body).send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let answer = Answer {
        status,
        headers,
        body: response.bytes().await.unwrap(),
    };
    refused(&running, before, &answer, 413, "body_too_large", "65536 bytes").await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_body_that_stalls_is_given_up() {
    let running = Running::start(&[("WEIR_INGEST_READ_TIMEOUT", "200ms")]).await;
    let mut stream = TcpStream::connect(running.base.trim_start_matches("http://"))
        .await
        .unwrap();
    let head = "POST /webhooks/github HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(super::running::PATIENCE, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(
        answer.contains("\"code\":\"read_timeout\"") && answer.contains("within 200 ms"),
        "{answer}"
    );
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_source_above_its_limit_waits_and_strangers_do_not_count() {
    let running = Running::start(&[("WEIR_SOURCE_GITHUB_LIMIT", "2 per minute, burst 2")]).await;
    for _ in 0..5 {
        assert_eq!(
            running
                .post("/webhooks/github", &[("x-hub-signature-256", "sha256=0")], "{}")
                .await
                .status,
            401
        );
    }
    assert_eq!(running.github("1", "ping", "{}").await.status, 202);
    assert_eq!(running.github("2", "ping", "{}").await.status, 202);
    let before = running.refused("source_limited").await;
    let answer = running.github("3", "ping", "{}").await;
    refused(&running, before, &answer, 429, "source_limited", "github").await;
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=61).contains(&wait), "{wait}");
    running.stop().await.unwrap();
}
