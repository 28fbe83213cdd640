//! What becomes of a replayed letter.

use bytes::Bytes;
use shared::claim::{self, Name};
use shared::dead_letter::{DeadLetter, history};
use shared::event::EventId;
use shared::subject::{Service, header, headers};

use super::stage::{Letter, Stage};

#[tokio::test]
async fn bytes_headers_id_and_history_come_back_and_nothing_else_does() {
    let stage = Stage::new().await;
    let bytes: Vec<u8> = (0..=255).cycle().take(700_000).collect();
    let letter = Letter {
        payload: bytes.clone(),
        ..Letter::new("octo:1")
    };
    let mut map = letter.headers();
    map.insert("x-Colour", "red");
    map.append("X-Many", "one");
    map.append("X-Many", "two");
    map.insert(headers::TRACEPARENT, "00-a-b-01");
    map.insert(headers::PLANNED, "1780000000000");

    // All ways in which letters are read: by sequence, after a look at the headers, all of them, and by sequence from
    // a stream made by other hands, which does not answer directly.
    let ways: [&[&str]; 4] = [&["1"], &["--code", "http_500"], &["--all"], &["4"]];
    for (n, way) in ways.into_iter().enumerate() {
        map.insert(headers::MESSAGE_ID, format!("dead:{n}"));
        let sent = stage
            .js
            .publish_with_headers("dead.github", map.clone(), bytes.clone().into());
        sent.await.unwrap().await.unwrap();
        if n == 3 {
            let mut config = stage.dead().await.cached_info().config.clone();
            config.allow_direct = false;
            stage.js.update_stream(&config).await.unwrap();
        }
        let said = stage.weir(&[&["dlq", "replay"], way].concat()).await;
        assert_eq!(said, "replayed 1 dead letter\n");
        let messages = stage.messages("WEIR_github").await;
        let message = messages.last().unwrap();
        assert_eq!(
            (messages.len(), message.subject.as_str()),
            (n + 1, "events.github.high")
        );
        assert_eq!(message.payload, bytes);
        let kept = |name| header(Some(&message.headers), name);
        assert_eq!(
            (kept(headers::ID), kept(headers::ACCEPTED)),
            (Some("octo:1"), Some("1780000000000"))
        );
        let raw = stage.raw_headers("WEIR_github", message.sequence).await;
        for line in [
            "X-Many: one",
            "X-Many: two",
            "x-Colour: red",
            "traceparent: 00-a-b-01",
        ] {
            assert!(raw.lines().any(|found| found == line), "{line} is not in:\n{raw}");
        }
        assert_eq!(
            raw.matches("Nats-").count(),
            2,
            "its message id and its stream:\n{raw}"
        );
        assert_eq!(history(Some(&message.headers))[0].detail, "took too long");
        for gone in [
            headers::ATTEMPTS,
            headers::PLANNED,
            headers::DEAD_CODE,
            headers::DEAD_AT,
        ] {
            assert_eq!(kept(gone), None, "{gone}");
        }
        assert_eq!(stage.count("WEIR_DEAD").await, 0);
    }
}

#[tokio::test]
async fn a_run_that_died_between_sending_and_removing_is_gone_on_with_and_nothing_is_doubled() {
    let stage = Stage::new().await;
    stage.put_many("many", 20).await;
    let dead = stage.dead().await;
    for sequence in 1..=10 {
        let letter = DeadLetter::read(&dead.get_raw_message(sequence).await.unwrap()).unwrap();
        assert!(!letter.replay(&stage.js).await.unwrap().duplicate);
    }
    assert_eq!(
        stage.weir(&["dlq", "replay", "--all"]).await,
        "replayed 20 dead letters\n"
    );
    let waiting = stage.waiting().await;
    assert_eq!(waiting.len(), 20);
    assert!(waiting.values().all(|times| *times == 1), "{waiting:?}");
    assert_eq!(
        stage.weir(&["dlq", "replay", "--all"]).await,
        "replayed 0 dead letters\n"
    );
}

