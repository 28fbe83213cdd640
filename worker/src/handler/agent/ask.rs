//! What an event asks for, checked and bounded: whatever is wrong is named by its field.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::event::Event;
use shared::failure::Failure;

/// Most text of a question, in bytes: its messages and the system's.
pub(super) const MAX_TEXT: usize = 1024 * 1024;
/// Most messages.
const MAX_MESSAGES: usize = 256;
/// Most models that one event may name.
pub(super) const MAX_MODELS: usize = 8;
/// Most rounds of refinement.
const MAX_ROUNDS: u32 = 5;
/// Most tokens that an answer may be asked to have.
const MAX_TOKENS: u32 = 128_000;
/// What an answer may have unless the event says otherwise.
const DEFAULT_TOKENS: u32 = 1_024;
/// Most stop sequences and longest of them; four is what OpenAI takes.
const MAX_STOPS: (usize, usize) = (4, 64);
/// Largest JSON schema, in bytes.
const MAX_SCHEMA: usize = 64 * 1024;

/// A message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Message {
    /// Who says it.
    pub(super) role: Role,
    /// What.
    pub(super) content: String,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Role {
    /// The one who asks.
    User,
    /// The model.
    Assistant,
}

/// In which way models are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    /// One; the next in order if it cannot answer.
    #[default]
    One,
    /// All at once.
    All,
    /// One, again and again, with a critique in between.
    Refine,
}

/// Whether the answer is to be JSON.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    /// Any.
    Any,
    /// By this schema.
    Schema(Value),
}

/// What one call asks a model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    /// What holds for the whole conversation.
    pub(super) system: Option<String>,
    /// The conversation.
    pub(super) messages: Vec<Message>,
    /// 0 to 2; `None` leaves it to the model.
    pub(super) temperature: Option<f64>,
    /// Most tokens of the answer.
    pub(super) max_tokens: u32,
    /// Whether the answer is to be JSON.
    pub(super) json: Option<Json>,
    /// Texts at which the answer ends.
    pub(super) stop: Vec<String>,
    /// Whether the answer is read as it is written.
    pub(super) stream: bool,
    /// Characters that are enough: what comes after them is not waited for.
    pub(super) enough: Option<usize>,
}

impl Request {
    /// Bytes of its text.
    pub(super) fn bytes(&self) -> usize {
        let messages: usize = self
            .messages
            .iter()
            .map(|message| message.content.len() + 16)
            .sum();
        messages + self.system.as_ref().map_or(0, String::len)
    }
}

/// How the answers of several models become one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Join {
    /// They stand beside each other.
    List,
    /// A model makes one of them.
    By {
        /// Which; the first in order where it is not named.
        model: Option<String>,
        /// What it is told to do.
        instruction: String,
    },
}

