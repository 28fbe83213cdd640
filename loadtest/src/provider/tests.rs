#![allow(clippy::unwrap_used, reason = "tests panic on failure")]
use std::time::Instant;

use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use super::*;

fn client() -> Client {
    // Fails only when another test of this process installed it first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .timeout(Duration::from_secs(10))
        .build()
        .unwrap()
}

async fn start(change: impl FnOnce(&mut ProviderConfig)) -> Provider {
    let mut config = ProviderConfig::default();
    change(&mut config);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Provider::start(config, listener).unwrap()
}

fn get(client: &Client, provider: &Provider, path: &str) -> RequestBuilder {
    client
        .get(format!("{}{path}", provider.url()))
        .bearer_auth("secret-token")
}

#[tokio::test]
async fn the_limit_holds_and_every_breach_is_counted() {
    let provider = start(|config| {
        config.github.core = Window::new(5, Duration::from_mins(1));
        config.github.shape = Shape::Sliding;
        config.github.refusal = Refusal::TooMany;
    })
    .await;
    let client = client();
    let mut statuses = Vec::new();
    for n in 0..8 {
        let call = get(&client, &provider, "/repos/octo/cat").header("weir-event-id", format!("e{n}"));
        statuses.push(call.send().await.unwrap().status().as_u16());
    }
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429, 429]);
    let stats: Stats = get(&client, &provider, "/_sim/stats")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!((stats.total.accepted, stats.total.refused), (5, 3));
    assert_eq!(stats.limits["github core"].worst, 8);
    assert_eq!(stats.limits["github core"].breaches, 3);
    assert_eq!(stats.doubled.count, 0);
    let listed: Vec<Call> = get(&client, &provider, "/_sim/calls?id=e6")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!((listed.len(), listed[0].status), (1, 429));
    assert!(!serde_json::to_string(&listed).unwrap().contains("secret-token"));
    provider.reset();
    let again = get(&client, &provider, "/user").send().await.unwrap();
    assert_eq!(again.status(), StatusCode::OK);
    provider.stop().await;
}

#[tokio::test]
async fn slack_hooks_and_strangers_are_answered_in_their_own_way() {
    let provider = start(|config| {
        config.hooks = HookRules::new(Some("whsec_c2VjcmV0"), None).unwrap();
    })
    .await;
    let client = client();
    let url = format!("{}/api/chat.postMessage", provider.url());
    let message = json!({"channel": "C1", "text": "hi"});
    let send = || client.post(&url).bearer_auth("xoxb").json(&message).send();
    let first: Value = send().await.unwrap().json().await.unwrap();
    assert_eq!(first["ok"], true);
    let second = send().await.unwrap();
    assert_eq!(second.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(second.headers()["retry-after"], "1");
    let stranger = client
        .get(format!("{}/user", provider.url()))
        .send()
        .await
        .unwrap();
    assert_eq!(stranger.status(), StatusCode::UNAUTHORIZED);
    let hook = format!("{}/hooks/orders", provider.url());
    let unsigned = client.post(hook).body("{}").send().await.unwrap();
    assert_eq!(unsigned.status(), StatusCode::BAD_REQUEST);
    let total = provider.stats().total;
    assert_eq!((total.accepted, total.refused, total.rejected), (1, 1, 2));
}

#[tokio::test]
async fn faults_end_calls_as_told() {
    let provider = start(|_| {}).await;
    let client = client();
    let with = |fault: &str| {
        get(&client, &provider, "/user")
            .header(faults::FAULT_HEADER, fault)
            .header("weir-event-id", "e")
    };
    assert_eq!(
        with("status=502").send().await.unwrap().status(),
        StatusCode::BAD_GATEWAY
    );
    assert!(
        with("close").send().await.unwrap().bytes().await.is_err(),
        "the body ends early"
    );
    let begun = Instant::now();
    with("latency=40ms").send().await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(40));
    let hung = with("hang")
        .timeout(Duration::from_millis(50))
        .send()
        .await
        .unwrap_err();
    assert!(hung.is_timeout());
    let stats = provider.stats();
    assert_eq!((stats.total.accepted, stats.total.failed), (2, 2));
    assert_eq!(
        stats.doubled.examples,
        ["e"],
        "the cut call and the slow one both took place"
    );
    assert!(
        provider
            .set_faults(Faults {
                errors: 2.0,
                ..Faults::default()
            })
            .is_err()
    );
    provider
        .set_faults(Faults {
            errors: 1.0,
            ..Faults::default()
        })
        .unwrap();
    let failed = get(&client, &provider, "/user").send().await.unwrap();
    assert_eq!(failed.status(), StatusCode::INTERNAL_SERVER_ERROR);
    provider.stop().await;
}

