//! Several documents as one: the names of what each brings along get a prefix of their own.

use serde_json::{Map, Value, json};

use super::Call;
use super::document::Operation;
use super::document::{Document, Item};
use super::tokens::Kind;

/// What all names of the call at this place begin with.
pub(super) fn prefix(at: usize) -> String {
    format!("e{at}_")
}

/// One request for all of these calls, which do the same and can be merged.
pub(in crate::handler) fn merge(calls: &[&Call]) -> Value {
    let (mut declared, mut selected) = (String::new(), String::new());
    let mut variables = Map::new();
    for (at, call) in calls.iter().enumerate() {
        let prefix = prefix(at);
        let document = &call.document;
        declared += &renamed(document, document.variables.clone(), &[], &prefix);
        let fields = document.items(document.selection.clone()).unwrap_or_default();
        let keys: Vec<_> = fields
            .iter()
            .filter_map(|item| match item {
                Item::Field(field) => Some((field.key, field.aliased)),
                Item::Inline(_) | Item::Spread(_) => None,
            })
            .collect();
        selected += &renamed(document, document.selection.clone(), &keys, &prefix);
        let own = call.variables.iter();
        variables.extend(own.map(|(name, value)| (format!("{prefix}{name}"), value.clone())));
    }
    let word = match calls.first().map(|call| call.document.operation()) {
        Some(Operation::Mutation) => "mutation",
        Some(Operation::Query) | None => "query",
    };
    let declared = if declared.is_empty() {
        declared
    } else {
        format!("({declared})")
    };
    json!({"query": format!("{word}{declared} {{ {selected}}}"), "variables": variables})
}

/// The tokens of a range, those of `keys` as aliases, variables and aliases with the prefix.
fn renamed(
    document: &Document,
    range: std::ops::Range<usize>,
    keys: &[(usize, bool)],
    prefix: &str,
) -> String {
    let mut text = String::new();
    for at in range {
        let source = document.source(at);
        let variable = at > 0 && document.kind(at - 1) == Some(Kind::Mark(b'$'));
        match keys.iter().find(|(key, _)| *key == at) {
            Some((_, true)) => text.extend([prefix, source]),
            Some((_, false)) => text.extend([prefix, source, ": ", source]),
            None if variable => text.extend([prefix, source]),
            None => text += source,
        }
        if document.kind(at) != Some(Kind::Mark(b'$')) {
            text.push(' ');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(text: &str, variables: Value) -> Call {
        let Value::Object(variables) = variables else {
            panic!("no object")
        };
        Call {
            document: Document::read(text).unwrap(),
            variables,
        }
    }

    #[test]
    fn names_do_not_meet() {
        let first = call(
            "query A($id: ID!, $n: Int = 3) { node(id: $id) { id, items(first: $n) { nodes { id } } } } # end",
            json!({"id": "x"}),
        );
        let second = call(
            "{ node: other(a: [\"$id\", {b: 1}]) { node } viewer { id } }",
            json!({}),
        );
        let merged = merge(&[&first, &second, &first]);
        assert_eq!(merged["variables"], json!({"e0_id": "x", "e2_id": "x"}));
        let text = merged["query"].as_str().unwrap();
        let read = Document::read(text).unwrap_or_else(|what| panic!("{text}: {what}"));
        let keys: Vec<_> = read
            .items(read.selection.clone())
            .unwrap()
            .into_iter()
            .map(|item| match item {
                Item::Field(field) => read.source(field.key).to_owned(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(keys, ["e0_node", "e1_node", "e1_viewer", "e2_node"]);
        assert!(text.contains("$e0_id : ID ! $e0_n : Int = 3"), "{text}");
        assert!(text.contains("e0_node: node ( id : $e0_id )"), "{text}");
        assert!(
            text.contains("e1_node : other ( a : [ \"$id\" { b : 1 } ] ) { node }"),
            "{text}"
        );
    }

    #[test]
    fn writes_stay_writes() {
        let write = call("mutation($i: In!) { make(input: $i) { ok } }", json!({"i": {}}));
        let merged = merge(&[&write, &write]);
        let read = Document::read(merged["query"].as_str().unwrap()).unwrap();
        assert_eq!(read.operation(), Operation::Mutation);
        assert_eq!(merged["variables"], json!({"e0_i": {}, "e1_i": {}}));
    }
}
