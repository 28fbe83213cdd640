//! Templates and expressions, checked when they are read and bounded when they run.
//!
//! A template cannot keep what it puts together, cannot call itself, and joins values a few times at most, so that what it
//! holds at once is a small multiple of what it is given; its steps are counted, and what it writes is measured as it is
//! written.

mod engine;
mod filters;
mod source;

use std::collections::HashSet;
use std::io::{self, Write};

use minijinja::Value;
use serde_json::Value as Json;

use crate::MAX_INPUT;
use source::{Shape, shape};

/// Most bytes of one template.
pub(crate) const MAX_TEMPLATE: usize = 16 << 10;
/// Steps of one template.
const FUEL: u64 = 20_000;
/// How deep loops may nest.
const DEPTH: usize = 32;

/// What of an event templates look at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Uses {
    pub(crate) data: bool,
    pub(crate) result: bool,
    pub(crate) context: bool,
}

impl Uses {
    const NOTHING: Self = Self {
        data: false,
        result: false,
        context: false,
    };
    pub(crate) const DATA: Self = Self {
        data: true,
        ..Self::NOTHING
    };
    pub(crate) const RESULT: Self = Self {
        result: true,
        ..Self::NOTHING
    };
    pub(crate) const CONTEXT: Self = Self {
        context: true,
        ..Self::NOTHING
    };

    /// Whether both look at the same part.
    pub(crate) fn meets(self, other: Self) -> bool {
        self.data && other.data || self.result && other.result || self.context && other.context
    }

    fn of(names: &HashSet<String>) -> Self {
        Self {
            data: names.contains("data"),
            result: names.contains("result"),
            context: names.contains("context"),
        }
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            data: self.data || other.data,
            result: self.result || other.result,
            context: self.context || other.context,
        }
    }
}

/// Where a template stands, which says what it may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Looked at once an event.
    Event,
    /// Looked at for each item of a list.
    Item,
}

/// A value that is worked out, such as a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expression {
    source: String,
    uses: Uses,
}

impl Expression {
    /// Checks an expression.
    pub(crate) fn read(source: &str, place: Place) -> Result<Self, String> {
        if source.len() > MAX_TEMPLATE {
            return Err(format!("is longer than {MAX_TEMPLATE} bytes"));
        }
        source::check_expression(source)?;
        let compiled = engine::ENGINE.compile_expression(source);
        let names = compiled.map_err(|e| told(&e))?.undeclared_variables(false);
        known(&names, place)?;
        Ok(Self {
            source: source.to_owned(),
            uses: Uses::of(&names),
        })
    }

    /// Its value; what is not there is none.
    pub(crate) fn value(&self, scope: &Value) -> Result<Value, String> {
        let compiled = engine::ENGINE.compile_expression(&self.source);
        let value = compiled.and_then(|compiled| compiled.eval(scope.clone()));
        match value {
            Ok(value) if value.is_undefined() => {
                Err(format!("undefined value: `{}` is undefined", self.source))
            }
            Ok(value) => Ok(value),
            Err(error) => Err(told(&error)),
        }
    }

    pub(crate) fn uses(&self) -> Uses {
        self.uses
    }
}

/// Text with places in it that are filled in. One that is a single place from end to end gives what stands there as it is:
/// a number stays a number and a list a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Template {
    Fixed(String),
    Value(Expression),
    Text { source: String, uses: Uses },
}

impl Template {
    /// Checks a template.
    pub(crate) fn read(source: &str, place: Place) -> Result<Self, String> {
        if source.len() > MAX_TEMPLATE {
            return Err(format!("is longer than {MAX_TEMPLATE} bytes"));
        }
        match shape(source)? {
            Shape::Fixed => Ok(Self::Fixed(source.to_owned())),
            Shape::Value(inner) => Expression::read(inner, place).map(Self::Value),
            Shape::Text => {
                let compiled = engine::ENGINE.template_from_str(source);
                let names = compiled.map_err(|e| told(&e))?.undeclared_variables(false);
                known(&names, place)?;
                let uses = Uses::of(&names);
                let source = source.to_owned();
                Ok(Self::Text { source, uses })
            }
        }
    }

