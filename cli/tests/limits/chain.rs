//! Events that rules made of others.

use std::path::Path;
use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use serde_json::{Value, json};
use shared::dead_letter::{self, Burial};
use shared::event::{Data, Event, EventId};
use shared::failure::Reason;
use shared::servers::{Postgres, PostgresOptions};
use shared::subject::headers;
use shared::wire;
use sqlx::Connection;
use tokio::process::Child;
use tokio::time::{Instant, sleep};

use super::stage::{Stage, endpoint, http};

/// Many from one, one from the last of them, and one that leads to itself; and a message that nobody fetches.
const RULES: &str = r#"
[[rule]]
name = "part"
on = { service = "http", types = ["start"] }
each = "data"
emit = { service = "http", type = "part", data = { n = "{{ item }}" } }
[[rule]]
name = "last"
on = { service = "http", types = ["part"] }
when = "data.n == 29"
emit = { service = "http", type = "end", data = { n = 29 } }
[[rule]]
name = "again"
on = { service = "http", types = ["end"] }
when = "data.n == 29"
dedup = "always the same"
emit = { service = "http", type = "end", data = { n = 29 } }
[[rule]]
name = "tell"
on = { service = "http", types = ["start"] }
emit = { service = "slack", type = "call", data = { method = "chat.postMessage", args = { channel = "C1", text = "x" } } }
"#;

const RECORDED: &str = "SELECT event_id FROM results";

async fn start(stage: &Stage, id: &str) {
    let event = Event {
        data: Data::json(json!((0..30).collect::<Vec<_>>()).to_string()),
        ..Event::new(EventId::new(id).unwrap(), "start")
    };
    let mut map = HeaderMap::new();
    map.insert(headers::MESSAGE_ID, id);
    let sent = stage
        .js
        .publish_with_headers("events.http", map, wire::encode(&event));
    sent.await.unwrap().await.unwrap();
}

fn worker(stage: &Stage, endpoint: &str, postgres: &str) -> Child {
    let log = std::fs::File::create(stage.scratch.path().join("worker.log")).unwrap();
    stage
        .command(&Path::new(env!("CARGO_BIN_EXE_weir")).with_file_name("weir-worker"))
        .env("WEIR_POSTGRES_URL", postgres)
        .env("WEIR_SERVICES", "http,slack")
        .env("WEIR_WORKER_SERVICES", "http")
        .env("WEIR_SERVICE_HTTP_URL", endpoint)
        .env("WEIR_SERVICE_HTTP_LIMIT", "none")
        .env("WEIR_RULES", RULES)
        .env("WEIR_WORKER_LISTEN", "127.0.0.1:0")
        .stderr(log)
        .spawn()
        .unwrap()
}

/// The ids of these, once there are as many.
async fn ids(postgres: &str, query: &'static str, wanted: usize) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let found: Result<Vec<String>, sqlx::Error> = async {
            let mut connection = sqlx::PgConnection::connect(postgres).await?;
            sqlx::query_scalar(query).fetch_all(&mut connection).await
        }
        .await;
        if found.as_ref().is_ok_and(|found| found.len() == wanted) {
            return found.unwrap();
        }
        assert!(
            Instant::now() < deadline,
            "{query}: {wanted} wanted, found {found:?}"
        );
        sleep(Duration::from_millis(50)).await;
    }
}

fn nodes(node: &Value) -> Vec<&Value> {
    let below = node["follows"].as_array().unwrap().iter().flat_map(nodes);
    [node].into_iter().chain(below).collect()
}

