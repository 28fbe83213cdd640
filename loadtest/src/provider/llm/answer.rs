//! Answers, whole and in pieces.

use serde_json::{Value, json};

use super::{Api, BYTES_A_TOKEN, Question, Reply, Used, fingerprint, status};

/// Bytes of a piece of a stream.
const PIECE: usize = 8;

/// What an answer says, and whether the bound of tokens cut it.
fn said(question: &Question) -> (String, bool) {
    let wish = question
        .last
        .rsplit_once("[[say:")
        .and_then(|(_, rest)| Some(rest.split_once("]]")?.0));
    let mut text = match (wish, &question.says) {
        (Some(text), _) => text.to_owned(),
        (None, Some(text)) => text.clone(),
        (None, None) => format!("{} says {:016x}.", question.model, fingerprint(&question.text)),
    };
    if let Some(at) = question
        .stop
        .iter()
        .filter_map(|stop| text.find(stop.as_str()))
        .min()
    {
        text.truncate(at);
    }
    let most = usize::try_from(question.most)
        .unwrap_or(usize::MAX)
        .saturating_mul(BYTES_A_TOKEN);
    let cut = text.len() > most;
    if cut {
        text.truncate(text.floor_char_boundary(most));
    }
    (text, cut)
}

pub(super) fn used(question: &Question) -> Used {
    let tokens = |text: &str| text.len().div_ceil(BYTES_A_TOKEN).max(1) as u64;
    Used {
        input: tokens(&question.text),
        output: tokens(&said(question).0),
    }
}

fn usage(api: Api, question: &Question) -> Value {
    let Used { input, output } = used(question);
    match api {
        Api::Anthropic => {
            json!({"input_tokens": input, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
            "output_tokens": output})
        }
        _ => json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output}),
    }
}

fn id(question: &Question) -> String {
    format!("sim-{:016x}", fingerprint(&question.text))
}

pub(super) fn whole(api: Api, question: &Question) -> Reply {
    let (text, cut) = said(question);
    let usage = usage(api, question);
    let body = match api {
        Api::Anthropic => json!({
            "id": id(question), "type": "message", "role": "assistant", "model": question.model,
            "content": [{"type": "text", "text": text}],
            "stop_reason": if cut { "max_tokens" } else { "end_turn" }, "stop_sequence": null, "usage": usage,
        }),
        _ => json!({
            "id": id(question), "object": "chat.completion", "created": 1_800_000_000, "model": question.model,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text, "refusal": null},
                "finish_reason": if cut { "length" } else { "stop" }}],
            "usage": usage,
        }),
    };
    Reply::json(status(200), &body)
}

pub(super) fn streamed(api: Api, question: &Question) -> Reply {
    let (text, cut) = said(question);
    let pieces = pieces(&text);
    let events = match api {
        Api::Anthropic => anthropic(question, &pieces, cut),
        _ => openai(question, &pieces, cut),
    };
    let half = events.len() / 2;
    let end = if question.last.contains("[[cut]]") {
        half
    } else {
        events.len()
    };
    let mut body: String = events[..end].concat();
    if question.last.contains("[[overload]]") {
        body = events[..half].concat();
        body.push_str(&error(api));
    }
    let mut reply =
        Reply::json(status(200), &Value::Null).with("content-type", "text/event-stream; charset=utf-8");
    reply.body = body.into();
    reply
}

fn error(api: Api) -> String {
    match api {
        Api::Anthropic => event(
            "error",
            &json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
        ),
        _ => event(
            "",
            &json!({"error": {"message": "overloaded", "type": "server_error", "param": null, "code": "server_error"}}),
        ),
    }
}

fn pieces(text: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(rest.ceil_char_boundary(PIECE.min(rest.len())));
        pieces.push(piece.to_owned());
        rest = later;
    }
    pieces
}

fn event(name: &str, data: &Value) -> String {
    if name.is_empty() {
        format!("data: {data}\n\n")
    } else {
        format!("event: {name}\ndata: {data}\n\n")
    }
}

fn openai(question: &Question, pieces: &[String], cut: bool) -> Vec<String> {
    let chunk = |choices: Value, usage: Value| {
        let chunk = json!({"id": id(question), "object": "chat.completion.chunk", "created": 1_800_000_000,
            "model": question.model, "choices": choices, "usage": usage});
        event("", &chunk)
    };
    let choice = |delta: Value, finish: Value| json!([{"index": 0, "delta": delta, "finish_reason": finish}]);
    let first = chunk(
        choice(json!({"role": "assistant", "content": ""}), Value::Null),
        Value::Null,
    );
    let said = pieces
        .iter()
        .map(|text| chunk(choice(json!({"content": text}), Value::Null), Value::Null));
    let finish = if cut { "length" } else { "stop" };
    let ends = [
        chunk(choice(json!({}), json!(finish)), Value::Null),
        chunk(json!([]), usage(Api::Openai, question)),
        "data: [DONE]\n\n".to_owned(),
    ];
    [first].into_iter().chain(said).chain(ends).collect()
}

fn anthropic(question: &Question, pieces: &[String], cut: bool) -> Vec<String> {
    let named = |data: Value| event(data["type"].as_str().unwrap_or_default(), &data);
    let usage = usage(Api::Anthropic, question);
    let mut begun = usage.clone();
    begun["output_tokens"] = json!(1);
    let start = json!({"type": "message_start", "message": {"id": id(question), "type": "message", "role": "assistant",
        "model": question.model, "content": [], "stop_reason": null, "usage": begun}});
    let block =
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}});
    let said = pieces.iter().map(|text| {
        named(
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}),
        )
    });
    let reason = if cut { "max_tokens" } else { "end_turn" };
    let delta = json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null},
        "usage": {"output_tokens": usage["output_tokens"]}});
    let ends = [
        named(json!({"type": "content_block_stop", "index": 0})),
        named(delta),
        named(json!({"type": "message_stop"})),
    ];
    [named(start), named(block), named(json!({"type": "ping"}))]
        .into_iter()
        .chain(said)
        .chain(ends)
        .collect()
}
