use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderName;

use super::*;

type Seen = Arc<Mutex<Vec<(String, HeaderMap)>>>;

/// A server on loopback: `/to/<n>` answers status `n` and leads to what the query says.
async fn server() -> (String, Seen) {
    async fn answer(State(seen): State<Seen>, request: axum::extract::Request) -> Response {
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        let mut seen = seen.lock().unwrap();
        seen.push((path.to_owned(), request.headers().clone()));
        let status = path.strip_prefix("/to/").and_then(|status| status.parse().ok());
        let target = query.replace("{n}", &seen.len().to_string());
        match status {
            Some(status) => (StatusCode::from_u16(status).unwrap(), [("location", target)]).into_response(),
            None => "here".into_response(),
        }
    }
    let seen = Seen::default();
    let app = Router::new().fallback(answer).with_state(Arc::clone(&seen));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (url, seen)
}

fn outbound(own: &[&str]) -> Outbound {
    shared::lifecycle::install_tls();
    Outbound::new(4, false, Egress::new(&[], own.iter().copied())).unwrap()
}

fn get(outbound: &Outbound, url: &str) -> Request {
    let headers = [
        ("authorization", "Bearer hunter2"),
        ("cookie", "c"),
        ("x-api-key", "k"),
        ("accept", "text/plain"),
    ];
    let request = outbound.client().get(url);
    let request = headers.iter().fold(request, |request, (name, value)| {
        request.header(HeaderName::from_static(name), *value)
    });
    request.build().unwrap()
}

#[tokio::test]
async fn redirects_are_followed_only_when_asked_for_and_never_with_a_credential_to_others() {
    let (here, seen_here) = server().await;
    let (there, seen_there) = server().await;
    let outbound = outbound(&[&here, &there]);
    let target = format!("{here}/to/302?{there}/x");
    let answer = outbound.call(get(&outbound, &target), "test").await.unwrap();
    assert_eq!(answer.status, StatusCode::FOUND);
    assert!(seen_there.lock().unwrap().is_empty());

    for status in [301, 302, 303, 307, 308] {
        let target = format!("{here}/to/{status}?{there}/x");
        let answer = outbound.fetch(get(&outbound, &target), "test").await.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"here"[..]));
    }
    for (_, headers) in seen_there.lock().unwrap().drain(..) {
        assert_eq!(headers["accept"], "text/plain");
        for secret in ["authorization", "cookie", "x-api-key"] {
            assert!(!headers.contains_key(secret), "{secret}");
        }
    }
    seen_here.lock().unwrap().clear();
    let answer = outbound
        .fetch(get(&outbound, &format!("{here}/to/302?/to/307?/y")), "test")
        .await;
    assert_eq!(answer.unwrap().status, StatusCode::OK);
    let seen = seen_here.lock().unwrap();
    assert!(
        seen.iter()
            .all(|(_, headers)| headers["authorization"] == "Bearer hunter2")
    );
    assert_eq!(seen.len(), 3);
}

#[tokio::test]
async fn a_credential_that_was_left_behind_does_not_come_back() {
    let (here, seen_here) = server().await;
    let (there, _) = server().await;
    let outbound = outbound(&[&here, &there]);
    let target = format!("{here}/to/302?{there}/to/302?{here}/back");
    outbound.fetch(get(&outbound, &target), "test").await.unwrap();
    let (path, headers) = seen_here.lock().unwrap().pop().unwrap();
    assert_eq!(path, "/back");
    assert!(!headers.contains_key("authorization"));
}

#[tokio::test]
async fn redirects_that_lead_inside_or_nowhere() {
    let (here, seen) = server().await;
    let (inside, seen_inside) = server().await;
    let outbound = outbound(&[&here]);
    let port = inside.rsplit_once(':').unwrap().1;
    for (target, code) in [
        (format!("{inside}/x"), "egress"),
        (format!("http://localhost:{port}/x"), "egress"),
        (format!("http://[::ffff:127.0.0.1]:{port}/x"), "egress"),
        (format!("http://0x7f.1:{port}/x"), "egress"),
        ("http://169.254.169.254/latest/meta-data/".into(), "egress"),
        (format!("//127.0.0.1:{port}/x"), "egress"),
        ("ftp://8.8.8.8/x".into(), "redirect"),
        ("file:///etc/passwd".into(), "redirect"),
        ("http://[".into(), "redirect"),
        // Round and round.
        (
            "/to/302?/to/302?/to/302?/to/302?/to/302?/to/302?/to/302?/x".into(),
            "redirect",
        ),
    ] {
        seen.lock().unwrap().clear();
        let request = get(&outbound, &format!("{here}/to/302?{target}"));
        let failure = outbound.fetch(request, "test").await.unwrap_err();
        assert_eq!(
            (failure.class(), &*failure.reason().code),
            ("permanent", code),
            "{target}"
        );
        assert!(seen.lock().unwrap().len() <= MAX_HOPS + 1, "{target}");
    }
    assert!(seen_inside.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_writes_is_not_made_again_elsewhere() {
    let (here, seen) = server().await;
    let outbound = outbound(&[&here]);
    let request = outbound
        .client()
        .post(format!("{here}/to/307?/x"))
        .body("b")
        .build()
        .unwrap();
    let answer = outbound.fetch(request, "test").await.unwrap();
    assert_eq!((answer.status.as_u16(), seen.lock().unwrap().len()), (307, 1));
}
