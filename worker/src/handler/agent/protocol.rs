//! How each maker's API is asked and how it answers: pure. Sources: OpenAI, chat completions and its streaming events;
//! Anthropic, messages, streaming, errors; xAI, chat completions, which speaks OpenAI's.

mod anthropic;
mod openai;

use std::time::SystemTime;

use http::StatusCode;
use reqwest::RequestBuilder;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::failure::Failure;

use super::ask::Request;
use super::money::Usage;
use super::sse;
use crate::outbound::{Answer, classify};
use crate::provider::{Provider, Reading};

/// Longest answer, in bytes: the most tokens that can be asked for are about half of it.
pub(super) const MAX_TEXT: usize = 1024 * 1024;
/// What is kept of a model's own name for itself, in bytes.
const MAX_NAME: usize = 128;
/// The code of an answer that the maker's policy refuses.
pub(super) const POLICY: &str = "content_policy";
/// The code of a credential that has no money left.
pub(super) const NO_MONEY: &str = "quota_exhausted";

/// Whose API it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Protocol {
    /// OpenAI.
    Openai,
    /// What speaks like OpenAI did: vLLM, llama.cpp, Ollama and many more.
    Compatible,
    /// Anthropic.
    Anthropic,
    /// xAI.
    Xai,
}

/// How an answer ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Finish {
    /// The model was done, or came to a stop sequence.
    Stop,
    /// At the most tokens that were asked for.
    Length,
    /// We had read enough.
    Enough,
}

/// How the maker says that it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Stop,
    Length,
    Refused,
    Other(String),
}

/// An answer is none.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Trouble {
    /// It cannot be read.
    Malformed(String),
    /// It is longer than [`MAX_TEXT`].
    TooLong,
    /// It is an error, with the status that it would have had.
    Error(StatusCode, Value),
}

/// An answer as it comes.
#[derive(Debug, Default)]
pub(super) struct Gather {
    /// What the model has written by now.
    pub(super) text: String,
    /// The model's own name for itself.
    pub(super) exact: String,
    refusal: bool,
    end: Option<End>,
    input: Option<u64>,
    cached: u64,
    output: Option<u64>,
    /// The maker's word for the end of the stream has come.
    closed: bool,
    /// How far the text was searched for its end.
    searched: usize,
}

impl Protocol {
    const ALL: [(&'static str, Self); 4] = [
        ("openai", Self::Openai),
        ("compatible", Self::Compatible),
        ("anthropic", Self::Anthropic),
        ("xai", Self::Xai),
    ];

    /// The one of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, protocol)| protocol)
    }

    /// All names.
    pub(super) fn names() -> String {
        Self::ALL.map(|(name, _)| name).join(", ")
    }

    /// Its name.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::Compatible => "compatible",
            Self::Anthropic => "anthropic",
            Self::Xai => "xai",
        }
    }

    /// Whose limits hold and how its answers tell them.
    pub(super) fn provider(self) -> Provider {
        match self {
            Self::Openai | Self::Compatible => Provider::Openai,
            Self::Anthropic => Provider::Anthropic,
            Self::Xai => Provider::Xai,
        }
    }

    /// Where its API is; `None` for one that everybody runs elsewhere.
    pub(super) fn url(self) -> Option<&'static str> {
        match self {
            Self::Openai => Some("https://api.openai.com/v1"),
            Self::Compatible => None,
            Self::Anthropic => Some("https://api.anthropic.com/v1"),
            Self::Xai => Some("https://api.x.ai/v1"),
        }
    }

    /// The path of a question.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Openai | Self::Compatible | Self::Xai => "/chat/completions",
            Self::Anthropic => "/messages",
        }
    }

    /// The body of a question to the model of this id.
    pub(super) fn body(self, id: &str, request: &Request) -> Value {
        match self {
            Self::Anthropic => anthropic::body(id, request),
            Self::Openai | Self::Compatible | Self::Xai => openai::body(self, id, request),
        }
    }

    /// The request with its credential.
    pub(super) fn authorized(self, request: RequestBuilder, token: Option<&str>) -> RequestBuilder {
        match (self, token) {
            (Self::Anthropic, token) => {
                let request = request.header("anthropic-version", "2023-06-01");
                token
                    .map_or_else(
                        || request.try_clone(),
                        |token| Some(secret(request.try_clone()?, token)),
                    )
                    .unwrap_or(request)
            }
            (_, Some(token)) => request.bearer_auth(token),
            (_, None) => request,
        }
    }

    /// A use as the API would tell it, for the reading of limits.
    pub(super) fn told(self, usage: Usage) -> Value {
        let input = usage.input.saturating_add(usage.cached);
        match self {
            Self::Anthropic => json!({"usage": {"input_tokens": usage.input, "output_tokens": usage.output}}),
            Self::Openai | Self::Compatible | Self::Xai => json!({"usage": {
                "prompt_tokens": input, "completion_tokens": usage.output,
                "total_tokens": input.saturating_add(usage.output),
            }}),
        }
    }

    /// Takes in a whole answer.
    pub(super) fn whole(self, gather: &mut Gather, body: &[u8]) -> Result<(), Trouble> {
        let text = std::str::from_utf8(body).map_err(|_| Trouble::Malformed("no UTF-8".into()))?;
        let body: Value =
            serde_json::from_str(text).map_err(|e| Trouble::Malformed(format!("no JSON: {e}")))?;
        if body["error"].is_object() {
            return Err(self.error(&body));
        }
        match self {
            Self::Anthropic => anthropic::whole(gather, &body),
            Self::Openai | Self::Compatible | Self::Xai => openai::whole(gather, &body),
        }?;
        gather.closed = true;
        gather.check()
    }

    /// Takes in one event of a stream.
    pub(super) fn event(self, gather: &mut Gather, event: &sse::Event) -> Result<(), Trouble> {
        if gather.closed {
            return Ok(());
        }
        if event.data.trim() == "[DONE]" {
            gather.closed = true;
            return Ok(());
        }
        let data: Value = serde_json::from_str(&event.data)
            .map_err(|e| Trouble::Malformed(format!("an event of the stream is no JSON: {e}")))?;
        if data["error"].is_object() {
            return Err(self.error(&data));
        }
        match self {
            Self::Anthropic => anthropic::event(gather, &data),
            Self::Openai | Self::Compatible | Self::Xai => openai::event(gather, &data),
        }?;
        gather.check()
    }

    fn error(self, body: &Value) -> Trouble {
        let error = &body["error"];
        let status = match self {
            Self::Anthropic => anthropic::status(error),
            Self::Openai | Self::Compatible | Self::Xai => openai::status(error),
        };
        Trouble::Error(status, body.clone())
    }

    /// The failure that an answer is which is no success, given what was read of its limits.
    pub(super) fn failure(self, answer: &Answer, reading: &Reading, now: SystemTime) -> Failure {
        if let Some(failure) = policy(self, answer) {
            return failure;
        }
        match self.provider().failure(answer, reading, now) {
            // The makers' own clients try a conflict again.
            Err(Failure::Permanent { reason }) if answer.status == StatusCode::CONFLICT => {
                Failure::Transient {
                    reason,
                    retry_after: classify::retry_after(&answer.headers, now),
                    unknown: false,
                }
            }
            Err(failure) => failure,
            Ok(()) => Failure::unknown("malformed_answer", classify::excerpt(answer)),
        }
    }
}