#[tokio::test]
async fn letters_that_cannot_go_back_stay_and_do_not_stop_the_others() {
    let stage = Stage::new().await;
    stage.put_many("many", 2).await;
    for (n, home) in ["", "events.http", "$JS.API.STREAM.PURGE.WEIR_github"]
        .into_iter()
        .enumerate()
    {
        let id = format!("lost-{n}");
        stage
            .put(&Letter {
                home,
                ..Letter::new(id)
            })
            .await;
    }
    let said = stage
        .fails(
            &["dlq", "replay", "--all"],
            1,
            "3 dead letters could not be replayed and stay",
        )
        .await;
    assert_eq!(said, "replayed 2 dead letters\n");
    assert_eq!(stage.ids(&[]).await, ["lost-0", "lost-1", "lost-2"]);
    let said = stage
        .fails(
            &["dlq", "replay", "3", "99"],
            1,
            "dead letter 3 does not say where",
        )
        .await;
    assert_eq!(said, "replayed 0 dead letters\n");
    stage
        .fails(&["dlq", "replay", "3", "99"], 1, "there is no dead letter 99")
        .await;

    // A service that is no more: its letters stay, and those of others go.
    stage.put(&Letter::new("homeless")).await;
    let other = Letter {
        subject: "dead.http",
        home: "events.http",
        ..Letter::new("other")
    };
    stage.put(&other).await;
    stage.js.delete_stream("WEIR_github").await.unwrap();
    let said = stage.fails(&["dlq", "replay", "--all"], 1, "there is no stream WEIR_github");
    assert_eq!(said.await, "replayed 1 dead letter\n");
    assert_eq!(stage.ids(&[]).await, ["lost-0", "lost-1", "lost-2", "homeless"]);
}

/// Over the first of these headers the client library drops its connection each time that they are handed out, over the
/// second it panics.
#[tokio::test]
async fn letters_with_headers_that_no_client_reads_are_listed_shown_and_replayed_without_them() {
    let stage = Stage::new().await;
    stage.put_many("before", 3).await;
    for (id, header) in [("no-text", &b"X-Odd: \xff\xfe"[..]), ("cr", b"X-Odd: a\rb")] {
        let mut head = [b"NATS/1.0\r\n", header, b"\r\n"].concat();
        for (name, values) in Letter::new(id).headers().iter() {
            for value in values {
                head.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            }
        }
        head.extend_from_slice(b"\r\n");
        stage.publish_raw("dead.github", &head, b"{}").await;
        stage.put_many(&format!("behind-{id}"), 1).await;
    }
    let mut ids = stage.ids(&[]).await;
    ids.sort();
    let all = [
        "before-00000",
        "before-00001",
        "before-00002",
        "behind-cr-00000",
        "behind-no-text-00000",
        "cr",
        "no-text",
    ];
    assert_eq!(ids, all);
    assert!(stage.weir(&["dlq", "show", "6"]).await.contains("cr"));
    let replayed = stage.weir(&["dlq", "replay", "--service", "github"]).await;
    assert_eq!(replayed, "replayed 7 dead letters\n");
    assert_eq!(stage.count("WEIR_DEAD").await, 0);
    let waiting = stage.waiting().await;
    assert_eq!((waiting.get("cr"), waiting.get("no-text")), (Some(&1), Some(&1)));
}

#[tokio::test]
async fn a_large_event_is_shown_with_its_bytes_and_goes_back_as_the_reference_that_it_came_as() {
    let stage = Stage::new().await;
    let letter = Letter {
        payload: Vec::new(),
        ..Letter::new("large")
    };
    let (github, id) = (Service::new("github").unwrap(), EventId::new("large").unwrap());
    let (name, body) = (Name::fresh(&github, &id), Bytes::from("large ".repeat(500_000)));
    let most = stage.nats_payload().await;
    claim::put(&stage.js, &name, &body, most).await.unwrap();
    let mut map = letter.headers();
    map.insert(headers::CLAIM, name.as_str());
    let sent = stage.js.publish_with_headers("dead.github", map, Bytes::new());
    sent.await.unwrap().await.unwrap();

    assert_eq!(stage.weir(&["dlq", "show", "1", "--raw"]).await.as_bytes(), body);
    let page = stage.weir(&["dlq", "show", "1"]).await;
    assert!(page.contains("Payload, 3000000 bytes"), "{page}");
    assert_eq!(
        stage.weir(&["dlq", "replay", "1"]).await,
        "replayed 1 dead letter\n"
    );
    let message = &stage.messages("WEIR_github").await[0];
    assert_eq!(
        message.headers.get(headers::CLAIM).unwrap().as_str(),
        name.as_str()
    );
    assert!(message.payload.is_empty());
}
