//! Writes of GitHub, which takes no idempotency key: what is written carries a mark that people do not see, and is
//! looked for by it.

use std::time::SystemTime;

use http::Method;
use reqwest::Url;
use serde_json::Value;
use shared::event::Event;
use shared::failure::Failure;
use shared::telemetry::propagation::rfc3339;

use super::call::{Call, describe, route};
use super::{Github, completion};
use crate::effect::{Earlier, Found};
use crate::handler::marker::marker;
use crate::outbound::Answer;
use crate::outbound::classify::date;
use crate::provider::Provider;
use crate::quota::Turn;

/// Lists that show what was posted to the same path, with the text in `body`: comments of issues, reviews and commits,
/// issues, reviews of pull requests.
const LISTED: [&str; 3] = ["comments", "issues", "reviews"];
/// How a mark begins.
const MARK: &str = "<!-- weir:";
/// Entries of a page, the most that GitHub gives.
const PAGE: usize = 100;

/// The body of a call with its mark; `None` where there is nothing to find it by again.
pub(super) fn marked(call: &Call, event: &Event, token: Option<&str>) -> Option<Value> {
    if !listed(call) {
        return None;
    }
    let mut body = call.body.clone()?;
    // A text that brings a mark of its own could pass for another event's.
    let text = body.get("body")?.as_str()?.replace(MARK, "<!-- weir :");
    // A comment of HTML is no part of what people see.
    body["body"] = Value::String(format!("{text}\n\n{MARK}{} -->", marker(event, token)));
    Some(body)
}

fn listed(call: &Call) -> bool {
    let path = call.path.split('?').next().unwrap_or_default();
    let last = path.trim_end_matches('/').rsplit('/').next();
    call.method == "POST" && last.is_some_and(|last| LISTED.contains(&last))
}

/// Looks through the newest entries of the list that the event's call adds to.
pub(super) async fn look_up(
    github: &Github,
    event: &Event,
    earlier: Earlier,
    turn: &Turn,
) -> Result<Found, Failure> {
    if event.kind == super::query::KIND {
        return Ok(Found::CannotTell);
    }
    let Some(call) = describe(event)?.filter(|call| marked(call, event, None).is_some()) else {
        return Ok(Found::CannotTell);
    };
    let mark = format!("{MARK}{}", marker(event, github.credential.lasting()));
    let path = call.path.split('?').next().unwrap_or_default();
    let base = &turn.upstream()?.base;
    let mut url = Url::parse(&format!("{base}{path}")).map_err(|e| Failure::permanent("call", e))?;
    url.query_pairs_mut()
        .append_pair("per_page", &PAGE.to_string())
        .append_pair("state", "all")
        .append_pair("sort", "created")
        .append_pair("direction", "desc")
        .append_pair("since", &rfc3339(earlier.asked_from()));
    let (request, token) = github.request(Method::GET, url, base).await?;
    let request = request.build().map_err(|e| Failure::permanent("request", e))?;
    let answer = github.outbound.call(request, route(&call.path)).await?;
    let reading = turn.answered(&answer);
    let judged = Provider::Github.failure(&answer, &reading, SystemTime::now());
    github.judged(judged, &answer, token).await?;
    found(&answer, &mark, earlier)
}

fn found(answer: &Answer, mark: &str, earlier: Earlier) -> Result<Found, Failure> {
    let entries: Vec<Value> = serde_json::from_slice(&answer.body)
        .map_err(|e| Failure::transient("answer", format!("a list that is none: {e}")))?;
    let ours = |entry: &&Value| entry["body"].as_str().is_some_and(|body| body.contains(mark));
    if let Some(entry) = entries.iter().find(ours) {
        let mut done = completion(answer);
        done.code = "found".into();
        done.result = Some(serde_json::json!({"url": entry["html_url"], "id": entry["id"]}));
        return Ok(Found::Done(done));
    }
    // On a full page the entry may be one of those that are not shown.
    Ok(
        if entries.len() < PAGE && earlier.is_covered(date(&answer.headers)) {
            Found::Nothing
        } else {
            Found::CannotTell
        },
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shared::event::EventId;

    use super::*;

    #[test]
    fn no_text_passes_for_another_events() {
        let (event, other) = (
            Event::new(EventId::generate(), "call"),
            Event::new(EventId::generate(), "call"),
        );
        let forged = format!("{MARK}{} -->", marker(&other, Some("t")));
        let call = Call {
            method: "POST".into(),
            path: "/repos/o/r/issues/1/comments".into(),
            body: Some(json!({"body": format!("hi {forged}"), "draft": true})),
            max_age: None,
        };
        let marked = marked(&call, &event, Some("t")).unwrap();
        let text = marked["body"].as_str().unwrap();
        assert!(
            !text.contains(&forged) && text.ends_with(&format!("{MARK}{} -->", marker(&event, Some("t")))),
            "{text}"
        );
        assert_eq!(marked["draft"], true);
        assert_ne!(
            marker(&event, Some("t")),
            marker(&event, Some("u")),
            "nobody else can make it"
        );
    }
}
