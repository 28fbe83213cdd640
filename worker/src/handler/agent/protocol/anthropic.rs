//! Anthropic's messages.

use http::StatusCode;
use serde_json::{Value, json};

use super::super::ask::{Json, Request};
use super::{End, Gather, Trouble};

/// Anthropic has no way to ask for JSON of any shape but words.
const ANY_JSON: &str = "Answer with one JSON value and nothing else.";

/// The body of a question. Anthropic takes temperatures up to 1: what is above counts as that.
pub(super) fn body(id: &str, request: &Request) -> Value {
    let mut body = json!({
        "model": id,
        "max_tokens": request.max_tokens,
        "messages": request.messages,
    });
    let words = matches!(request.json, Some(Json::Any)).then_some(ANY_JSON);
    let system: Vec<&str> = request.system.as_deref().into_iter().chain(words).collect();
    if !system.is_empty() {
        body["system"] = json!(system.join("\n\n"));
    }
    if let Some(temperature) = request.temperature {
        body["temperature"] = json!(temperature.min(1.0));
    }
    if !request.stop.is_empty() {
        body["stop_sequences"] = json!(request.stop);
    }
    if let Some(Json::Schema(schema)) = &request.json {
        body["output_config"] = json!({"format": {"type": "json_schema", "schema": schema}});
    }
    if request.stream {
        body["stream"] = json!(true);
    }
    body
}

pub(super) fn whole(gather: &mut Gather, body: &Value) -> Result<(), Trouble> {
    let Some(blocks) = body["content"].as_array() else {
        return Err(Trouble::Malformed("the answer has no content".into()));
    };
    // What the model thought to itself is a block of another type.
    for block in blocks.iter().filter(|block| block["type"] == "text") {
        gather.text.push_str(block["text"].as_str().unwrap_or_default());
    }
    begun(gather, body);
    ended(gather, body)
}

pub(super) fn event(gather: &mut Gather, event: &Value) -> Result<(), Trouble> {
    match event["type"].as_str() {
        Some("message_start") => {
            begun(gather, &event["message"]);
            Ok(())
        }
        Some("content_block_start") => {
            text(gather, &event["content_block"], "text");
            Ok(())
        }
        Some("content_block_delta") => {
            text(gather, &event["delta"], "text_delta");
            Ok(())
        }
        Some("message_delta") => {
            usage(gather, &event["usage"]);
            ended(gather, &event["delta"])
        }
        Some("message_stop") => {
            gather.closed = true;
            Ok(())
        }
        // New ones may come at any time, says the documentation.
        Some(_) => Ok(()),
        None => Err(Trouble::Malformed("an event of the stream has no type".into())),
    }
}

fn text(gather: &mut Gather, block: &Value, kind: &str) {
    if block["type"] == kind {
        gather.text.push_str(block["text"].as_str().unwrap_or_default());
    }
}

fn begun(gather: &mut Gather, message: &Value) {
    gather.call(&message["model"]);
    usage(gather, &message["usage"]);
}

/// The figures of later events are of the whole answer until then; one that cannot be read is one that was not told. What is
/// written into the maker's cache is read too.
fn usage(gather: &mut Gather, usage: &Value) {
    let or_none = |value: &Value| if value.is_null() { Some(0) } else { value.as_u64() };
    let cached = &usage["cache_read_input_tokens"];
    if !cached.is_null() {
        gather.cached = cached.as_u64().unwrap_or(0);
    }
    let input = &usage["input_tokens"];
    if !input.is_null() {
        let kept = or_none(&usage["cache_creation_input_tokens"]);
        let told = input.as_u64().zip(kept).filter(|_| or_none(cached).is_some());
        gather.input = told.map(|(input, kept)| input.saturating_add(kept));
    }
    gather.output = usage["output_tokens"].as_u64();
}

fn ended(gather: &mut Gather, body: &Value) -> Result<(), Trouble> {
    match &body["stop_reason"] {
        Value::Null => {}
        Value::String(reason) => {
            gather.end = Some(match reason.as_str() {
                "end_turn" | "stop_sequence" => End::Stop,
                "max_tokens" | "model_context_window_exceeded" => End::Length,
                "refusal" => End::Refused,
                other => End::Other(other.to_owned()),
            });
        }
        other => return Err(Trouble::Malformed(format!("stop_reason is {other}"))),
    }
    Ok(())
}

/// The status that an error in a stream would have had. Source: Claude API, errors.
pub(super) fn status(error: &Value) -> StatusCode {
    let status = match error["type"].as_str().unwrap_or_default() {
        "invalid_request_error" => 400,
        "authentication_error" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" => 404,
        "request_too_large" => 413,
        "rate_limit_error" => 429,
        "timeout_error" => 504,
        "overloaded_error" => 529,
        _ => 500,
    };
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
