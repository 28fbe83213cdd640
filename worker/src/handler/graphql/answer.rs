//! What of an answer belongs to which call.

use serde_json::{Map, Value, json};
use shared::failure::Failure;

use super::merge::prefix;
use crate::handler::{Completion, Outcome};
use crate::outbound::Answer;

/// Longest data kept as a result, in bytes.
const MAX_RESULT: usize = 32 * 1024;
/// Most errors told beside what is there.
const MAX_TOLD: usize = 5;

/// What an answer says of one call.
#[derive(Debug, Clone, PartialEq, Default)]
pub(in crate::handler) struct Part {
    /// Its fields, by the names that the call gave them; `None` where the answer has none.
    pub(in crate::handler) data: Option<Map<String, Value>>,
    /// The errors in them.
    pub(in crate::handler) errors: Vec<Value>,
    /// Errors of the whole request, which nobody can tell whose they are.
    pub(in crate::handler) whole: Vec<Value>,
}

impl Part {
    /// Whether the answer says what became of it: of several writes, one that fails takes the others' answers with it.
    pub(in crate::handler) fn is_told(&self) -> bool {
        self.whole.is_empty() && (self.data.is_some() || !self.errors.is_empty())
    }
}

/// The parts of an answer to so many calls; `None` when it is no answer of GraphQL. A single call's names are its own.
pub(in crate::handler) fn parts(answer: &Answer, calls: usize) -> Option<Vec<Part>> {
    let body: Value = serde_json::from_slice(&answer.body).ok()?;
    let body = body.as_object()?;
    let errors = match body.get("errors") {
        Some(Value::Array(errors)) => errors.clone(),
        None | Some(Value::Null) => Vec::new(),
        Some(_) => return None,
    };
    let data = match body.get("data") {
        Some(Value::Object(data)) => Some(data),
        None | Some(Value::Null) => None,
        Some(_) => return None,
    };
    if data.is_none() && errors.is_empty() {
        return None;
    }
    let first = |error: &Value| {
        error
            .pointer("/path/0")
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    if calls <= 1 {
        return Some(vec![Part {
            data: data.cloned(),
            errors,
            whole: Vec::new(),
        }]);
    }
    let mut parts: Vec<Part> = (0..calls)
        .map(|at| {
            let prefix = prefix(at);
            let own = data.map(|data| {
                let own = data.iter().filter_map(|(name, value)| {
                    Some((name.strip_prefix(&prefix)?.to_owned(), value.clone()))
                });
                own.collect::<Map<_, _>>()
            });
            Part {
                data: own.filter(|own| !own.is_empty()),
                ..Part::default()
            }
        })
        .collect();
    for error in errors {
        let name = first(&error);
        let of = name.and_then(|name| {
            let (number, _) = name.strip_prefix('e')?.split_once('_')?;
            number.parse::<usize>().ok().filter(|at| *at < calls)
        });
        match of {
            Some(at) => parts[at].errors.push(error),
            None => parts.iter_mut().for_each(|part| part.whole.push(error.clone())),
        }
    }
    Some(parts)
}

/// The outcome of one call, whose errors mean what `failure` says. An error within what is there otherwise does not undo
/// it: the result tells both.
pub(in crate::handler) fn judge(part: &Part, failure: fn(&Value) -> Failure) -> Outcome {
    let errors: Vec<&Value> = part.errors.iter().chain(&part.whole).collect();
    let Some(data) = &part.data else {
        return Err(match errors.first() {
            Some(error) => failure(error),
            None => Failure::unknown("answer", "it holds neither data nor errors"),
        });
    };
    let stands = |error: &Value| {
        let top = error.pointer("/path/0").and_then(Value::as_str);
        top.and_then(|top| data.get(top))
            .is_some_and(|value| !value.is_null())
    };
    if let Some(fatal) = errors.iter().find(|error| !stands(error)) {
        return Err(failure(fatal));
    }
    let mut kept = result(data);
    if errors.is_empty() {
        return Ok(Completion::with("ok", kept));
    }
    let told: Vec<_> = errors
        .iter()
        .take(MAX_TOLD)
        .map(|error| error["message"].clone())
        .collect();
    kept["errors"] = json!(told);
    Ok(Completion::with("partial", kept))
}

/// What is kept of a call's data: all of it, unless it is long.
pub(in crate::handler) fn result(data: &Map<String, Value>) -> Value {
    let data = json!(data);
    let bytes = data.to_string().len();
    if bytes <= MAX_RESULT {
        json!({"data": data})
    } else {
        json!({"bytes": bytes})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &[u8]) -> Answer {
        Answer {
            status: http::StatusCode::OK,
            headers: http::HeaderMap::new(),
            body: body.to_vec().into(),
            cut: false,
        }
    }

    #[test]
    fn each_call_gets_what_is_its_own() {
        let body = json!({
            "data": {"e0_a": {"id": 1}, "e1_a": null, "e10_a": {"id": 10}, "e1_b": 2},
            "errors": [{"message": "x", "path": ["e1_a", "id"]}],
        });
        let parts = parts(&answer(body.to_string().as_bytes()), 11).unwrap();
        assert_eq!(json!(parts[0].data), json!({"a": {"id": 1}}));
        assert!(parts[0].is_told() && parts[10].is_told() && parts[1].is_told() && !parts[2].is_told());
        assert_eq!(json!(parts[1].data), json!({"a": null, "b": 2}));
        assert_eq!(parts[1].errors.len(), 1);
        assert_eq!(parts[2], Part::default(), "nothing is said of it");
    }

    #[test]
    fn an_error_of_nobody_is_everybodys() {
        for error in [
            json!({"message": "x"}),
            json!({"message": "x", "path": []}),
            json!({"message": "x", "path": [0]}),
            json!({"message": "x", "path": ["e7_a"]}),
            json!({"message": "x", "path": ["viewer"]}),
            json!("x"),
        ] {
            let body = json!({"data": null, "errors": [error]});
            let parts = parts(&answer(body.to_string().as_bytes()), 2).unwrap();
            assert!(
                parts
                    .iter()
                    .all(|part| part.whole.len() == 1 && part.data.is_none())
            );
        }
    }

    #[test]
    fn answers_that_are_none() {
        for bad in [
            &b""[..],
            b"<html>",
            b"[]",
            b"null",
            b"{}",
            b"{\"data\": 1}",
            b"{\"data\": {}, \"errors\": {}}",
            b"{\"data\": null, \"errors\": []}",
            b"{\"data\": {\"e0_a\": \"\xff\xfe\"}}",
            b"{\"data\": {\"e0_a\": ",
        ] {
            assert_eq!(parts(&answer(bad), 2), None, "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn long_results_are_not_kept() {
        let mut data = Map::new();
        data.insert("a".into(), "x".repeat(MAX_RESULT).into());
        assert!(result(&data).get("data").is_none());
        data.insert("a".into(), 1.into());
        assert_eq!(result(&data), json!({"data": {"a": 1}}));
    }
}
