//! Several events in one request.

use super::*;

#[tokio::test]
async fn several_go_in_one_request_and_each_has_its_own_outcome() {
    let api = Api::new(|seen| {
        let (query, variables) = asked(seen);
        let mut data = serde_json::Map::new();
        for at in 0..4 {
            let id = &variables[format!("e{at}_id")];
            let name = format!("e{at}_issue");
            if query.contains(&format!("{name}:")) {
                let issue = if id == "gone" {
                    Value::Null
                } else {
                    json!({"id": id})
                };
                data.insert(name, issue);
            }
        }
        let errors = [error("INPUT_ERROR", "invalid input", &json!(["e1_issue"]))];
        told(200, &json!({"data": data, "errors": errors}))
    })
    .await;
    let stage = Stage::new(&KIND, &api.url, &[KEY]);
    let issue = |id: &str| {
        event(
            "call",
            &json!({"query": "query($id: String!) { issue(id: $id) { id } }", "variables": {"id": id}}),
        )
    };
    // The third asks for what the first asks for, the last cannot be read.
    let events = [
        issue("a"),
        issue("gone"),
        issue("a"),
        issue("b"),
        event("call", &json!({"query": "{"})),
    ];
    let keys: Vec<_> = events.iter().map(|event| stage.handler.group(event)).collect();
    assert_eq!(keys[0].as_deref(), Some("query"));
    assert!(keys[..4].iter().all(|key| *key == keys[0]) && keys[4].is_none());
    let outcomes: Vec<_> = stage.handle_group(&events).await.into_iter().flatten().collect();
    let seen = api.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(
        asked(&seen[0]).1,
        json!({"e0_id": "a", "e1_id": "gone", "e2_id": "b"})
    );
    let code = |at: usize| match &outcomes[at] {
        Ok(done) => done.code.to_string(),
        Err(failure) => failure.reason().code.to_string(),
    };
    assert_eq!(
        [0, 1, 2, 3, 4].map(code),
        ["ok", "input_error", "ok", "ok", "call"]
    );
    assert_eq!(
        outcomes[2].as_ref().unwrap().result.as_ref().unwrap()["data"]["issue"]["id"],
        "a"
    );
    assert_eq!(
        outcomes[3].as_ref().unwrap().result.as_ref().unwrap()["data"]["issue"]["id"],
        "b"
    );
}

#[tokio::test]
async fn writes_that_were_there_are_found_and_those_of_which_nothing_is_said_go_alone() {
    let api = Api::new(|seen| {
        let (query, variables) = asked(seen);
        if query.starts_with("mutation") {
            // The first was created before: it takes the others' answers with it.
            return told(400, &json!({"data": null, "errors": [error("INPUT_ERROR", "invalid input", &json!(["e0_issueCreate"]))]}));
        }
        told(200, &json!({"data": {"issue": {"id": variables["id"]}}}))
    })
    .await;
    let stage = Stage::new(&KIND, &api.url, &[KEY]);
    let issue = || event("issue.create", &json!({"teamId": "t", "title": "A"}));
    let events = [issue(), issue(), issue()];
    assert!(
        events
            .iter()
            .all(|event| stage.handler.group(event).as_deref() == Some("mutation"))
    );
    let outcomes = stage.handle_group(&events).await;
    assert_eq!(outcomes[0].as_ref().unwrap().as_ref().unwrap().code, "found");
    assert_eq!(&outcomes[1..], [None, None], "they have calls of their own");
    assert_eq!(api.seen().len(), 2);
}

#[tokio::test]
async fn a_request_that_is_refused_as_a_whole_is_tried_one_by_one() {
    let api = Api::new(|_| {
        let whole = json!({"errors": [{"message": "Variable \"$e1_n\" got invalid value", "extensions": {"code": "GRAPHQL_VALIDATION_FAILED"}}]});
        told(400, &whole)
    })
    .await;
    let stage = Stage::new(&KIND, &api.url, &[KEY]);
    let call = || {
        event(
            "call",
            &json!({"query": "query($n: Int) { issues(first: $n) { nodes { id } } }", "variables": {"n": 1}}),
        )
    };
    let mut events = vec![call(), call()];
    events[1].data = event(
        "call",
        &json!({"query": "query($n: Int) { issues(first: $n) { nodes { id } } }", "variables": {"n": "x"}}),
    )
    .data;
    assert_eq!(stage.handle_group(&events).await, [None, None]);
    // What hits everybody is told to everybody, and nobody goes alone for it.
    for (status, class) in [(503, "transient"), (429, "throttled")] {
        let api = Api::new(move |_| (status, vec![], vec![])).await;
        let stage = Stage::new(&KIND, &api.url, &[KEY]);
        let events = [call(), call()];
        for outcome in stage.handle_group(&events).await {
            assert_eq!(outcome.unwrap().unwrap_err().class(), class);
        }
        assert!(stage.handler.group(&events[0]).is_some());
    }
}
