//! Warming of caches, as the leader tells it: `GET /api/warm` for everybody, `GET /api/warm/explain?service=&key=` for those who
//! have a token for the service, because it shows names of what people ask for. Any replica asks the leader.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::client::{Request, RequestErrorKind};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use shared::bearer::{NotAllowed, Tokens};
use shared::subject::{Service, WARM_ASK};
use shared::warm::{Question, Reply};

/// How long the leader may take.
pub const WITHIN: Duration = Duration::from_secs(5);
/// Longest query.
const LONGEST: usize = 2048;

#[derive(Debug, Clone)]
struct Leader {
    client: async_nats::Client,
    tokens: Tokens,
}

/// The routes. Questions that show names need one of these tokens.
pub fn routes(client: async_nats::Client, tokens: Tokens) -> Router {
    Router::new()
        .route("/api/warm", get(status))
        .route("/api/warm/explain", get(explain))
        .with_state(Leader { client, tokens })
}

/// Asks whoever leads.
///
/// # Errors
/// Nobody does, or it does not answer in time: told in words.
pub async fn ask(client: &async_nats::Client, question: &Question) -> Result<Reply, String> {
    let question = serde_json::to_vec(question).map_err(|error| error.to_string())?;
    let request = Request::new().payload(question.into()).timeout(Some(WITHIN));
    let answer = client.send_request(WARM_ASK, request).await;
    let answer = answer.map_err(|error| match error.kind() {
        RequestErrorKind::NoResponders => "no scheduler leads, or none is there".to_owned(),
        _ => format!("the leader does not answer: {error}"),
    })?;
    serde_json::from_slice(&answer.payload)
        .map_err(|error| format!("what the leader answers makes no sense: {error}"))
}

async fn status(State(leader): State<Leader>) -> Response {
    match ask(&leader.client, &Question::Status).await {
        Ok(Reply::Status(status)) => answer(&status),
        Ok(Reply::Explained(_)) => unavailable("the leader answers another question"),
        Ok(Reply::Not(why)) | Err(why) => unavailable(&why),
    }
}

async fn explain(State(leader): State<Leader>, headers: HeaderMap, RawQuery(query): RawQuery) -> Response {
    let token = match leader.tokens.authenticate(&headers) {
        Ok(token) => token,
        Err(why) => return problem(StatusCode::UNAUTHORIZED, "Token needed", &why.to_string()),
    };
    let (service, key) = match read(query.as_deref().unwrap_or_default()) {
        Ok(asked) => asked,
        Err(why) => return problem(StatusCode::BAD_REQUEST, "Wrong question", &why),
    };
    if let Err(why @ NotAllowed::OtherService(..)) = token.check(&service) {
        return problem(
            StatusCode::FORBIDDEN,
            "Token not for this service",
            &why.to_string(),
        );
    }
    let question = Question::Explain {
        service: service.to_string(),
        key,
    };
    match ask(&leader.client, &question).await {
        Ok(Reply::Explained(keys)) => answer(&keys),
        Ok(Reply::Not(why)) => problem(StatusCode::BAD_REQUEST, "Wrong question", &why),
        Ok(Reply::Status(_)) => unavailable("the leader answers another question"),
        Err(why) => unavailable(&why),
    }
}

fn read(query: &str) -> Result<(Service, String), String> {
    if query.len() > LONGEST {
        return Err(format!("a query has at most {LONGEST} bytes"));
    }
    let mut given: BTreeMap<String, String> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let service = given.remove("service").ok_or("service is missing")?;
    let service = Service::new(service).map_err(|why| format!("service {why}"))?;
    let key = given.remove("key").filter(|key| !key.is_empty());
    let key = key.ok_or("key is missing: an id in hex, or a part of a name")?;
    match given.into_keys().next() {
        Some(other) => Err(format!("{other:?} is none of service, key")),
        None => Ok((service, key)),
    }
}

fn answer(value: &impl serde::Serialize) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(value)).into_response()
}

fn unavailable(why: &str) -> Response {
    let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, "Warming is not known", why);
    let after = axum::http::HeaderValue::from_static("5");
    response.headers_mut().insert(header::RETRY_AFTER, after);
    response
}

fn problem(status: StatusCode, title: &str, detail: &str) -> Response {
    let body = json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail});
    let headers = [
        (header::CONTENT_TYPE, "application/problem+json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, body.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]

    use super::*;

    #[test]
    fn a_question_names_service_and_key_and_nothing_else() {
        let (service, key) = read("service=github&key=GET+%2Frepos").unwrap();
        assert_eq!((service.as_str(), key.as_str()), ("github", "GET /repos"));
        for (query, why) in [
            ("", "service is missing"),
            ("service=github", "key is missing"),
            ("service=github&key=", "key is missing"),
            ("service=No&key=a", "service must be"),
            ("service=github&key=a&x=1", "\"x\" is none of"),
            (&"a".repeat(3000), "at most"),
        ] {
            let refused = read(query).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
    }
}
