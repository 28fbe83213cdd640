//! Batches that fail, wholly or in part.

use super::*;

#[tokio::test]
async fn a_batch_that_fails_as_a_whole() {
    for (status, body, class_and_code) in [
        // Each is to have a call of its own.
        (400, "{}".to_owned(), None),
        (401, "{}".to_owned(), None),
        (
            403,
            error(403, "rateLimitExceeded").1,
            Some(("throttled", "http_403")),
        ),
        (503, String::new(), Some(("transient", "http_503"))),
        (200, "{}".to_owned(), Some(("transient", "answer"))),
        (200, "\u{fffd}".repeat(4 << 20), None),
    ] {
        let api = Api::new(move |_| (status, vec![], body.clone().into_bytes())).await;
        let stage = Stage::new(&KIND, &api.url, &[TOKEN]);
        let events = [get("a"), get("b")];
        for outcome in stage.handle_group(&events).await {
            let expected = class_and_code.map(|(class, code)| (class, code.to_owned()));
            assert_eq!(outcome.as_ref().map(code), expected, "{status}");
        }
    }
}

#[tokio::test]
async fn what_is_cut_off_a_batch_is_asked_for_alone() {
    let api = Api::new(|seen| {
        let (status, headers, mut body) = batch(seen, |path| {
            (!path.contains("long")).then(|| (200, r#"{"id": "a"}"#.to_owned()))
        });
        body.resize(11 << 20, b'x');
        (status, headers, body)
    })
    .await;
    let stage = Stage::new(&KIND, &api.url, &[TOKEN]);
    let outcomes = stage.handle_group(&[get("a"), get("long")]).await;
    let codes: Vec<_> = outcomes
        .iter()
        .map(|outcome| outcome.as_ref().map(code))
        .collect();
    assert_eq!(codes, [Some(("done", "http_200".to_owned())), None]);
}
