//! Limits that are looked at and changed while a worker runs.

use shared::subject::LIMITS_BUCKET;

use super::stage::{Stage, endpoint, http, reached};

#[tokio::test]
async fn a_running_worker_takes_up_a_limit_that_is_set_and_tells_it() {
    let mut stage = Stage::new().await;
    stage
        .fails(&["limits", "list"], 1, "no worker has said yet")
        .await;
    let (url, mut calls) = endpoint().await;
    let mut worker = stage.worker(&url, "1 per second");
    let before = stage.now(|_| true).await;
    assert_eq!(
        (
            before.provider.as_str(),
            before.limits["requests"].rule.to_string()
        ),
        ("other", "1 per second, burst 1".to_owned())
    );
    // What schedulers tell the demand for workers from.
    assert_eq!((before.concurrency, before.timeout), (50, 30_000));

    // Nobody can do without this word for long: overwritten or deleted, it is said again.
    let bucket = stage.limits().await;
    let spoilt = bucket.put(http().limits_now(), "nonsense".into()).await;
    let again = stage.now_since(spoilt.unwrap(), |_| true).await;
    assert_eq!(again.limits, before.limits);
    let last = bucket.entry(http().limits_now()).await.unwrap().unwrap().revision;
    bucket.delete(http().limits_now()).await.unwrap();
    stage.now_since(last + 1, |_| true).await;

    // Two minutes' worth of work at one call a second.
    for n in 0..120 {
        stage.publish(&format!("e-{n}")).await;
    }
    reached(&mut calls, 2).await;
    let why = stage.weir(&["explain", "http"]).await;
    assert!(
        why.contains("limits allow 59.7 calls a minute (requests: 1 per second, burst 1)"),
        "{why}"
    );
    assert!(why.contains("events can have begun by "), "{why}");
    let event = stage.json(&["explain", "e-100", "--json"]).await;
    assert_eq!(event["verdict"], "waiting", "{event}");
    let place = &event["in_stream"][0];
    assert!((80..=100).contains(&place["before"].as_u64().unwrap()), "{event}");
    assert!(place["begins_at"].is_string(), "{event}");

    let rule = "100 per second, burst 10";
    let said = stage.weir(&["limits", "set", "http", "requests", rule]).await;
    assert!(
        said.starts_with(&format!(
            "http requests: {rule} (was 1 per second, burst 1)\nin force: worker "
        )),
        "{said}"
    );
    reached(&mut calls, 120).await;

    let list = stage.json(&["limits", "list", "--json"]).await;
    let limit = &list["services"][0]["limits"][0];
    assert_eq!(
        (limit["name"].as_str(), limit["rule"].as_str()),
        (Some("requests"), Some(rule))
    );
    // Tickets are booked ahead: some of them were not needed.
    assert!(
        (120.0..130.0).contains(&limit["granted"].as_f64().unwrap()),
        "{limit}"
    );
    assert_eq!(limit["shadow"].as_bool(), Some(false));
    let said = stage.weir(&["limits", "shadow", "http", "requests", "on"]).await;
    assert!(said.contains("only counted (shadow)"), "{said}");
    let page = stage.weir(&["limits", "show", "http", "requests"]).await;
    for part in ["http requests", rule, "only counted, never in the way", " in all"] {
        assert!(page.contains(part), "{part} is not in:\n{page}");
    }
    let said = stage
        .weir(&["limits", "set", "http", "daily", "1000 per day, fixed"])
        .await;
    assert!(
        said.contains("http daily: 1000 per day, fixed (new, for every call)"),
        "{said}"
    );
    let said = stage.weir(&["limits", "reset", "http", "daily"]).await;
    assert!(said.contains("http daily: no limit any more"), "{said}");
    stage
        .fails(
            &["limits", "set", "http", "requests", "5 per 100ms"],
            64,
            "RULE: requests: 5 per 100ms",
        )
        .await;

    // What makes no sense is refused, told, and changes nothing.
    let bucket = stage.js.get_key_value(LIMITS_BUCKET).await.unwrap();
    let broken = r#"{"requests": {"rule": "lots"}}"#;
    let revision = bucket.put(http().limits_set(), broken.into()).await.unwrap();
    let refused = stage.now(|now| now.set == revision).await;
    assert!(
        refused.refused.as_ref().unwrap().contains("is no limit"),
        "{refused:?}"
    );
    assert_eq!(refused.limits["requests"].rule.to_string(), rule);
    let said = stage.run(&["limits", "list"]).await;
    assert!(
        said.stderr.contains("a change was refused by worker"),
        "{}",
        said.stderr
    );
    let said = stage.weir(&["limits", "reset", "http"]).await;
    assert!(
        said.contains("http requests: 1 per second, burst 1 (was "),
        "{said}"
    );
    assert_eq!(worker.try_wait().unwrap(), None, "it runs on");

    // Redis away: told, and what is in force is shown all the same.
    stage.publish("late").await;
    stage.redis.kill().await.unwrap();
    let said = stage.run(&["limits", "list"]).await;
    assert_eq!(said.code, Some(1));
    assert!(said.stdout.contains("1 per second, burst 1"), "{}", said.stdout);
    assert!(said.stderr.contains("is unknown: Redis at "), "{}", said.stderr);
    let why = stage.weir(&["explain", "http"]).await;
    assert!(
        why.contains("Limits cannot be asked, so no call begins until it is back."),
        "{why}"
    );
}

#[tokio::test]
async fn what_is_written_without_a_worker_waits_for_one() {
    let stage = Stage::new().await;
    let said = stage
        .run(&["limits", "set", "http", "requests", "7 per second"])
        .await;
    assert_eq!(said.code, Some(0));
    assert_eq!(
        said.stdout,
        "http: written, and in force as soon as a worker runs\n"
    );
    assert!(said.stderr.contains("no worker has answered"), "{}", said.stderr);
    let said = stage
        .weir(&["limits", "set", "http", "requests", "7 per second"])
        .await;
    assert!(said.contains("as it was wished already"), "{said}");
    for (arguments, says) in [
        (["limits", "set", "http", "requests", "fast"], "<RULE>"),
        (["limits", "set", "http", "a b", "none"], "<NAME>"),
        (["limits", "set", "Http", "requests", "none"], "<SERVICE>"),
        (["limits", "shadow", "http", "requests", "maybe"], "<TURNED>"),
    ] {
        stage.fails(&arguments, 64, says).await;
    }
    let other = ["limits", "set", "other", "requests", "none"];
    stage
        .fails(&other, 1, "SERVICE: other is none of the fleet's")
        .await;

    let (url, _calls) = endpoint().await;
    let _worker = stage.worker(&url, "1 per second");
    let now = stage.now(|_| true).await;
    assert_eq!(now.limits["requests"].rule.to_string(), "7 per second, burst 1");
}
