//! Which letters are taken.

use super::stage::{Letter, Stage};

const DAY: u64 = 86_400_000;

#[tokio::test]
async fn every_filter_takes_what_it_says_in_list_replay_and_purge() {
    let stage = Stage::new().await;
    let plain = Letter::new("a-1");
    let letters = [
        plain.clone(),
        Letter {
            code: "timeout",
            id: "a-2".into(),
            ..plain.clone()
        },
        Letter {
            subject: "dead.http",
            home: "events.http",
            id: "b-1".into(),
            reason: "Connection REFUSED by the endpoint",
            ..plain.clone()
        },
        Letter {
            id: "b-2".into(),
            home: "events.github.low.acme",
            at: plain.at + DAY,
            ..plain.clone()
        },
        Letter {
            id: "b-22".into(),
            home: "events.github.normal.other",
            attempts: 9,
            at: plain.at + 2 * DAY,
            ..plain.clone()
        },
    ];
    for letter in &letters {
        stage.put(letter).await;
    }
    // Somebody else's message is nobody's letter, and stays.
    stage
        .js
        .publish("dead.GitHub", "x".into())
        .await
        .unwrap()
        .await
        .unwrap();

    // 2026-09-21T14:13:20Z is when the first three died.
    for (filter, ids) in [
        (vec!["--service", "http"], vec!["b-1"]),
        (vec!["--code", "timeout"], vec!["a-2"]),
        (vec!["--reason", "connection refused"], vec!["b-1"]),
        (vec!["--id", "b-2"], vec!["b-2"]),
        (vec!["--id-prefix", "b-2"], vec!["b-2", "b-22"]),
        (vec!["--lane", "low"], vec!["b-2"]),
        (vec!["--lane", "normal"], vec!["b-1", "b-22"]),
        (vec!["--tenant", "acme"], vec!["b-2"]),
        (vec!["--after", "2026-09-22"], vec!["b-2", "b-22"]),
        (
            vec!["--before", "2026-09-22T00:00:00Z"],
            vec!["a-1", "a-2", "b-1"],
        ),
        (
            vec!["--after", "2026-09-22", "--before", "2026-09-23"],
            vec!["b-2"],
        ),
        (vec!["--before", "1d"], vec!["a-1", "a-2", "b-1", "b-2", "b-22"]),
        (vec!["--after", "1h"], vec![]),
        (vec!["--min-attempts", "4"], vec!["b-22"]),
        (
            vec!["--service", "github", "--id-prefix", "b", "--min-attempts", "4"],
            vec!["b-22"],
        ),
        (vec!["--service", "http", "--lane", "high"], vec![]),
    ] {
        assert_eq!(stage.ids(&filter).await, ids, "{filter:?}");
    }
    for (arguments, says) in [
        (vec!["--after", "1h", "--before", "2h"], "no letter fits both"),
        (vec!["--after", "soon"], "is no time"),
        (vec!["--lane", "urgent"], "possible values: high, normal, low"),
        (vec!["--tenant", "a b"], "--tenant"),
        (vec!["--id", "a", "--id-prefix", "b"], "cannot be used with"),
    ] {
        for command in ["list", "replay", "purge"] {
            stage
                .fails(&[&["dlq", command], &arguments[..]].concat(), 64, says)
                .await;
        }
    }

    let said = stage.weir(&["dlq", "replay", "--tenant", "acme"]).await;
    assert_eq!(said, "replayed 1 dead letter\n");
    let said = stage
        .weir(&["dlq", "purge", "--lane", "normal", "--service", "github", "--yes"])
        .await;
    assert_eq!(said, "purged 1 dead letter\n");
    assert_eq!(stage.ids(&[]).await, ["a-1", "a-2", "b-1"]);
    let said = stage.weir(&["dlq", "replay", "--all"]).await;
    assert_eq!(said, "replayed 3 dead letters\n");
    assert_eq!(stage.count("WEIR_DEAD").await, 1, "what is none of Weir's stays");
    assert_eq!(stage.count("WEIR_http").await, 1);
}

#[tokio::test]
async fn a_long_list_comes_in_pages_and_ends_where_nobody_reads_on() {
    let stage = Stage::new().await;
    stage.put_many("many", 1500).await;
    let table = stage.weir(&["dlq", "list", "--limit", "1400"]).await;
    let headings = table.lines().filter(|line| line.contains("REASON")).count();
    assert_eq!((headings, table.lines().count() - headings), (2, 1400));
    let head = "\"$0\" dlq list --json --limit 1000000 | head -n 2";
    let mut command = tokio::process::Command::new("sh");
    command.args(["-c", head, super::stage::WEIR]);
    command
        .env("WEIR_NATS_URL", stage.nats.url())
        .current_dir(stage.scratch.path());
    let output = command.output().await.unwrap();
    assert_eq!(output.stdout.split(|byte| *byte == b'\n').count(), 3);
    assert!(output.stderr.is_empty(), "{output:?}");
}