#[tokio::test]
async fn what_is_written_can_be_listed_and_what_failed_cannot() {
    let provider = start(|config| config.slack.channel = Window::per_second(50)).await;
    let client = client();
    let list = "/repos/o/r/issues/1/comments";
    for (n, fault) in ["none", "status=500", "swallow", "hang", "close"]
        .into_iter()
        .enumerate()
    {
        let comment = client
            .post(format!("{}{list}", provider.url()))
            .bearer_auth("secret-token")
            .header(faults::FAULT_HEADER, fault)
            .header("idempotency-key", fault)
            .json(&json!({"body": format!("comment {n}")}));
        let _ = comment.timeout(Duration::from_millis(500)).send().await;
        let lie = client
            .post(format!("{}/api/chat.postMessage", provider.url()))
            .bearer_auth("xoxb")
            .header(faults::FAULT_HEADER, if n == 0 { "lie" } else { "none" })
            .json(&json!({"channel": "C1", "text": format!("message {n}")}));
        let lied: Value = lie.send().await.unwrap().json().await.unwrap();
        assert_eq!(lied["ok"], n != 0, "{lied}");
    }
    let listed = get(&client, &provider, list).send().await.unwrap();
    let listed: Value = listed.json().await.unwrap();
    let bodies: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["body"])
        .collect();
    assert_eq!(bodies, ["comment 0", "comment 2", "comment 4"]);
    let history = client
        .get(format!(
            "{}/api/conversations.history?channel=C1&limit=2",
            provider.url()
        ))
        .bearer_auth("xoxb");
    let history: Value = history.send().await.unwrap().json().await.unwrap();
    assert_eq!(history["messages"][0]["text"], "message 4");
    assert_eq!(
        (
            history["messages"].as_array().unwrap().len(),
            &history["has_more"]
        ),
        (2, &json!(true))
    );
    let effects = provider.effects();
    let of = |id: &str| effects.get(id).copied().unwrap_or(0);
    assert_eq!((of("none"), of("swallow"), of("close"), of("hang")), (1, 1, 1, 0));
    let silent = client
        .post(format!("{}{list}", provider.url()))
        .bearer_auth("secret-token")
        .json(&json!({}));
    assert_eq!(
        silent.send().await.unwrap().status(),
        StatusCode::UNPROCESSABLE_ENTITY
    );
    provider.stop().await;
}

#[tokio::test]
async fn requests_beyond_those_allowed_at_a_time_are_refused() {
    let provider = start(|config| config.github.concurrent = 2).await;
    let client = client();
    let slow = || {
        get(&client, &provider, "/user")
            .header(faults::FAULT_HEADER, "latency=300ms")
            .send()
    };
    let (a, b, c) = tokio::join!(slow(), slow(), slow());
    let mut statuses = [a, b, c].map(|answer| answer.unwrap().status().as_u16());
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 403]);
    let stats = provider.stats();
    assert_eq!((stats.concurrency.peak, stats.concurrency.breaches), (3, 1));
    assert_eq!(stats.total.refused, 1);
}