/// What an event asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ask {
    /// The question.
    pub(super) request: Request,
    /// Which models by name, in order; empty for the service's own order.
    pub(super) models: Vec<String>,
    /// In which way.
    pub(super) mode: Mode,
    /// Rounds of refinement.
    pub(super) rounds: u32,
    /// How answers are joined.
    pub(super) join: Join,
    /// Answers that are enough when some models cannot answer; `None` for all.
    pub(super) need: Option<usize>,
    /// Whether an answer to the same question may be used: `None` when its temperature is 0.
    pub(super) cache: Option<bool>,
    /// Set by whoever writes prompts: another version is another question.
    pub(super) prompt_version: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    prompt: Option<String>,
    messages: Option<Vec<Message>>,
    system: Option<String>,
    model: Option<String>,
    models: Option<Vec<String>>,
    #[serde(default)]
    mode: Mode,
    rounds: Option<u32>,
    temperature: Option<f64>,
    max_tokens: Option<u32>,
    json: Option<Value>,
    stop: Option<Vec<String>>,
    stream: Option<bool>,
    enough: Option<usize>,
    cache: Option<bool>,
    join: Option<RawJoin>,
    need: Option<usize>,
    prompt_version: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawJoin {
    Word(String),
    By(RawBy),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBy {
    model: Option<String>,
    instruction: Option<String>,
}

const JOIN: &str = "Several answers to the same question follow. Write the one best answer: keep what is right in them, \
                    leave out what is wrong. Answer the question itself and say nothing of the answers.";

fn bad(what: &str) -> Failure {
    Failure::permanent("question", format!("data asks for nothing: {what}"))
}

/// Reads the question in an event's data.
pub(super) fn read(event: &Event) -> Result<Ask, Failure> {
    let data = event
        .data
        .to_json()
        .map_err(|e| bad(&e))?
        .ok_or_else(|| bad("it is empty or no JSON"))?;
    // One that cannot be read says where.
    let raw: Raw = serde_json::from_value(data).map_err(|e| bad(&e.to_string()))?;
    check(raw).map_err(|what| bad(&what))
}

fn check(raw: Raw) -> Result<Ask, String> {
    let messages = match (raw.prompt, raw.messages) {
        (Some(content), None) => vec![Message {
            role: Role::User,
            content,
        }],
        (None, Some(messages)) => messages,
        (Some(_), Some(_)) => return Err("prompt and messages are both there".into()),
        (None, None) => return Err("neither prompt nor messages is there".into()),
    };
    if !(1..=MAX_MESSAGES).contains(&messages.len()) {
        return Err(format!("messages must be 1 to {MAX_MESSAGES}"));
    }
    if messages.iter().any(|message| message.content.trim().is_empty()) {
        return Err("prompt or a message is blank".into());
    }
    if messages.last().map(|message| message.role) != Some(Role::User) {
        return Err("messages must end with one of the user".into());
    }
    let models = match (raw.model, raw.models) {
        (Some(_), Some(_)) => return Err("model and models are both there".into()),
        (Some(model), None) => vec![model],
        (None, models) => models.unwrap_or_default(),
    };
    if models.len() > MAX_MODELS {
        return Err(format!("models must be at most {MAX_MODELS}"));
    }
    if let Some(twice) = models
        .iter()
        .enumerate()
        .find(|(i, name)| models[..*i].contains(name))
    {
        return Err(format!("models names {:?} twice", twice.1));
    }
    let within = |what: &str, number: u64, least: u64, most: u64| match number {
        number if (least..=most).contains(&number) => Ok(()),
        _ => Err(format!("{what} must be {least} to {most}")),
    };
    let rounds = raw.rounds.unwrap_or(1);
    within("rounds", rounds.into(), 1, MAX_ROUNDS.into())?;
    if raw.rounds.is_some() && raw.mode != Mode::Refine {
        return Err("rounds is there, but mode is not refine".into());
    }
    let max_tokens = raw.max_tokens.unwrap_or(DEFAULT_TOKENS);
    within("max_tokens", max_tokens.into(), 1, MAX_TOKENS.into())?;
    if let Some(enough) = raw.enough {
        within("enough", enough as u64, 1, MAX_TEXT as u64)?;
    }
    if raw.temperature.is_some_and(|t| !(0.0..=2.0).contains(&t)) {
        return Err("temperature must be 0 to 2".into());
    }
    let stop = raw.stop.unwrap_or_default();
    if stop.len() > MAX_STOPS.0 || stop.iter().any(|text| !(1..=MAX_STOPS.1).contains(&text.len())) {
        return Err(format!(
            "stop must be at most {} texts of 1 to {} bytes",
            MAX_STOPS.0, MAX_STOPS.1
        ));
    }
    let json = match raw.json {
        None | Some(Value::Bool(false)) => None,
        Some(Value::Bool(true)) => Some(Json::Any),
        Some(schema @ Value::Object(_)) if schema.to_string().len() <= MAX_SCHEMA => {
            Some(Json::Schema(schema))
        }
        Some(_) => {
            return Err(format!(
                "json must be true, false or a schema of at most {MAX_SCHEMA} bytes"
            ));
        }
    };
    if json.is_some() && (raw.enough.is_some() || !stop.is_empty()) {
        return Err("json goes with neither enough nor stop: half an object is none".into());
    }
    if raw.join.is_some() && raw.mode != Mode::All {
        return Err("join is there, but mode is not all".into());
    }
    let join = match raw.join {
        None => Join::List,
        Some(RawJoin::Word(word)) if word == "list" => Join::List,
        Some(RawJoin::Word(word)) if word == "merge" => Join::By {
            model: None,
            instruction: JOIN.into(),
        },
        Some(RawJoin::Word(_)) => {
            return Err("join must be list, merge, or name model and instruction".into());
        }
        Some(RawJoin::By(by)) => Join::By {
            model: by.model,
            instruction: by.instruction.unwrap_or_else(|| JOIN.into()),
        },
    };
    if let Some(need) = raw.need {
        within("need", need as u64, 1, MAX_MODELS as u64)?;
        if raw.mode != Mode::All {
            return Err("need is there, but mode is not all".into());
        }
    }
    let prompt_version = raw.prompt_version.unwrap_or_default();
    if prompt_version.len() > 64 {
        return Err("prompt_version must be at most 64 bytes".into());
    }
    let request = Request {
        stream: raw.stream.unwrap_or(raw.enough.is_some() || !stop.is_empty()),
        system: raw.system.filter(|system| !system.trim().is_empty()),
        messages,
        temperature: raw.temperature,
        max_tokens,
        json,
        stop,
        enough: raw.enough,
    };
    if raw.enough.is_some() && !request.stream {
        return Err("enough needs stream: what is not read bit by bit comes whole".into());
    }
    let instruction = match &join {
        Join::By { instruction, .. } => instruction.len(),
        Join::List => 0,
    };
    if request.bytes() + instruction > MAX_TEXT {
        return Err(format!(
            "prompt, messages, system and join have more than {MAX_TEXT} bytes together"
        ));
    }
    Ok(Ask {
        request,
        models,
        mode: raw.mode,
        rounds,
        join,
        need: raw.need,
        cache: raw.cache,
        prompt_version,
    })
}

#[cfg(test)]
mod tests;
