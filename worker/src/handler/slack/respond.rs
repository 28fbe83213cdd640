//! Answers to interactions and commands: posted to the URL that Slack sent along, which is a credential of its own and
//! good for five messages within half an hour.

use std::time::SystemTime;

use reqwest::Url;
use serde::Deserialize;
use serde_json::{Value, json};
use shared::event::Event;
use shared::failure::Failure;

use super::{Slack, bad, check};
use crate::handler::{Completion, Outcome};
use crate::outbound::classify;
use crate::provider::Provider;
use crate::quota::Turn;

/// The type of events that answer.
pub(super) const KIND: &str = "respond";
/// Where Slack's own URLs are.
const HOST: &str = "hooks.slack.com";

/// Data of such an event.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    response_url: String,
    body: Value,
}

/// Posts the answer. The service's token does not go with it.
pub(super) async fn respond(slack: &Slack, event: &Event, turn: &Turn) -> Outcome {
    let data = event.data.to_json().map_err(|e| bad(&e))?;
    let data = data.ok_or_else(|| bad("it is empty or no JSON"))?;
    let answer: Answer = serde_json::from_value(data).map_err(|e| bad(&e.to_string()))?;
    if !answer.body.is_object() {
        return Err(bad("body must be an object"));
    }
    check::message(&answer.body)?;
    let url = target(&answer.response_url, &turn.upstream()?.url)?;
    let request = slack.outbound.client().post(url).json(&answer.body).build();
    let request = request.map_err(|e| Failure::permanent("request", e.without_url()))?;
    let told = slack.outbound.call(request, KIND).await?;
    let reading = turn.answered(&told);
    let body: Value = serde_json::from_slice(&told.body).unwrap_or_default();
    // `used_url`, `expired_url`: with a 404, or with a 200 as everywhere at Slack.
    let error = body["error"].as_str().filter(|_| body["ok"] == false);
    if let Some(error) = error.filter(|_| reading.refusal.is_none() && !told.status.is_server_error()) {
        return Err(Failure::permanent(error.to_owned(), "refused by Slack"));
    }
    Provider::Slack.failure(&told, &reading, SystemTime::now())?;
    Ok(Completion::with("ok", json!({"said": classify::excerpt(&told)})))
}

/// The URL, when it is one of Slack's or of what stands in for it.
fn target(text: &str, base: &Url) -> Result<Url, Failure> {
    let url = Url::parse(text).map_err(|_| bad("response_url is no URL"))?;
    let slacks = url.scheme() == "https" && url.host_str() == Some(HOST) && url.port().is_none();
    let plain = url.username().is_empty() && url.password().is_none();
    if plain && (slacks || url.origin() == base.origin()) {
        Ok(url)
    } else {
        Err(bad("response_url must be one of https://hooks.slack.com/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_go_to_slack_and_nowhere_else() {
        let base = Url::parse("https://slack.example/api").unwrap();
        for good in [
            "https://hooks.slack.com/commands/T1/2/x",
            "https://hooks.slack.com:443/actions/T1/2/x",
            "https://slack.example/response",
        ] {
            assert!(target(good, &base).is_ok(), "{good}");
        }
        for bad in [
            "",
            "hooks.slack.com/x",
            "http://hooks.slack.com/x",
            "https://hooks.slack.com:8443/x",
            "https://hooks.slack.com.evil.example/x",
            "https://evil.example/hooks.slack.com",
            "https://hooks.slack.com@evil.example/x",
            "https://user:password@hooks.slack.com/x",
            "https://xhooks.slack.com/x",
            "http://slack.example/response",
            "https://slack.example:8443/response",
            "http://127.0.0.1/x",
            "file:///etc/passwd",
        ] {
            assert!(target(bad, &base).is_err(), "{bad}");
        }
    }
}
