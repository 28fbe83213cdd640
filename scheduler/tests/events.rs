//! `/api/events` and `/api/report`, against a real Postgres and as clients ask.
#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use reqwest::StatusCode;
use scheduler::api::events::{Past, routes};
use scheduler::config::History;
use serde_json::Value;
use sha2::{Digest, Sha256};
use shared::bearer::Tokens;
use shared::servers::{Postgres, PostgresOptions, scratch_dir};
use shared::store::metrics::Metrics;
use shared::store::migrate::migrate;
use shared::store::pool;
use shared::store::reads::Reads;
use shared::store::settings::{Settings, Size};
use tokio::net::TcpListener;

struct Stage {
    url: String,
    client: reqwest::Client,
    server: Option<Postgres>,
    _dir: tempfile::TempDir,
}

fn tokens(text: &str) -> Tokens {
    let hash = |token: &str| hex::encode(Sha256::digest(token));
    let text = text
        .replace("OPS", &hash("ops-token"))
        .replace("CI", &hash("ci-token"));
    Tokens::read(&text).unwrap()
}

async fn stage(with_postgres: bool, who: &str) -> Stage {
    let dir = scratch_dir().unwrap();
    let mut history = History {
        tokens: tokens(who),
        ..History::default()
    };
    let (mut reads, mut server) = (None, None);
    if with_postgres {
        let started = Postgres::start(PostgresOptions::new(dir.path())).await.unwrap();
        started.create_database("weir").await.unwrap();
        let url = started.url("weir");
        let settings = Settings {
            url: Some(url.clone()),
            acquire_timeout: std::time::Duration::from_secs(2),
            ..Settings::default()
        };
        let size = Size { least: 0, most: 4 };
        let writing = pool::write(&url, &settings, size, "test").unwrap();
        migrate(&writing).await.unwrap();
        sqlx::raw_sql(
            "INSERT INTO outcomes SELECT 'e:' || n || '/x', (ARRAY['github', 'slack'])[1 + n % 2],
                 CASE WHEN n % 10 = 0 THEN 'dead' ELSE 'done' END, 1, 'http_200', '', '{\"n\":1}', n, 'w', 'trace', now(),
                 now() - n * interval '1 second', CASE WHEN n < 20 THEN 'acme' END FROM generate_series(1, 100) n;
             INSERT INTO failures VALUES ('e:1/x', 'slack', 1, 'transient', 'http_500', 'oh', 1, 'w', '', now(), NULL)",
        )
        .execute(&writing)
        .await
        .unwrap();
        reads = Some(Reads::open(&url, &settings, size, "test", Metrics::default()).unwrap());
        history.postgres = settings;
        server = Some(started);
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = routes(Past::new(reads, &history));
    tokio::spawn(async move { axum::serve(listener, app).await });
    shared::lifecycle::install_tls();
    Stage {
        url,
        client: reqwest::Client::new(),
        server,
        _dir: dir,
    }
}

const WHO: &str = "ops:OPS:*,ci:CI:github";

impl Stage {
    async fn ask(&self, path: &str, token: &str) -> (StatusCode, Value) {
        let request = self.client.get(format!("{}{path}", self.url));
        let request = if token.is_empty() {
            request
        } else {
            request.bearer_auth(token)
        };
        let answer = request.send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    async fn good(&self, path: &str, token: &str) -> Value {
        let (status, value) = self.ask(path, token).await;
        assert_eq!(status, StatusCode::OK, "{path}: {value}");
        value
    }
}

#[tokio::test]
async fn pages_stories_and_reports_are_answered() {
    let stage = stage(true, WHO).await;
    let (mut path, mut ids) = ("/api/events?limit=30".to_owned(), Vec::new());
    loop {
        let page = stage.good(&path, "ops-token").await;
        ids.extend(
            page["events"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one["event_id"].clone()),
        );
        match page["next"].as_str() {
            Some(next) => path = format!("/api/events?limit=30&cursor={next}"),
            None => break,
        }
    }
    let expected: Vec<String> = (1..=100).map(|n| format!("e:{n}/x")).collect();
    assert_eq!(ids, expected, "the newest first, each once");
    for (path, count) in [
        ("/api/events?state=dead&limit=500", 10),
        ("/api/events?service=slack&state=failed", 1),
        ("/api/events?tenant=acme&attempts=true", 19),
        ("/api/events?from=30s", 29),
        ("/api/events?to=1h", 0),
    ] {
        let page = stage.good(path, "ops-token").await;
        let events = page["events"].as_array().unwrap().len() as i64;
        assert!(
            (events - count).abs() <= i64::from(path.contains("30s")),
            "{path}: {events}"
        );
    }
    let story = stage.good("/api/events/e:1%2Fx", "ops-token").await;
    assert_eq!(story["ends"][0]["result"]["n"], 1);
    assert_eq!(story["ends"][0]["trace_id"], "trace");
    assert_eq!(story["failed"][0]["class"], "transient");
    assert!(story["ends"][0]["at"].as_str().unwrap().ends_with('Z'));
    let report = stage.good("/api/report?hours=2", "ops-token").await;
    let events: i64 = report["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line["events"].as_i64().unwrap())
        .sum();
    assert_eq!(events, 100);
}

#[tokio::test]
async fn who_may_not_ask_learns_nothing() {
    let stage = stage(true, WHO).await;
    for path in ["/api/events", "/api/events/e:1%2Fx", "/api/report"] {
        for token in ["", "other", "ops-toke"] {
            assert_eq!(
                stage.ask(path, token).await.0,
                StatusCode::UNAUTHORIZED,
                "{path} {token}"
            );
        }
        let (status, _) = stage.ask(&format!("{path}?service=slack"), "ci-token").await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{path}");
    }
    // What a token is for is all that it sees.
    let page = stage.good("/api/events?limit=500", "ci-token").await;
    let events = page["events"].as_array().unwrap();
    assert!(events.len() == 50 && events.iter().all(|one| one["service"] == "github"));
    assert_eq!(
        stage.ask("/api/events/e:1%2Fx", "ci-token").await.0,
        StatusCode::NOT_FOUND
    );
    let report = stage.good("/api/report", "ci-token").await;
    assert!(
        report["lines"]
            .as_array()
            .unwrap()
            .iter()
            .all(|line| line["service"] == "github")
    );
    // A cursor of one who sees all is none of hers.
    let all = stage.good("/api/events?limit=1", "ops-token").await;
    let path = format!("/api/events?limit=1&cursor={}", all["next"].as_str().unwrap());
    assert_eq!(stage.ask(&path, "ci-token").await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn wrong_questions_are_told_what_is_wrong_with_them() {
    let stage = stage(true, WHO).await;
    let long = format!("/api/events/{}", "x".repeat(300));
    for (path, status, says) in [
        ("/api/events?servise=github", 400, "\"servise\" is no parameter"),
        ("/api/events?state=gone", 400, "not done, dead or failed"),
        ("/api/events?limit=0", 400, "limit"),
        ("/api/events?cursor=AAAA", 400, "cursor"),
        ("/api/events?from=x%00", 400, "from"),
        ("/api/report?hours=1000", 400, "from 1 to 168"),
        ("/api/events/e%00", 400, "the id"),
        (&long, 400, "the id"),
        ("/api/events/nobody", 404, "nothing is recorded of nobody"),
    ] {
        let (is, problem) = stage.ask(path, "ops-token").await;
        assert_eq!(is.as_u16(), status, "{path}: {problem}");
        assert!(
            problem["detail"].as_str().unwrap().contains(says),
            "{path}: {problem}"
        );
    }
}

#[tokio::test]
async fn without_postgres_or_tokens_it_says_so() {
    let (status, problem) = stage(false, WHO).await.ask("/api/events", "ops-token").await;
    assert_eq!(status, StatusCode::NOT_IMPLEMENTED);
    assert!(problem["detail"].as_str().unwrap().contains("WEIR_POSTGRES_URL"));
    let mut stage = stage(true, "").await;
    let (status, problem) = stage.ask("/api/events", "ops-token").await;
    assert_eq!(status, StatusCode::NOT_IMPLEMENTED);
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("WEIR_SCHEDULER_TOKENS")
    );
    drop(stage.server.take());
}

#[tokio::test]
async fn postgres_that_is_away_is_no_empty_answer_and_a_kept_report_is_still_told() {
    let mut stage = stage(true, WHO).await;
    let kept = stage.good("/api/report?hours=2", "ops-token").await;
    stage.server.as_mut().unwrap().stop().await.unwrap();
    let (status, problem) = stage.ask("/api/events", "ops-token").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{problem}");
    assert_eq!(problem["detail"], "Postgres does not answer");
    let again = stage.good("/api/report?hours=2", "ops-token").await;
    assert_eq!(again["lines"], kept["lines"]);
    assert_eq!(
        stage.ask("/api/report?hours=3", "ops-token").await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );
    stage.server.as_mut().unwrap().restart().await.unwrap();
    stage.good("/api/events", "ops-token").await;
}