fn secret(request: RequestBuilder, token: &str) -> RequestBuilder {
    match http::HeaderValue::from_str(token) {
        Ok(mut value) => {
            value.set_sensitive(true);
            request.header("x-api-key", value)
        }
        Err(_) => request,
    }
}

/// A refusal because of what was asked.
fn policy(protocol: Protocol, answer: &Answer) -> Option<Failure> {
    if !matches!(answer.status, StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN) {
        return None;
    }
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let error = &body["error"];
    let sentence = error["message"]
        .as_str()
        .or_else(|| error.as_str())
        .unwrap_or_default();
    let is = match protocol {
        Protocol::Anthropic => sentence.contains("content filtering policy"),
        Protocol::Openai | Protocol::Compatible | Protocol::Xai => {
            matches!(
                error["code"].as_str(),
                Some("content_policy_violation" | "content_filter")
            ) || sentence.contains("violates usage guidelines")
        }
    };
    is.then(|| Failure::permanent(POLICY, classify::excerpt(answer)))
}

impl Gather {
    /// Takes in what the model calls itself.
    fn call(&mut self, name: &Value) {
        if let Some(name) = name.as_str() {
            name[..name.floor_char_boundary(MAX_NAME)].clone_into(&mut self.exact);
        }
    }

    fn check(&self) -> Result<(), Trouble> {
        if self.text.len() > MAX_TEXT {
            return Err(Trouble::TooLong);
        }
        Ok(())
    }

    /// Whether nothing more is to come.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Cuts the text where one of `stop` begins or where it is `enough` characters long. `true` when nothing more need
    /// be read.
    pub(super) fn early(&mut self, stop: &[String], enough: Option<usize>) -> bool {
        // A stop sequence may have begun before what is new.
        let longest = stop.iter().map(String::len).max().unwrap_or(0);
        let from = self
            .text
            .floor_char_boundary(self.searched.saturating_sub(longest));
        let found = |text: &String| Some(from + self.text[from..].find(text.as_str())?);
        let stopped = stop.iter().filter_map(found).min();
        let long = enough
            .filter(|most| self.text.len() > *most)
            .and_then(|most| self.text.char_indices().nth(most))
            .map(|(at, _)| at);
        self.searched = self.text.len();
        let cut = stopped.into_iter().chain(long).min();
        if let Some(at) = cut {
            self.text.truncate(at);
        }
        cut.is_some()
    }

    /// What the maker told of the use by now, if it told all of it.
    pub(super) fn usage(&self) -> Option<Usage> {
        let known = self.closed || self.end.is_some();
        let (input, output) = (self.input?, self.output?);
        known.then_some(Usage {
            input,
            cached: self.cached,
            output,
            estimated: false,
        })
    }

    /// The most that may have been used by now, where the maker has not told: `most` is what the question can use at all.
    /// Of an answer that is `here` it is known how long it is; nobody knows how long one would have become that broke off.
    pub(super) fn reckoned(&self, most: Usage, here: bool) -> Usage {
        // What was cut off the text was written.
        let written = self.searched.max(self.text.len()) as u64;
        let output = if here {
            written.min(most.output)
        } else {
            most.output
        };
        Usage {
            input: self.input.unwrap_or(most.input),
            cached: self.cached,
            output: self.output.unwrap_or(0).max(output),
            estimated: true,
        }
    }

    /// How it ended; the failure that it is when it is no answer to be used.
    pub(super) fn finish(&self) -> Result<Finish, Failure> {
        if self.refusal {
            return Err(Failure::permanent(POLICY, "the model refuses to answer"));
        }
        match &self.end {
            Some(End::Stop) => Ok(Finish::Stop),
            Some(End::Length) => Ok(Finish::Length),
            Some(End::Refused) => Err(Failure::permanent(
                POLICY,
                "the answer was refused or cut by a filter",
            )),
            Some(End::Other(what)) => Err(Failure::unknown(
                "unfinished",
                format!("the answer ended with {what:?}"),
            )),
            None => Err(Failure::unknown("cut_answer", "the answer has no end")),
        }
    }
}

#[cfg(test)]
mod tests;
