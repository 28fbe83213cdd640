//! OpenAI's, Anthropic's and xAI's chat APIs as far as limits, use, streams and errors go. Answers are made of the
//! question, so that the same one has the same answer, or are always the same ([`LlmLimits::says`]).
//!
//! A question can wish how it is answered, by what stands in its last message: `[[say:text]]` is answered with `text`,
//! `[[refuse]]` is against the policy, `[[overload]]` fails for the maker's own reasons (in the midst of a stream), `[[cut]]`
//! ends a stream in the middle.

mod answer;
mod refusal;

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    clock::Moment,
    exchange::{Ask, Reply},
    ledger::{Api, fingerprint},
    limits::{Admission, Demand, Shape},
    window::Window,
};

/// Bytes of text that make a token here.
const BYTES_A_TOKEN: usize = 4;
/// Tokens of an answer where the question sets no bound.
const MOST: u64 = 4_096;

/// What one maker allows a credential.
#[derive(Clone, Debug)]
pub struct MakerLimits {
    /// Requests.
    pub requests: Window,
    /// Tokens, read and written together.
    pub tokens: Window,
    /// How both are counted.
    pub shape: Shape,
}

impl Default for MakerLimits {
    /// 500 requests and 200,000 tokens a minute.
    fn default() -> Self {
        Self {
            requests: Window::per_minute(500),
            tokens: Window::per_minute(200_000),
            shape: Shape::Sliding,
        }
    }
}

/// What the makers allow, and what their models say.
#[derive(Clone, Debug, Default)]
pub struct LlmLimits {
    /// What is answered to every question that wishes nothing else; `None` makes an answer of the question.
    pub says: Option<String>,
    /// OpenAI.
    pub openai: MakerLimits,
    /// Anthropic.
    pub anthropic: MakerLimits,
    /// xAI.
    pub xai: MakerLimits,
}

impl LlmLimits {
    fn of(&self, api: Api) -> &MakerLimits {
        match api {
            Api::Anthropic => &self.anthropic,
            Api::Xai => &self.xai,
            _ => &self.openai,
        }
    }
}

/// Tokens that a maker's accepted calls used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Read.
    pub input: u64,
    /// Written.
    pub output: u64,
}

/// A question, as far as it is understood.
#[derive(Debug)]
struct Question {
    model: String,
    /// All text of it.
    text: String,
    /// The last message.
    last: String,
    most: u64,
    stream: bool,
    stop: Vec<String>,
    says: Option<String>,
}

/// The answer to a call that is wrong in itself, `None` when it is not.
pub(super) fn refuse_wrong(limits: &LlmLimits, api: Api, ask: &Ask) -> Option<Reply> {
    if ask.method != Method::POST {
        return Some(refusal::error(
            api,
            405,
            "invalid_request_error",
            "",
            "POST is the method",
        ));
    }
    if credential(api, ask).is_none() {
        return Some(refusal::error(
            api,
            401,
            "authentication_error",
            "invalid_api_key",
            "no credential",
        ));
    }
    if api == Api::Anthropic && ask.header("anthropic-version").is_none() {
        return Some(refusal::error(
            api,
            400,
            "invalid_request_error",
            "",
            "anthropic-version: header is required",
        ));
    }
    let question = match question(limits, api, ask) {
        Ok(question) => question,
        Err(why) => return Some(refusal::error(api, 400, "invalid_request_error", "", why)),
    };
    if question.model.starts_with("missing") {
        return Some(refusal::error(
            api,
            404,
            "not_found_error",
            "model_not_found",
            "there is no such model",
        ));
    }
    if question.last.contains("[[refuse]]") {
        return Some(refusal::policy(api));
    }
    None
}

/// The limits that a call has to pass.
pub(super) fn demands(all: &LlmLimits, api: Api, ask: &Ask) -> Vec<Demand> {
    let limits = all.of(api);
    let scope = credential(api, ask).map_or(0, |token| fingerprint(&token));
    let demand = |what: &str, window, cost| Demand {
        cost,
        ..Demand::new(format!("{} {what}", api.as_str()), scope, window, limits.shape)
    };
    let used = used(all, api, ask);
    let tokens = u32::try_from(used.input + used.output).unwrap_or(u32::MAX);
    vec![
        demand("requests", limits.requests, 1),
        demand("tokens", limits.tokens, tokens),
    ]
}

/// What the answer to a question uses.
pub(super) fn used(limits: &LlmLimits, api: Api, ask: &Ask) -> Used {
    question(limits, api, ask)
        .map(|question| answer::used(&question))
        .unwrap_or_default()
}

/// The answer to a call within its limits.
pub(super) fn serve(limits: &LlmLimits, api: Api, ask: &Ask, admission: &Admission, now: Moment) -> Reply {
    let Ok(question) = question(limits, api, ask) else {
        return refusal::error(api, 400, "invalid_request_error", "", "unreadable");
    };
    if question.last.contains("[[overload]]") && !question.stream {
        let (status, kind) = if api == Api::Anthropic {
            (529, "overloaded_error")
        } else {
            (503, "server_error")
        };
        return refusal::error(api, status, kind, kind, "overloaded");
    }
    let reply = if question.stream {
        answer::streamed(api, &question)
    } else {
        answer::whole(api, &question)
    };
    refusal::told(api, reply, admission, now)
}

/// The answer to a call over a limit.
pub(super) fn refuse(api: Api, admission: &Admission, now: Moment) -> Reply {
    refusal::limited(api, admission, now)
}

/// Whose the call is.
fn credential(api: Api, ask: &Ask) -> Option<String> {
    let token = match api {
        Api::Anthropic => ask.header("x-api-key"),
        _ => ask.credential(),
    };
    token.filter(|token| !token.is_empty()).map(str::to_owned)
}

fn question(limits: &LlmLimits, api: Api, ask: &Ask) -> Result<Question, &'static str> {
    let body: Value = serde_json::from_slice(&ask.body).map_err(|_| "the body is no JSON")?;
    let model = body["model"]
        .as_str()
        .filter(|model| !model.is_empty())
        .ok_or("model: field required")?;
    let messages = body["messages"]
        .as_array()
        .filter(|all| !all.is_empty())
        .ok_or("messages: field required")?;
    let said = |message: &Value| message["content"].as_str().map(str::to_owned);
    let texts: Option<Vec<String>> = messages.iter().map(said).collect();
    let texts = texts.ok_or("messages: content must be text")?;
    let last = texts.last().cloned().unwrap_or_default();
    let (bound, stop) = match api {
        Api::Anthropic => ("max_tokens", "stop_sequences"),
        // The old name is refused by newer models.
        _ if body.get("max_tokens").is_some() => return Err("max_tokens is not supported with this model"),
        _ => ("max_completion_tokens", "stop"),
    };
    let most = match &body[bound] {
        Value::Null if api == Api::Anthropic => return Err("max_tokens: field required"),
        Value::Null => MOST,
        value => value
            .as_u64()
            .filter(|most| *most > 0)
            .ok_or("the bound of tokens must be above zero")?,
    };
    let system = body["system"].as_str().unwrap_or_default();
    let stop = body[stop]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|text| Some(text.as_str()?.to_owned()));
    Ok(Question {
        model: model.to_owned(),
        text: texts
            .iter()
            .map(String::as_str)
            .chain([system])
            .collect::<Vec<_>>()
            .join("\n"),
        last,
        most,
        stream: body["stream"] == true,
        stop: stop.collect(),
        says: limits.says.clone(),
    })
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

#[cfg(test)]
mod tests;
