//! Removing letters for good, and being asked about it.

use std::process::Stdio;

use super::stage::{Letter, Stage, WEIR};

#[tokio::test]
async fn letters_are_purged_only_by_those_who_mean_it() {
    let stage = Stage::new().await;
    stage.put_many("many", 300).await;
    let http = Letter {
        subject: "dead.http",
        home: "events.http",
        ..Letter::new("http-1")
    };
    stage.put(&http).await;

    stage.fails(&["dlq", "purge"], 64, "or give --all").await;
    stage.fails(&["dlq", "purge", "--yes"], 64, "or give --all").await;
    for choice in [
        &["--all"][..],
        &["--service", "github"],
        &["--code", "http_500"],
        &["1", "2"],
    ] {
        stage
            .fails(&[&["dlq", "purge"], choice].concat(), 64, "give --yes")
            .await;
    }
    stage
        .fails(
            &["dlq", "purge", "1", "--all", "--yes"],
            64,
            "cannot be used with",
        )
        .await;
    stage
        .fails(
            &["dlq", "purge", "1", "--code", "x", "--yes"],
            64,
            "cannot be used with",
        )
        .await;
    assert_eq!(
        stage.weir(&["dlq", "purge", "--all", "--dry-run"]).await,
        "would purge 301 dead letters\n"
    );
    assert_eq!(
        stage.weir(&["dlq", "purge", "7", "999", "--dry-run"]).await,
        "would purge 1 dead letter\n"
    );
    assert_eq!(stage.count("WEIR_DEAD").await, 301);

    assert_eq!(
        stage.weir(&["dlq", "purge", "2", "3", "--yes"]).await,
        "purged 2 dead letters\n"
    );
    let said = stage
        .fails(
            &["dlq", "purge", "2", "4", "--yes"],
            1,
            "1 of the sequences named no dead letter",
        )
        .await;
    assert_eq!(said, "purged 1 dead letter\n");
    let said = stage
        .weir(&["dlq", "purge", "--id-prefix", "many-001", "--yes"])
        .await;
    let gone: usize = said.split(' ').nth(1).unwrap().parse().unwrap();
    assert!((97..=100).contains(&gone), "{said}");
    let rest = 297 - gone;
    let said = stage
        .weir(&["dlq", "purge", "--service", "github", "--yes"])
        .await;
    assert_eq!(said, format!("purged {rest} dead letters\n"));
    assert_eq!(stage.ids(&[]).await, ["http-1"]);
    assert_eq!(
        stage.weir(&["dlq", "purge", "--all", "--yes"]).await,
        "purged 1 dead letter\n"
    );
    assert_eq!(
        stage.weir(&["dlq", "purge", "--all", "--yes"]).await,
        "purged 0 dead letters\n"
    );
    assert_eq!(
        stage.put(&Letter::new("next")).await,
        302,
        "sequences are not given again"
    );
}

#[tokio::test]
async fn on_a_terminal_it_asks() {
    let stage = Stage::new().await;
    stage.put_many("many", 3).await;
    for (answer, says, left) in [
        ("no", "nothing was purged", 3),
        ("", "nothing was purged", 3),
        ("yes", "purged 3", 0),
    ] {
        let typed = format!("printf '{answer}\\n' | script -qec '\"{WEIR}\" dlq purge --all' /dev/null");
        let mut command = tokio::process::Command::new("sh");
        command.args(["-c", &typed]).current_dir(stage.scratch.path());
        command
            .env("WEIR_NATS_URL", stage.nats.url())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = command.output().await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            text.contains("Purge 3 dead letters? They cannot be brought back."),
            "{text}"
        );
        assert!(text.contains(says), "{text}");
        assert_eq!(output.status.success(), left == 0, "{output:?}");
        assert_eq!(stage.count("WEIR_DEAD").await, left, "{answer:?}");
    }
}