    /// The text, if it is the same for every event.
    pub(crate) fn fixed(&self) -> Option<&str> {
        match self {
            Self::Fixed(text) => Some(text),
            Self::Value(_) | Self::Text { .. } => None,
        }
    }

    /// What it gives, at most so many bytes of it as JSON.
    pub(crate) fn fill(&self, scope: &Value, most: usize) -> Result<Json, String> {
        match self {
            Self::Fixed(text) => Ok(Json::String(text.clone())),
            Self::Value(expression) => json(&expression.value(scope)?, most),
            Self::Text { source, .. } => {
                let mut out = Bounded::new(most);
                let compiled = engine::ENGINE.template_from_str(source).map_err(|e| told(&e))?;
                match compiled.render_captured_to(scope.clone(), &mut out) {
                    Ok(_) => out.text().map(Json::String),
                    Err(_) if out.full => Err(out.refusal()),
                    Err(error) => Err(told(&error)),
                }
            }
        }
    }

    /// The same as text; `None` for null.
    pub(crate) fn text(&self, scope: &Value, most: usize) -> Result<Option<String>, String> {
        match self.fill(scope, most)? {
            Json::Null => Ok(None),
            Json::String(text) => Ok(Some(text)),
            Json::Number(number) => Ok(Some(number.to_string())),
            Json::Bool(_) => Err("gives true or false, must give text".into()),
            Json::Array(_) => Err("gives a list, must give text".into()),
            Json::Object(_) => Err("gives a map, must give text".into()),
        }
    }

    pub(crate) fn uses(&self) -> Uses {
        match self {
            Self::Fixed(_) => Uses::default(),
            Self::Value(expression) => expression.uses,
            Self::Text { uses, .. } => *uses,
        }
    }
}

/// A value as JSON, at most so many bytes of it.
pub(crate) fn json(value: &Value, most: usize) -> Result<Json, String> {
    if value.is_undefined() {
        return Err("undefined value".into());
    }
    let mut out = Bounded::new(most);
    match serde_json::to_writer(&mut out, value) {
        Ok(()) => serde_json::from_slice(&out.bytes).map_err(|e| format!("gives no JSON: {e}")),
        Err(_) if out.full => Err(out.refusal()),
        Err(error) => Err(format!("gives no JSON: {error}")),
    }
}

/// Only what an event has may be named: another name is a misspelt one.
fn known(names: &HashSet<String>, place: Place) -> Result<(), String> {
    const EVENT: [&str; 5] = ["event", "data", "result", "code", "context"];
    const ITEM: [&str; 2] = ["item", "index"];
    let mut unknown: Vec<&String> = names
        .iter()
        .filter(|name| !EVENT.contains(&name.as_str()))
        .filter(|name| place == Place::Event || !ITEM.contains(&name.as_str()))
        .collect();
    unknown.sort();
    match unknown.first() {
        None => Ok(()),
        Some(name) if ITEM.contains(&name.as_str()) => {
            Err(format!("names {name}, which is there only in a rule with each"))
        }
        Some(name) => Err(format!(
            "names {name}, which nothing is called: there are event, data, result, code and context, and with each \
             item and index"
        )),
    }
}

/// An error of the engine, in one line.
fn told(error: &minijinja::Error) -> String {
    let mut line = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        line = format!("{line}: {inner}");
        source = inner.source();
    }
    line
}

/// Takes so many bytes and no more.
pub(crate) struct Bounded {
    bytes: Vec<u8>,
    most: usize,
    full: bool,
}

impl Bounded {
    fn new(most: usize) -> Self {
        Self {
            bytes: Vec::new(),
            most,
            full: false,
        }
    }

    fn refusal(&self) -> String {
        format!("gives more than {} bytes", self.most)
    }

    fn text(self) -> Result<String, String> {
        String::from_utf8(self.bytes).map_err(|e| e.to_string())
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.most - self.bytes.len() {
            self.full = true;
            return Err(io::Error::other("too large"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// JSON text of a value in a template, at most as large as what templates are given.
fn written(value: &Value) -> Result<String, String> {
    let mut out = Bounded::new(MAX_INPUT);
    match serde_json::to_writer(&mut out, value) {
        Ok(()) => out.text(),
        Err(_) if out.full => Err(out.refusal()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