#[tokio::test]
async fn an_event_shows_what_led_to_it_and_what_it_led_to() {
    let stage = Stage::new().await;
    let database = Postgres::start(PostgresOptions::new(stage.scratch.path().join("postgres")))
        .await
        .unwrap();
    database.create_database("weir").await.unwrap();
    let postgres = database.url("weir");
    let (endpoint, _calls) = endpoint().await;
    let _worker = worker(&stage, &endpoint, &postgres);
    start(&stage, "start-1").await;
    ids(&postgres, RECORDED, 33).await;
    start(&stage, "start-2").await;
    ids(&postgres, RECORDED, 65).await;
    ids(&postgres, "SELECT event_id FROM follow_ups", 0).await;

    // From the last to the first, and what else followed on the way.
    let again = ids(
        &postgres,
        "SELECT event_id FROM results WHERE event_id LIKE 'again:%'",
        1,
    )
    .await;
    let flags = ["--postgres-url", &postgres];
    let json = stage
        .json(&[&["explain", &again[0], "--json"][..], &flags].concat())
        .await;
    let chain = &json["chain"];
    assert_eq!(json["verdict"], "done");
    assert_eq!(chain["parents_in_all"], 3, "two chains and itself: {chain:#}");
    assert_eq!(chain["parents"][0]["rule"], "again");
    let tree = &chain["trees"][0];
    assert_eq!(
        (&tree["id"], &chain["trees"][1]),
        (&json!("start-1"), &Value::Null)
    );
    let shown = nodes(tree);
    // Ten of 31, the one on the way among them; and below that one two more, the last of which leads to itself.
    assert_eq!(
        (shown.len(), &tree["not_shown"]),
        (1 + 10 + 3, &json!(21)),
        "{tree:#}"
    );
    let own: Vec<_> = shown.iter().filter(|node| node["this"] == true).collect();
    assert_eq!(own.len(), 2);
    assert_eq!(
        (&own[0]["shown_above"], &own[1]["shown_above"]),
        (&json!(false), &json!(true))
    );
    assert!(
        shown
            .iter()
            .all(|node| node["service"] == "slack" || node["state"] == "done")
    );
    let said = stage.weir(&[&["explain", &again[0]][..], &flags].concat()).await;
    assert!(
        said.contains("\n  start-1 ") && said.contains("└─ and 21 more") && said.contains("  <- this event"),
        "{said}"
    );

    // What nobody has fetched yet: known by the record, and without it by its own message.
    let tells = "SELECT child_id FROM followed WHERE rule = 'tell' AND event_id = 'start-2'";
    let tell = ids(&postgres, tells, 1).await;
    let said = stage.weir(&[&["explain", &tell[0]][..], &flags].concat()).await;
    assert!(
        said.starts_with(&format!("{}: waiting\n\nIt waits ", tell[0])),
        "{said}"
    );
    assert!(
        said.contains("\nIt follows from start-2 of http, by rule tell.\n"),
        "{said}"
    );
    assert!(said.contains("slack  not done yet  <- this event"), "{said}");
    let said = stage.weir(&["explain", &tell[0]]).await;
    assert!(
        said.contains("\nIt follows from start-2 of http, by rule tell.\n")
            && said.contains("http   not known"),
        "{said}"
    );

    // Done, and rules failed on it.
    let reason = Reason::new("rule_loop", "rule again on event start-1: \u{202e}too many");
    let burial = Burial {
        service: &http(),
        sequence: 1,
        subject: "events.http",
        id: &EventId::new("start-1").unwrap(),
        headers: None,
        payload: Bytes::new(),
        reason: &reason,
        attempts: 0,
        history: &[],
        accepted: 1,
    };
    dead_letter::bury(&stage.js, burial).await.unwrap();
    let said = stage.weir(&[&["explain", "start-1"][..], &flags].concat()).await;
    assert!(
        said.starts_with("start-1: done\n\nhttp is done with it: ")
            && said.contains("\nhttp keeps a dead letter of it all the same: rule_loop: rule again ")
            && said.contains("`weir dlq replay "),
        "{said}"
    );
    let said = stage
        .weir(&[&["explain", "start-1", "--json"][..], &flags].concat())
        .await;
    assert!(
        !said.contains('\u{202e}') && said.contains("\\u202etoo many"),
        "{said}"
    );
    let json: Value = serde_json::from_str(&said).unwrap();
    let letter = &json["dead_letters"][0];
    assert_eq!(
        (&json["verdict"], &letter["code"], &letter["reason"]),
        (&json!("done"), &json!("rule_loop"), &json!(reason.detail))
    );
}
