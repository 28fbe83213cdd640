//! GraphQL requests, as far as the simulated APIs look at them: which fields are asked for at the top, with which
//! arguments, and how much of everything.

use serde_json::{Map, Value};

/// A request.
#[derive(Debug)]
pub(super) struct Query {
    /// Whether it writes.
    pub(super) writes: bool,
    /// Fields at the top, in their order.
    pub(super) fields: Vec<Field>,
    /// Fields with a selection, at any depth.
    pub(super) objects: u32,
    /// All other fields.
    pub(super) properties: u32,
}

/// A field at the top.
#[derive(Debug, Default)]
pub(super) struct Field {
    /// What the answer calls it.
    pub(super) key: String,
    /// Its name.
    pub(super) name: String,
    /// Its arguments, variables put in.
    pub(super) arguments: Map<String, Value>,
}

impl Query {
    /// Reads a request's body; `None` when it is none.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let words = words(body["query"].as_str()?)?;
        let open = words.iter().position(|word| word == "{")?;
        let open = if words.first()? == "{" { 0 } else { open };
        let mut query = Self {
            writes: words.first()? == "mutation",
            fields: Vec::new(),
            objects: 0,
            properties: 0,
        };
        let end = query.selection(&words, open + 1, 0, &body["variables"])?;
        (end == words.len() && !query.fields.is_empty()).then_some(query)
    }

    /// Reads until the end of a selection, and gives the place behind it.
    fn selection(&mut self, words: &[String], mut at: usize, depth: u32, variables: &Value) -> Option<usize> {
        while words.get(at)? != "}" {
            let mut field = Field {
                key: name(words.get(at)?)?,
                ..Field::default()
            };
            at += 1;
            field.name.clone_from(&field.key);
            if words.get(at)? == ":" {
                field.name = name(words.get(at + 1)?)?;
                at += 2;
            }
            if words.get(at)? == "(" {
                (field.arguments, at) = arguments(words, at + 1, ")", variables)?;
            }
            if words.get(at)? == "{" {
                self.objects += 1;
                at = self.selection(words, at + 1, depth + 1, variables)?;
            } else {
                self.properties += 1;
            }
            if depth == 0 {
                self.fields.push(field);
            }
        }
        (depth < 50).then_some(at + 1)
    }
}

fn name(word: &str) -> Option<String> {
    let starts = word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    starts.then(|| word.to_owned())
}

fn arguments(
    words: &[String],
    mut at: usize,
    end: &str,
    variables: &Value,
) -> Option<(Map<String, Value>, usize)> {
    let mut found = Map::new();
    while words.get(at)? != end {
        let name = name(words.get(at)?)?;
        (words.get(at + 1)? == ":").then_some(())?;
        let value;
        (value, at) = literal(words, at + 2, variables)?;
        found.insert(name, value);
    }
    Some((found, at + 1))
}

fn literal(words: &[String], at: usize, variables: &Value) -> Option<(Value, usize)> {
    let word = words.get(at)?;
    match word.as_str() {
        "$" => Some((variables[words.get(at + 1)?].clone(), at + 2)),
        "{" => {
            let (object, at) = arguments(words, at + 1, "}", variables)?;
            Some((object.into(), at))
        }
        "[" => {
            let (mut list, mut at) = (Vec::new(), at + 1);
            while words.get(at)? != "]" {
                let value;
                (value, at) = literal(words, at, variables)?;
                list.push(value);
            }
            Some((list.into(), at + 1))
        }
        _ => Some((
            serde_json::from_str(word).unwrap_or_else(|_| word.as_str().into()),
            at + 1,
        )),
    }
}

/// Names, numbers, texts and marks. Commas and what is no word are left out.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => {
                let bytes = rest.as_bytes();
                let mut at = 1;
                while *bytes.get(at)? != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at + 1
            }
            c if c.is_ascii_alphanumeric() || c == '_' || c == '-' => rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')))
                .unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        if first != ',' {
            words.push(rest[..length].to_owned());
        }
        rest = rest[length..].trim_start();
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]
    use serde_json::json;

    use super::*;

    fn read(text: &str, variables: &Value) -> Option<Query> {
        Query::read(
            json!({"query": text, "variables": variables})
                .to_string()
                .as_bytes(),
        )
    }

    #[test]
    fn fields_with_their_arguments() {
        let text =
            "mutation($a: In!, $b: [Int]) { one: make(input: $a, more: {x: [1, \"}\"]}) { ok { id } } two }";
        let query = read(text, &json!({"a": {"t": 1}})).unwrap();
        assert!(query.writes);
        let keys: Vec<_> = query
            .fields
            .iter()
            .map(|field| (&*field.key, &*field.name))
            .collect();
        assert_eq!(keys, [("one", "make"), ("two", "two")]);
        let expected = json!({"input": {"t": 1}, "more": {"x": [1, "}"]}});
        assert_eq!(Value::Object(query.fields[0].arguments.clone()), expected);
        assert_eq!((query.objects, query.properties), (2, 2));
        assert!(!read("{ a }", &Value::Null).unwrap().writes);
    }

    #[test]
    fn texts_that_are_none() {
        for bad in [
            "",
            "{",
            "{}",
            "}",
            "{ a",
            "{ a(b) }",
            "{ a(b: ) }",
            "{ \"a\" }",
            "query",
            "{ a(b: \"x) }",
        ] {
            assert!(read(bad, &Value::Null).is_none(), "{bad:?}");
        }
    }
}
