use serde_json::Value;

use super::*;
use crate::handler::stage::{Api, Stage, event, named, told};
use crate::outbound::credential::tests::KEY_PKCS1;

const TOKEN: (&str, &str) = ("TOKEN", "ghp_x");

fn get(path: &str) -> Event {
    event("call", &json!({"path": path}))
}

fn query(text: &str) -> Event {
    event("graphql", &json!({"query": text}))
}

fn code(outcome: &Outcome) -> (&'static str, String) {
    match outcome {
        Ok(done) => ("done", done.code.to_string()),
        Err(failure) => (failure.class(), failure.reason().code.to_string()),
    }
}

#[tokio::test]
async fn what_is_known_is_asked_for_by_its_tag() {
    let api = Api::new(|seen| {
        if seen.header("if-none-match") == "W/\"1\"" {
            return (304, vec![], vec![]);
        }
        let (status, mut headers, body) = told(200, &json!({"id": 1}));
        headers.push(("etag", "W/\"2\"".into()));
        (status, headers, body)
    })
    .await;
    let stage = Stage::new(&KIND, &api.url, &[TOKEN]);
    let knowing = async |etag: &str| {
        let event = get("/repos/o/r");
        let turn = stage
            .turn()
            .await
            .knowing(vec![(event.id.clone(), etag.to_owned())]);
        stage.handler.handle(&event, &turn).await.unwrap()
    };
    let unchanged = knowing("W/\"1\"").await;
    assert_eq!((&*unchanged.code, unchanged.result), (UNCHANGED, None));
    let changed = knowing("W/\"0\"").await;
    assert_eq!(
        (&*changed.code, changed.etag.as_deref()),
        ("http_200", Some("W/\"2\""))
    );
    let first = stage.handle(&get("/repos/o/r")).await.unwrap();
    assert_eq!((&*first.code, first.result), ("http_200", changed.result));
    let asked: Vec<_> = api
        .seen()
        .iter()
        .map(|seen| seen.header("if-none-match"))
        .collect();
    assert_eq!(asked, ["W/\"1\"", "W/\"0\"", ""]);
    // Nothing was asked conditionally: such an answer is nonsense.
    let api = Api::new(|_| (304, vec![], vec![])).await;
    let stage = Stage::new(&KIND, &api.url, &[TOKEN]);
    assert_eq!(
        code(&stage.handle(&get("/user")).await),
        ("permanent", "http_304".into())
    );
}

#[test]
fn what_has_not_changed_costs_nothing_of_the_primary_limit() {
    let answer = |status: u16| Answer {
        status: StatusCode::from_u16(status).unwrap(),
        headers: http::HeaderMap::new(),
        body: bytes::Bytes::new(),
        cut: false,
    };
    let usage = |status| Provider::Github.read(&answer(status), SystemTime::now()).usage;
    assert_eq!(usage(304), [("requests", 0)]);
    assert_eq!(usage(200), []);
}

#[tokio::test]
async fn an_app_calls_with_tokens_that_it_is_given() {
    let api = Api::new(|seen| {
        if seen.uri.path().ends_with("/access_tokens") {
            return told(201, &json!({"token": format!("ghs_{}", seen.header("authorization").len() > 100), "expires_at": "2999-01-01T00:00:00Z"}));
        }
        told(200, &json!({}))
    })
    .await;
    let app = [
        ("APP_ID", "7"),
        ("APP_INSTALLATION", "42"),
        ("APP_KEY", KEY_PKCS1.as_str()),
    ];
    let stage = Stage::new(&KIND, &api.url, &app);
    for _ in 0..3 {
        stage.handle(&get("/user")).await.unwrap();
    }
    let seen = api.seen();
    let paths: Vec<_> = seen.iter().map(|seen| seen.uri.path()).collect();
    assert_eq!(
        paths,
        ["/app/installations/42/access_tokens", "/user", "/user", "/user"]
    );
    assert_eq!(seen[1].header("authorization"), "Bearer ghs_true");
}

#[tokio::test]
async fn a_token_that_is_not_taken_any_more_is_asked_for_again() {
    let api = Api::new({
        let given = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        move |seen| {
            if seen.uri.path().ends_with("/access_tokens") {
                let n = given.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                return told(
                    201,
                    &json!({"token": format!("ghs_{n}"), "expires_at": "2999-01-01T00:00:00Z"}),
                );
            }
            let good = seen.header("authorization") == "Bearer ghs_1";
            told(
                if good { 200 } else { 401 },
                &json!({"message": "Bad credentials"}),
            )
        }
    })
    .await;
    let app = [
        ("APP_ID", "7"),
        ("APP_INSTALLATION", "42"),
        ("APP_KEY", KEY_PKCS1.as_str()),
    ];
    let stage = Stage::new(&KIND, &api.url, &app);
    assert_eq!(
        code(&stage.handle(&get("/user")).await),
        ("transient", "http_401".into())
    );
    assert_eq!(
        code(&stage.handle(&get("/user")).await),
        ("done", "http_200".into())
    );
    // A token that stays is wrong for good.
    let stage = Stage::new(&KIND, &api.url, &[TOKEN]);
    assert_eq!(
        code(&stage.handle(&get("/user")).await),
        ("permanent", "http_401".into())
    );
}

