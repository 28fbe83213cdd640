//! Events that are looked for.

use std::time::{Duration, SystemTime};

use async_nats::HeaderMap;
use bytes::Bytes;
use shared::dead_letter::{self, Attempt, Burial};
use shared::event::EventId;
use shared::failure::Reason;
use shared::schedule::{Scheduled, publish_at};
use shared::subject::{Lane, headers};

use super::stage::{Stage, http};

#[tokio::test]
async fn an_event_is_found_wherever_it_is() {
    let stage = Stage::new().await;
    for n in 0..40 {
        stage.publish(&format!("e-{n}")).await;
    }
    let attempt = Attempt {
        at: 1_700_000_000_000,
        code: "timeout".into(),
        detail: "\u{1b}[2Jno answer".into(),
    };
    let mut map = HeaderMap::new();
    map.insert(headers::ATTEMPTS, "1");
    map.insert(
        headers::HISTORY,
        dead_letter::history_header(std::slice::from_ref(&attempt)),
    );
    let at = SystemTime::now() + Duration::from_secs(3_630);
    let id = EventId::new("again").unwrap();
    let service = http();
    let retry = Scheduled {
        service: &service,
        lane: Lane::Normal,
        tenant: None,
        id: &id,
        turn: "1",
        at,
        headers: map,
        payload: Bytes::from_static(b"\xc1"),
    };
    publish_at(&stage.js, retry).await.unwrap();
    let reason = Reason::new("http_404", "\u{1b}[31mnot there");
    let burial = Burial {
        service: &service,
        sequence: 9,
        subject: "events.http",
        id: &EventId::new("given-up").unwrap(),
        headers: None,
        payload: Bytes::new(),
        reason: &reason,
        attempts: 3,
        history: &[attempt],
        accepted: 1,
    };
    dead_letter::bury(&stage.js, burial).await.unwrap();

    let said = stage.weir(&["explain", "e-17"]).await;
    assert!(
        said.starts_with("e-17: waiting\n\nIt waits in lane normal behind 17 of http (message 18), since "),
        "{said}"
    );
    let said = stage.weir(&["explain", "again"]).await;
    assert!(
        said.starts_with("again: retry\n\nhttp has failed on it once (timeout: "),
        "{said}"
    );
    assert!(said.contains("(in 60m). There is nothing to do."), "{said}");
    assert!(!said.contains('\u{1b}'), "{said:?}");
    let said = stage.weir(&["explain", "given-up", "--service", "http"]).await;
    assert!(
        said.starts_with("given-up: dead\n\nhttp has given it up: http_404: "),
        "{said}"
    );
    assert!(
        said.contains("after 3 attempts") && !said.contains('\u{1b}'),
        "{said:?}"
    );
    assert!(said.contains("`weir dlq replay 1`"), "{said}");
    let json = stage.json(&["explain", "given-up", "--json"]).await;
    assert_eq!(
        (
            json["verdict"].as_str(),
            json["dead_letters"][0]["sequence"].as_u64()
        ),
        (Some("dead"), Some(1))
    );
    stage
        .fails(&["explain", "e-99"], 1, "nothing is known of e-99")
        .await;
    stage.fails(&["explain", "x\u{1b}[2Jy"], 64, "\\u{1b}[2Jy").await;
    stage
        .fails(&["explain", "http"], 1, "no worker has said yet")
        .await;
}
