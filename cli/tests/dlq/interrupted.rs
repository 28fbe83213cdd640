//! Replays that do not come to their end: nothing is lost, nothing is doubled, and the same command goes on.

use std::collections::BTreeMap;

use shared::config::fleet::Streams;

use super::stage::{Stage, noted, said, signal, until};

fn once_each(waiting: &BTreeMap<String, usize>, count: usize) {
    assert_eq!(waiting.len(), count);
    let twice: Vec<_> = waiting.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

#[tokio::test]
async fn ctrl_c_ends_it_in_order_and_a_second_run_does_the_rest() {
    let stage = Stage::new().await;
    stage.put_many("many", 1500).await;
    let child = stage
        .command(&["dlq", "replay", "--all", "--rate", "300/s"])
        .spawn()
        .unwrap();
    until("some are replayed", async || {
        (stage.count("WEIR_github").await >= 100).then_some(())
    })
    .await;
    signal("INT", &child);
    let first = said(child).await;
    assert_eq!(first.code, Some(1), "{first:?}");
    for part in [
        "interrupted: nothing is lost",
        "the same command goes on",
        "--before 20",
    ] {
        assert!(first.stderr.contains(part), "{first:?}");
    }
    let done = stage.count("WEIR_github").await;
    assert_eq!(first.stdout, format!("replayed {done} dead letters\n"));
    assert!(done < 1500, "it was interrupted");
    assert_eq!(
        stage.count("WEIR_DEAD").await,
        1500 - done,
        "all that were sent are removed"
    );
    let rest = 1500 - done;
    assert_eq!(
        stage.weir(&["dlq", "replay", "--all"]).await,
        format!("replayed {rest} dead letters\n")
    );
    once_each(&stage.waiting().await, 1500);
    assert_eq!(stage.count("WEIR_DEAD").await, 0);
}

#[tokio::test]
async fn a_killed_replay_is_gone_on_with_and_every_event_comes_once() {
    let stage = Stage::new().await;
    stage.put_many("many", 3000).await;
    for _ in 0..3 {
        let before = stage.count("WEIR_github").await;
        let child = stage
            .command(&["dlq", "replay", "--service", "github", "--rate", "2000/s"])
            .spawn()
            .unwrap();
        let some = async || (stage.count("WEIR_github").await >= before + 300).then_some(());
        until("some more are replayed", some).await;
        signal("KILL", &child);
        assert_eq!(said(child).await.code, None);
    }
    let left = stage.count("WEIR_DEAD").await;
    assert!(left > 0, "it was killed in the middle");
    assert_eq!(
        stage.weir(&["dlq", "replay", "--all"]).await,
        format!("replayed {left} dead letters\n")
    );
    once_each(&stage.waiting().await, 3000);
    assert_eq!(stage.count("WEIR_DEAD").await, 0);
}

#[tokio::test]
async fn a_server_that_goes_away_and_comes_back_is_waited_for() {
    let mut stage = Stage::new().await;
    stage.put_many("many", 1500).await;
    let child = stage
        .command(&["dlq", "replay", "--all", "--rate", "300/s"])
        .spawn()
        .unwrap();
    until("some are replayed", async || {
        (stage.count("WEIR_github").await >= 100).then_some(())
    })
    .await;
    stage.nats.restart().await.unwrap();
    let said = said(child).await;
    assert_eq!(
        (said.code, said.stdout.as_str()),
        (Some(0), "replayed 1500 dead letters\n"),
        "{said:?}"
    );
    once_each(&stage.waiting().await, 1500);
    assert_eq!(stage.count("WEIR_DEAD").await, 0);

    // One that stays away is not waited for longer than asked.
    stage.put_many("more", 200).await;
    let replay = ["dlq", "replay", "--all", "--rate", "10/s", "--patience", "200ms"];
    let child = stage.command(&replay).spawn().unwrap();
    until("one more is replayed", async || {
        (stage.count("WEIR_github").await > 1500).then_some(())
    })
    .await;
    stage.nats.stop().await.unwrap();
    let said = super::stage::said(child).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stderr.contains("for 200ms: nothing is lost"), "{said:?}");
}

#[tokio::test]
async fn a_full_stream_is_waited_for_and_then_left() {
    let stage = Stage::with(Streams {
        max_messages: 50,
        ..Streams::default()
    })
    .await;
    stage.put_many("many", 120).await;
    let full = "github: its stream has no room: maximum messages exceeded";
    let said = stage
        .run(&["dlq", "replay", "--all", "--patience", "300ms"])
        .await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert_eq!(said.stdout, "replayed 50 dead letters\n");
    assert!(
        said.stderr.contains(full) && said.stderr.contains("for 300ms: nothing is lost"),
        "{said:?}"
    );
    assert_eq!(stage.count("WEIR_DEAD").await, 70);

    let mut child = stage.command(&["dlq", "replay", "--all"]).spawn().unwrap();
    noted(&mut child, full).await;
    let mut ids = stage.work_off(120).await;
    let said = super::stage::said(child).await;
    assert_eq!(
        (said.code, said.stdout.as_str()),
        (Some(0), "replayed 70 dead letters\n")
    );
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 120);
    assert_eq!(
        (stage.count("WEIR_DEAD").await, stage.count("WEIR_github").await),
        (0, 0)
    );

    // Told to stop while it waits, it does not wait to the end.
    stage.put_many("more", 130).await;
    let mut child = stage
        .command(&["dlq", "replay", "--all", "--patience", "10m"])
        .spawn()
        .unwrap();
    noted(&mut child, full).await;
    signal("TERM", &child);
    let said = super::stage::said(child).await;
    assert_eq!(
        (said.code, said.stdout.as_str()),
        (Some(1), "replayed 50 dead letters\n")
    );
}