#[tokio::test]
async fn downloads_are_followed_without_the_token() {
    let store = Api::new(|_| (200, vec![], b"tar".to_vec())).await;
    let target = format!("{}/o/r.tar.gz?sig=1", store.url);
    let api = Api::new(move |seen| {
        let inside = seen.uri.path().ends_with("inside");
        let target = if inside {
            "http://169.254.169.254/x"
        } else {
            &target
        };
        (302, vec![("location", target.to_owned())], vec![])
    })
    .await;
    let urls = format!("{},{}", api.url, store.url);
    let stage = Stage::new(&KIND, &urls, &[TOKEN]);
    let done = stage.handle(&get("/repos/o/r/tarball")).await.unwrap();
    assert_eq!(done.result.unwrap()["bytes"], 3);
    assert_eq!(store.seen()[0].header("authorization"), "");
    let inside = stage.handle(&get("/repos/o/r/inside")).await;
    assert_eq!(code(&inside), ("permanent", "egress".into()));
}

#[tokio::test]
async fn queries_go_together_and_each_has_its_own_outcome() {
    let api = Api::new(|_| {
        let error = json!({"type": "NOT_FOUND", "path": ["e1_repository"], "message": "Could not resolve to a Repository"});
        told(200, &json!({"data": {"e0_repository": {"id": "a"}, "e1_repository": null}, "errors": [error]}))
    })
    .await;
    let stage = Stage::new(&KIND, &api.url, &[TOKEN]);
    let repository = |name: &str| {
        query(&format!(
            "{{ repository(owner: \"o\", name: \"{name}\") {{ id }} }}"
        ))
    };
    let events = [repository("a"), repository("gone"), repository("a")];
    assert!(
        events
            .iter()
            .all(|event| stage.handler.group(event).as_deref() == Some("graphql"))
    );
    let outcomes: Vec<_> = stage.handle_group(&events).await.into_iter().flatten().collect();
    let codes: Vec<_> = outcomes.iter().map(code).collect();
    assert_eq!(
        codes,
        [
            ("done", "ok".into()),
            ("permanent", "not_found".into()),
            ("done", "ok".into())
        ]
    );
    let seen = api.seen();
    assert_eq!((seen.len(), seen[0].uri.path()), (1, "/graphql"));
    let charges = stage
        .handler
        .group_charges(&events.iter().collect::<Vec<_>>(), &stage.limits);
    assert_eq!(
        named(&charges),
        [("graphql".to_owned(), 1), ("graphql-minute".to_owned(), 1)]
    );
}

#[tokio::test]
async fn what_writes_goes_alone_and_costs_more() {
    let stage = Stage::new(&KIND, "http://127.0.0.1:1", &[TOKEN]);
    let write = query("mutation { addStar(input: {starrableId: \"x\"}) { clientMutationId } }");
    assert_eq!(stage.handler.group(&write), None);
    assert_eq!(stage.handler.effect(&write), Effect::Once);
    let content = |name: &str| (name.to_owned(), 1);
    let costs = [
        ("graphql".to_owned(), 1),
        ("graphql-minute".to_owned(), 5),
        content("content"),
        content("content-hour"),
    ];
    assert_eq!(stage.charges(&write), costs);
    for alone in [
        get("/user"),
        query("{"),
        query("{ ...F } fragment F on Query { viewer { id } }"),
    ] {
        assert_eq!(stage.handler.group(&alone), None);
    }
    let lists =
        query("{ viewer { repositories(first: 100) { nodes { issues(first: 100) { nodes { id } } } } } }");
    assert_eq!(stage.handler.group(&lists), None);
    assert_eq!(stage.charges(&lists)[0], ("graphql".to_owned(), 1));
}

#[tokio::test]
async fn every_refusal_has_its_failure() {
    let error = |error: Value| json!({"data": null, "errors": [error]}).to_string();
    let secondary = r#"{"message": "You have exceeded a secondary rate limit."}"#;
    let pool = ("x-ratelimit-resource", "graphql");
    for (status, headers, body, class, code_of) in [
        (
            200,
            vec![pool],
            error(json!({"type": "RATE_LIMITED", "message": "API rate limit exceeded"})),
            "throttled",
            "ratelimited",
        ),
        (403, vec![], secondary.to_owned(), "throttled", "http_403"),
        (
            429,
            vec![("retry-after", "7")],
            String::new(),
            "throttled",
            "http_429",
        ),
        (
            403,
            vec![],
            r#"{"message": "Resource not accessible by integration"}"#.into(),
            "permanent",
            "http_403",
        ),
        (401, vec![], "{}".into(), "permanent", "http_401"),
        (
            502,
            vec![],
            r#"{"message": "We couldn't respond to your request in time."}"#.into(),
            "transient",
            "http_502",
        ),
        (
            200,
            vec![],
            error(json!({"message": "Something went wrong while executing your query."})),
            "transient",
            "internal",
        ),
        (
            200,
            vec![],
            error(json!({"message": "Parse error on \"}\""})),
            "permanent",
            "graphql_error",
        ),
        (
            200,
            vec![],
            error(json!({"type": "FORBIDDEN", "path": ["viewer"], "message": "x"})),
            "permanent",
            "forbidden",
        ),
        (
            200,
            vec![],
            error(json!({"extensions": {"code": "undefinedField"}, "message": "x"})),
            "permanent",
            "undefinedfield",
        ),
        (200, vec![], "<html>".into(), "transient", "answer"),
        (
            200,
            vec![],
            "{\"data\": {\"viewer\"".into(),
            "transient",
            "answer",
        ),
        (200, vec![], "x".repeat(11 << 20), "permanent", "oversized"),
    ] {
        let shown: String = body.chars().take(60).collect();
        let headers: Vec<_> = headers
            .into_iter()
            .map(|(name, value)| (name, value.to_owned()))
            .collect();
        let api = Api::new(move |_| (status, headers.clone(), body.clone().into_bytes())).await;
        let stage = Stage::new(&KIND, &api.url, &[TOKEN]);
        let outcome = stage.handle(&query("{ viewer { id } }")).await;
        assert_eq!(code(&outcome), (class, code_of.to_owned()), "{status} {shown}");
    }
}