/// `x-ratelimit-*` without the reset, and the reset less the answer's `Date`, both in whole seconds.
fn quota(answer: &reqwest::Response) -> (String, u64) {
    let text = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    let told = ["limit", "remaining", "used", "resource"].map(|name| text(&format!("x-ratelimit-{name}")));
    let reset: u64 = text("x-ratelimit-reset").parse().unwrap();
    let date = httpdate::parse_http_date(&text("date")).unwrap();
    let date = date.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap();
    (told.join(" "), reset - date.as_secs())
}

#[tokio::test]
async fn headers_are_exact_for_every_way_of_counting() {
    // Whose size, and how far the last reset is from the date: the date is rounded down and the reset up.
    let day = 86_399..=86_402;
    let ways = [
        (Shape::Sliding, 2, day.clone()),
        (Shape::Fixed, 2, day.clone()),
        (Shape::Aligned, 2, 0..=86_401),
        (Shape::bucket(2), 2, day),
        (Shape::bucket(1), 1, 43_199..=43_202),
    ];
    for (shape, size, last_reset) in ways {
        let provider = start(|config| {
            config.github.core = Window::new(2, Duration::from_hours(24));
            config.github.shape = shape;
        })
        .await;
        let client = client();
        let ask = async || quota(&get(&client, &provider, "/user").send().await.unwrap());
        let mut told = Vec::new();
        while told.len() < 4 {
            told.push(ask().await);
        }
        let expected = |call: usize| {
            let used = call.min(size);
            format!("{size} {} {used} core", size - used)
        };
        for (call, (told, _)) in told.iter().enumerate() {
            assert_eq!(*told, expected(call + 1), "{shape}, call {call}");
        }
        assert!(last_reset.contains(&told[3].1), "{shape}: {}", told[3].1);
        assert_eq!(provider.stats().limits["github core"].breaches, 4 - size as u64);
    }
    let silent = start(|config| config.github.headers = false).await;
    let answer = get(&client(), &silent, "/user").send().await.unwrap();
    assert!(
        !answer
            .headers()
            .keys()
            .any(|name| name.as_str().starts_with("x-ratelimit"))
    );
}

#[tokio::test]
async fn a_clock_that_is_off_is_off_in_all_that_is_told() {
    for skew in [-3_600_000, 90_000] {
        let provider = start(|config| config.clock_skew_ms = skew).await;
        let answer = get(&client(), &provider, "/user").send().await.unwrap();
        let date = answer.headers()["date"].to_str().unwrap();
        let told = httpdate::parse_http_date(date).unwrap();
        let told = told.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap();
        let real = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let off = told.as_secs_f64() - real.as_secs_f64() - skew as f64 / 1e3;
        assert!((-5.0..=0.0).contains(&off), "{skew}: {off}");
        let (_, reset) = quota(&answer);
        assert!((3599..=3602).contains(&reset), "{skew}: {reset}");
    }
}

#[tokio::test]
async fn points_are_a_limit_of_their_own() {
    let provider = start(|config| {
        config.github.points = Some(Window::per_minute(11));
        config.github.refusal = Refusal::TooMany;
    })
    .await;
    let client = client();
    let url = format!("{}/repos/o/r/issues", provider.url());
    let write = || client.post(&url).bearer_auth("secret-token").body("{}").send();
    assert_eq!(write().await.unwrap().status(), StatusCode::CREATED);
    assert_eq!(write().await.unwrap().status(), StatusCode::CREATED);
    let third = write().await.unwrap();
    assert_eq!(third.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(
        third.headers()["x-ratelimit-used"],
        "2",
        "points show in no header"
    );
    assert_eq!(third.headers()["retry-after"], "60");
    let read = get(&client, &provider, "/user").send().await.unwrap();
    assert_eq!(read.status(), StatusCode::OK, "one point is left");
    let points = &provider.stats().limits["github points"];
    assert_eq!((points.allowed, points.breaches, points.worst), (3, 1, 16));
}
