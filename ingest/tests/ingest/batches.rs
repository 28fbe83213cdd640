//! Many events in one request.

use super::running::{Answer, Running};

async fn send(
    running: &Running,
    content_type: &str,
    more: &[(&str, &str)],
    body: impl Into<bytes::Bytes>,
) -> Answer {
    let headers = [
        &[
            ("authorization", "Bearer ops-token"),
            ("content-type", content_type),
        ],
        more,
    ]
    .concat();
    running.post("/v1/events/http/batch", &headers, body).await
}

fn statuses(answer: &Answer) -> Vec<String> {
    let json = answer.json();
    json["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["status"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn all_three_forms_are_kept_in_order() {
    let running = Running::start(&[]).await;
    let json = r#"[{"v":1,"type":"t","id":"a1"}, {"v":1,"type":"t","id":"a2"}]"#;
    let lines = "{\"v\":1,\"type\":\"t\",\"id\":\"b1\"}\n\n{\"v\":1,\"type\":\"t\",\"id\":\"b2\"}\r\n";
    let msgpack = b"\x92\x83\xa1v\x01\xa4type\xa1t\xa2id\xa2c1\x83\xa1v\x01\xa4type\xa1t\xa2id\xa2c2";
    for (content_type, body) in [
        ("application/json", json.as_bytes()),
        ("application/x-ndjson; charset=utf-8", lines.as_bytes()),
        ("application/vnd.msgpack", msgpack),
    ] {
        let answer = send(&running, content_type, &[], body.to_vec()).await;
        assert_eq!(answer.status, 202, "{}", answer.json());
        assert_eq!(statuses(&answer), ["accepted", "accepted"]);
    }
    let ids: Vec<String> = running
        .messages("http")
        .await
        .iter()
        .map(|(_, _, e)| e.id.to_string())
        .collect();
    assert_eq!(ids, ["a1", "a2", "b1", "b2", "c1", "c2"]);
    let empty = send(&running, "application/json", &[], "[]").await;
    assert_eq!((empty.status.as_u16(), statuses(&empty).len()), (202, 0));
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_bad_event_stops_none_of_the_others() {
    let running = Running::start(&[]).await;
    let body = "{\"v\":1,\"type\":\"t\",\"id\":\"x\"}\nbroken\n{\"v\":2,\"type\":\"t\"}\n{\"v\":1,\"type\":\"t\",\"id\":\"x\"}\n";
    let answer = send(&running, "application/x-ndjson", &[], body).await;
    assert_eq!(answer.status, 207);
    assert_eq!(statuses(&answer), ["accepted", "refused", "refused", "accepted"]);
    let results = &answer.json()["results"];
    assert_eq!(
        (&results[0]["id"], &results[0]["duplicate"]),
        (&"x".into(), &serde_json::Value::Null)
    );
    assert_eq!(results[1]["code"], "malformed");
    assert!(
        results[2]["detail"].as_str().unwrap().contains("\"v\" is 2"),
        "{results}"
    );
    assert_eq!(results[3]["duplicate"], true);
    assert_eq!(running.refused("malformed").await as u64, 2);
    assert_eq!(running.waiting("http").await, 1);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_thousand_at_once_and_the_same_thousand_again() {
    let running = Running::start(&[("WEIR_INGEST_MAX_IN_FLIGHT", "64")]).await;
    let body = "{\"v\":1,\"type\":\"t\"}\n".repeat(1000);
    let key = [("idempotency-key", "load-1"), ("weir-priority", "9")];
    let first = send(&running, "application/x-ndjson", &key, body.clone()).await;
    assert_eq!(first.status, 202, "{}", first.json());
    let second = send(&running, "application/x-ndjson", &key, body).await;
    assert_eq!(second.json()["results"][999]["id"], "key:ops:load-1:999");
    assert_eq!(second.json()["results"][999]["duplicate"], true);
    assert_eq!(running.waiting("http").await, 1000);
    let (subject, _, event) = running.messages("http").await.swap_remove(0);
    assert_eq!((subject.as_str(), event.priority.get()), ("events.http.high", 9));
    running.stop().await.unwrap();
}
