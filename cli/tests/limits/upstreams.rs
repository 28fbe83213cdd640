//! Upstreams that are out of service, as people see them.

use std::time::SystemTime;

use shared::breaker::{Counts, Now, Record};
use shared::config::fleet::Streams;
use shared::telemetry::propagation::millis;
use shared::topology;

use super::stage::{Stage, http};

async fn record(stage: &Stage, id: &str, record: &[u8]) {
    let bucket = topology::breakers_bucket(&stage.js, &Streams::default())
        .await
        .unwrap();
    let record = bytes::Bytes::copy_from_slice(record);
    bucket.put(http().breaker_key(id), record).await.unwrap();
}

fn open(place: u32, of: u32) -> Record {
    let counts = Counts {
        calls: 14,
        failures: 12,
    };
    let now = Now {
        at: millis(SystemTime::now()),
        by: "w",
    };
    let rule = "50% of 10 in 30s, open 5m".parse().unwrap();
    Record::new(&format!("https://up-{place}.example"), place, of).opened(
        &rule,
        counts,
        "http_500: \u{1b}[2Jno",
        0.5,
        now,
    )
}

#[tokio::test]
async fn who_is_out_of_service_is_told_by_status_and_explain() {
    let stage = Stage::new().await;
    for n in 0..3 {
        stage.publish(&format!("e-{n}")).await;
    }
    let said = stage.json(&["status", "--json"]).await;
    assert_eq!(said["services"][0]["out_of_service"], serde_json::json!([]));
    record(&stage, "a", &open(1, 2).bytes()).await;
    record(&stage, "garbage", b"\xff").await;
    let first = "http: Upstream https://up-1.example is out of service since ";
    let said = stage.weir(&["status"]).await;
    assert!(said.contains(first) && !said.contains('\u{1b}'), "{said}");
    assert!(
        said.contains("http: Calls go to another of the 2 upstreams meanwhile."),
        "{said}"
    );

    record(&stage, "b", &open(2, 2).bytes()).await;
    let said = stage.json(&["status", "--json"]).await;
    let out = &said["services"][0]["out_of_service"];
    assert_eq!(
        (out[0]["state"].as_str(), out[1]["upstream"].as_str()),
        (Some("open"), Some("https://up-2.example"))
    );
    let said = stage.weir(&["explain", "e-1"]).await;
    for part in [
        "e-1: waiting",
        "Upstream https://up-1.example is out of service since ",
        "(12 of 14 calls failed; http_500: ",
        "no call goes there before ",
        "then one tries it.",
        "Events wait for it where they are; that uses up no attempt.",
    ] {
        assert!(said.contains(part), "{part} in:\n{said}");
    }
    assert!(
        !said.contains('\u{1b}') && !said.contains("It may begin"),
        "{said}"
    );
    let said = stage.run(&["explain", "http"]).await;
    assert!(
        said.stdout
            .contains("Upstream https://up-2.example is out of service")
            && !said.stdout.contains("no worker asks"),
        "{}",
        said.stdout
    );
}
