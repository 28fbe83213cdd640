//! What is read, and asked for again by its tag.

use super::*;

#[tokio::test]
async fn metadata_are_asked_for_again_by_their_tag() {
    let answer = |asked: &str| {
        if asked.contains("\"v1\"") {
            (304, String::new())
        } else {
            (200, json!({"id": "a", "name": "A"}).to_string())
        }
    };
    let api = Api::new(move |seen| {
        if seen.uri.path() == "/batch/drive/v3" {
            return batch(seen, |part| Some(answer(part)));
        }
        let (status, body) = answer(&seen.header("if-none-match"));
        (status, vec![("etag", "\"v2\"".to_owned())], body.into_bytes())
    })
    .await;
    let stage = Stage::new(&KIND, &api.url, &[TOKEN]);
    let first = stage.handle(&get("a")).await.unwrap();
    assert_eq!(
        (&*first.code, first.etag.as_deref()),
        ("http_200", Some("\"v2\""))
    );
    let turn = |event: &Event| {
        let known = vec![(event.id.clone(), "\"v1\"".to_owned())];
        async { stage.turn().await.knowing(known) }
    };
    let again = get("a");
    let turn = turn(&again).await;
    assert_eq!(
        stage.handler.handle(&again, &turn).await,
        Ok(Completion::new(UNCHANGED))
    );
    // Of two that ask the same, only one knows what it was: they are two questions.
    api.seen();
    let outcomes = stage
        .handle_knowing(&[get("a"), get("a"), get("a")], &[(0, "\"v1\""), (2, "\"v1\"")])
        .await;
    let codes: Vec<_> = outcomes.iter().flatten().map(code).collect();
    let expected = ["http_304", "http_200", "http_304"].map(|code| ("done", code.to_owned()));
    assert_eq!(codes, expected);
    let seen = String::from_utf8_lossy(&api.seen()[0].body).into_owned();
    assert_eq!(
        (
            seen.matches("HTTP/1.1").count(),
            seen.matches("If-None-Match").count()
        ),
        (2, 1)
    );
}

#[tokio::test]
async fn what_is_read_is_named_and_what_is_fetched_ahead_is_the_same() {
    let stage = Stage::new(&KIND, "http://127.0.0.1:1", &[TOKEN]);
    let read = |event: &Event| stage.handler.read(event);
    let of = |id: &str, fields: &str| {
        read(&event(
            "file.get",
            &json!({"id": id, "fields": fields, "max_age": 600}),
        ))
        .unwrap()
    };
    let file = of("a", "id");
    assert_eq!(
        (file.tags.as_slice(), file.max_age, file.is_news),
        (
            &["drive-file:a".to_owned()][..],
            Some(Duration::from_secs(600)),
            false
        )
    );
    assert_ne!(
        file.name,
        of("a", "name").name,
        "other fields are another question"
    );
    assert_ne!(file.name, of("b", "id").name);
    let long = of(&"x".repeat(256), "id");
    assert!(long.tags[0].len() <= shared::cache::MAX_TAG);
    let call = event("call", &json!({"path": "/files/a?fields=id"}));
    assert_eq!(read(&call).unwrap().tags, ["drive-file:a"]);
    assert_eq!(read(&call).unwrap().max_age, None);
    let list = event("call", &json!({"path": "/files?q=x"}));
    assert_eq!(read(&list).unwrap().tags, [""; 0]);
    for first in [file, read(&list).unwrap()] {
        let (kind, data) = first.again.clone();
        assert_eq!(read(&event(kind, &data)), Some(first));
    }
    for (kind, data) in [
        ("call", json!({"path": "/files/a", "method": "DELETE"})),
        ("call", json!({"path": "/files/a", "body": {}})),
        ("call", json!({"path": "files"})),
        ("file.create", json!({"metadata": {}})),
        ("changes", json!({})),
        ("something", json!({})),
    ] {
        assert_eq!(read(&event(kind, &data)), None, "{kind} {data}");
    }
}
