//! OpenAI's chat completions, and what speaks like it.

use http::StatusCode;
use serde_json::{Value, json};

use super::super::ask::{Json, Request};
use super::{End, Gather, Protocol, Trouble};

/// The body of a question. OpenAI and xAI call the bound of an answer `max_completion_tokens`, the rest of the world
/// still `max_tokens`.
pub(super) fn body(protocol: Protocol, id: &str, request: &Request) -> Value {
    let system = request
        .system
        .iter()
        .map(|text| json!({"role": "system", "content": text}));
    let said = request
        .messages
        .iter()
        .map(|message| json!({"role": message.role, "content": message.content}));
    let most = match protocol {
        Protocol::Compatible => "max_tokens",
        Protocol::Openai | Protocol::Xai | Protocol::Anthropic => "max_completion_tokens",
    };
    let mut body = json!({
        "model": id,
        "messages": system.chain(said).collect::<Vec<_>>(),
        most: request.max_tokens,
    });
    if let Some(temperature) = request.temperature {
        body["temperature"] = json!(temperature);
    }
    if !request.stop.is_empty() {
        body["stop"] = json!(request.stop);
    }
    match &request.json {
        None => {}
        Some(Json::Any) => body["response_format"] = json!({"type": "json_object"}),
        Some(Json::Schema(schema)) => {
            let named = json!({"name": "answer", "schema": schema, "strict": true});
            body["response_format"] = json!({"type": "json_schema", "json_schema": named});
        }
    }
    if request.stream {
        body["stream"] = json!(true);
        // The last chunk tells the use then.
        body["stream_options"] = json!({"include_usage": true});
    }
    body
}

pub(super) fn whole(gather: &mut Gather, body: &Value) -> Result<(), Trouble> {
    let Some(choice) = body["choices"].get(0) else {
        return Err(Trouble::Malformed("the answer has no choices".into()));
    };
    take(gather, body, &choice["message"])?;
    ended(gather, choice);
    Ok(())
}

pub(super) fn event(gather: &mut Gather, chunk: &Value) -> Result<(), Trouble> {
    // The chunk with the use has no choice.
    let choice = chunk["choices"].get(0).unwrap_or(&Value::Null);
    take(gather, chunk, &choice["delta"])?;
    ended(gather, choice);
    Ok(())
}

fn take(gather: &mut Gather, body: &Value, message: &Value) -> Result<(), Trouble> {
    gather.call(&body["model"]);
    match &message["content"] {
        Value::String(text) => gather.text.push_str(text),
        Value::Null => {}
        other => return Err(Trouble::Malformed(format!("content is {}", kind(other)))),
    }
    gather.refusal |= message["refusal"].as_str().is_some_and(|text| !text.is_empty());
    let usage = &body["usage"];
    if usage.is_object() {
        // A figure that cannot be read is one that was not told.
        let figure = |name: &str| usage[name].as_u64();
        let (prompt, written) = (figure("prompt_tokens"), figure("completion_tokens"));
        let cached = usage["prompt_tokens_details"]["cached_tokens"]
            .as_u64()
            .unwrap_or(0);
        // xAI counts what a model thought to itself in the total only.
        let total = figure("total_tokens").zip(prompt);
        let rest = total.map(|(total, prompt)| total.saturating_sub(prompt));
        gather.cached = cached.min(prompt.unwrap_or(0));
        gather.input = prompt.map(|prompt| prompt - gather.cached);
        gather.output = written.max(rest);
    }
    Ok(())
}

fn ended(gather: &mut Gather, choice: &Value) {
    if let Some(reason) = choice["finish_reason"].as_str() {
        gather.end = Some(match reason {
            "stop" => End::Stop,
            "length" => End::Length,
            "content_filter" => End::Refused,
            other => End::Other(other.to_owned()),
        });
    }
}

/// The status that an error in a stream would have had.
pub(super) fn status(error: &Value) -> StatusCode {
    let is = |word: &str| error["type"] == word || error["code"] == word;
    if is("rate_limit_exceeded") || is("insufficient_quota") || is("tokens") || is("requests") {
        StatusCode::TOO_MANY_REQUESTS
    } else if is("invalid_request_error") || is("content_filter") || is("content_policy_violation") {
        StatusCode::BAD_REQUEST
    } else {
        StatusCode::INTERNAL_SERVER_ERROR
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
        Value::Number(_) | Value::Bool(_) | Value::Null | Value::String(_) => "no text",
    }
}
