//! Filters of our own: what the engine has none of, and those of its own that could write more than they are given.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};

use super::written;
use crate::MAX_INPUT;

/// Most items that the test `in` looks through.
const MAX_AMONG: usize = 1_000;
/// Most parts that a text is split into.
const MAX_PARTS: usize = 10_000;

fn refused(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.into())
}

/// What is not there has no text and no items.
fn there(value: &Value, filter: &str) -> Result<(), Error> {
    if value.is_undefined() {
        let what = format!("{filter} is given what is not there");
        return Err(Error::new(ErrorKind::UndefinedError, what));
    }
    Ok(())
}

/// Only text: a number that was meant to be one must not be taken apart silently.
fn text<'v>(value: &'v Value, filter: &str) -> Result<&'v str, Error> {
    there(value, filter)?;
    let wrong = || refused(format!("{filter} is for text, this is a {}", value.kind()));
    value.as_str().ok_or_else(wrong)
}

/// Whether something is among others. In a filter over a list this is one step for each of its items, so that the others are
/// few.
pub(super) fn is_in(state: &State<'_, '_>, value: &Value, others: &Value) -> Result<bool, Error> {
    if others.len().is_some_and(|len| len > MAX_AMONG) && others.as_str().is_none() {
        return Err(refused(format!("in looks through at most {MAX_AMONG} items")));
    }
    minijinja::tests::is_in(state, value, others)
}

/// JSON text of a value.
pub(super) fn json(value: &Value) -> Result<String, Error> {
    there(value, "json")?;
    written(value).map_err(refused)
}

/// The first `most` characters, the last of them an ellipsis where something was cut off.
pub(super) fn truncate(value: &Value, most: usize) -> Result<String, Error> {
    let text = text(value, "truncate")?;
    if text.chars().nth(most).is_none() {
        return Ok(text.to_owned());
    }
    let mut cut: String = text.chars().take(most.saturating_sub(1)).collect();
    if most > 0 {
        cut.push('…');
    }
    Ok(cut)
}

/// The first `most` lines.
pub(super) fn lines(value: &Value, most: usize) -> Result<String, Error> {
    let text = text(value, "lines")?;
    let ends = text.match_indices('\n').map(|(at, _)| at);
    let end = match most.checked_sub(1) {
        None => 0,
        Some(before) => ends.into_iter().nth(before).unwrap_or(text.len()),
    };
    Ok(text[..end].to_owned())
}

/// Standard base64 of a text's UTF-8.
pub(super) fn base64(value: &Value) -> Result<String, Error> {
    Ok(BASE64_STANDARD.encode(text(value, "base64")?))
}

/// The items of a list as one text.
pub(super) fn join(value: &Value, between: Option<&str>) -> Result<String, Error> {
    there(value, "join")?;
    let mut out = String::new();
    for (at, item) in value.try_iter()?.enumerate() {
        let between = between.filter(|_| at > 0).unwrap_or_default();
        let owned;
        let item = match (item.kind(), item.as_str()) {
            (ValueKind::Undefined, _) => return Err(Error::from(ErrorKind::UndefinedError)),
            (_, Some(text)) => text,
            (ValueKind::Number | ValueKind::Bool, None) => {
                owned = item.to_string();
                &owned
            }
            (kind, None) => return Err(refused(format!("join is for texts and numbers, one is a {kind}"))),
        };
        if out.len() + between.len() + item.len() > MAX_INPUT {
            return Err(refused(format!("join gives more than {MAX_INPUT} bytes")));
        }
        out.push_str(between);
        out.push_str(item);
    }
    Ok(out)
}

/// The parts of a text between separators, or between white space.
pub(super) fn split(value: &Value, between: Option<&str>) -> Result<Vec<String>, Error> {
    let text = text(value, "split")?;
    let parts: Vec<String> = match between {
        Some("") => return Err(refused("split needs something to look for")),
        Some(between) => text
            .split(between)
            .take(MAX_PARTS + 1)
            .map(str::to_owned)
            .collect(),
        None => text
            .split_whitespace()
            .take(MAX_PARTS + 1)
            .map(str::to_owned)
            .collect(),
    };
    if parts.len() > MAX_PARTS {
        return Err(refused(format!("split gives more than {MAX_PARTS} parts")));
    }
    Ok(parts)
}

/// A text with another in place of each occurrence of one.
pub(super) fn replace(value: &Value, from: &str, to: &str) -> Result<String, Error> {
    let text = text(value, "replace")?;
    if from.is_empty() {
        return Err(refused("replace needs something to look for"));
    }
    let more = text.matches(from).count() * to.len().saturating_sub(from.len());
    if text.len() + more > MAX_INPUT {
        return Err(refused(format!("replace gives more than {MAX_INPUT} bytes")));
    }
    Ok(text.replace(from, to))
}
