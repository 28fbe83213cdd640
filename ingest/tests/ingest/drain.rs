//! Stopping under load.

use std::time::Duration;

use super::running::{PATIENCE, Running};

#[tokio::test]
async fn a_drain_under_load_loses_nothing_that_was_answered_202() {
    let running = Running::start(&[("WEIR_INGEST_DRAIN_DELAY", "300ms")]).await;
    let senders: Vec<_> = (0..8)
        .map(|sender| {
            let (http, url) = (running.http.clone(), format!("{}/v1/events/http", running.base));
            tokio::spawn(async move {
                let mut kept = Vec::new();
                for n in 0_u32.. {
                    let id = format!("{sender}-{n}");
                    let request = http
                        .post(&url)
                        .bearer_auth("ops-token")
                        .header("content-type", "application/json");
                    let body = format!(r#"{{"v":1,"type":"t","id":"{id}"}}"#);
                    match request.body(body).send().await {
                        Ok(response) if response.status() == 202 => kept.push(id),
                        Ok(response) => panic!("refused while draining: {}", response.status()),
                        Err(_) => break,
                    }
                }
                kept
            })
        })
        .collect();
    while running.waiting("http").await < 50 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    running.shutdown.cancel();
    let ready = running.get("/health/ready").await;
    assert_eq!(
        (ready.status.as_u16(), ready.json()["status"].as_str()),
        (503, Some("draining"))
    );
    let mut kept = Vec::new();
    for sender in senders {
        kept.extend(tokio::time::timeout(PATIENCE, sender).await.unwrap().unwrap());
    }
    let stored: std::collections::HashSet<String> = running
        .messages("http")
        .await
        .into_iter()
        .map(|(_, _, event)| event.id.to_string())
        .collect();
    assert!(kept.len() >= 50);
    assert!(
        kept.iter().all(|id| stored.contains(id)),
        "{} answered, {} stored",
        kept.len(),
        stored.len()
    );
    running.stop().await.unwrap();
}

#[tokio::test]
async fn idle_connections_do_not_delay_the_end() {
    let running = Running::start(&[]).await;
    let address = running.base.trim_start_matches("http://");
    let _silent = tokio::net::TcpStream::connect(address).await.unwrap();
    running.get("/").await;
    running.stop().await.unwrap();
}
