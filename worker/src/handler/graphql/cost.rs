//! What a document costs by the rules that the providers publish, estimated: what lists really hold is known only
//! afterwards.

use std::ops::Range;

use serde_json::{Map, Value};

use super::document::{Document, Field, Item};
use super::tokens::Kind;

/// How long a list is whose length the document does not say. Source: Linear, rate limiting, complexity.
const LENGTH: f64 = 50.0;
/// The longest list that is believed.
const LONGEST: f64 = 250.0;
/// No document costs more, whatever it says.
const MOST: f64 = 1e9;
/// Most fields that are looked at, fragments counted each time they are used.
const MOST_FIELDS: u32 = 20_000;

/// What a document costs.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(in crate::handler) struct Cost {
    /// Tenths of Linear's complexity: a tenth for a property, one for an object, all of it as often as a list is long. Source:
    /// Linear, rate limiting, calculating complexity.
    pub(in crate::handler) complexity: f64,
    /// GitHub's requests: one for each list, as often as the list around it is long. A hundred make a point. Source:
    /// GitHub, rate limits for the GraphQL API, predicting the point value of a query.
    pub(in crate::handler) lists: f64,
}

impl Cost {
    /// In Linear's units, 1 at least.
    pub(in crate::handler) fn complexity(self) -> u32 {
        (self.complexity / 10.0).ceil().max(1.0) as u32
    }

    /// In GitHub's points, 1 at least.
    pub(in crate::handler) fn points(self) -> u32 {
        (self.lists / 100.0).round().max(1.0) as u32
    }

    fn plus(self, other: Self) -> Self {
        Self {
            complexity: (self.complexity + other.complexity).min(MOST),
            lists: (self.lists + other.lists).min(MOST),
        }
    }

    fn times(self, by: f64) -> Self {
        Self {
            complexity: (self.complexity * by).min(MOST),
            lists: (self.lists * by).min(MOST),
        }
    }
}

impl std::iter::Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Self::plus)
    }
}

/// What a document costs with these variables.
pub(super) fn of(document: &Document, variables: &Map<String, Value>) -> Cost {
    let mut walk = Walk {
        document,
        variables,
        fields: 0,
    };
    walk.selection(document.selection.clone(), 0).0
}

struct Walk<'a> {
    document: &'a Document,
    variables: &'a Map<String, Value>,
    fields: u32,
}

impl Walk<'_> {
    /// The cost of a selection, and whether it is that of a list.
    fn selection(&mut self, range: Range<usize>, fragments: u32) -> (Cost, bool) {
        let (mut cost, mut list) = (Cost::default(), false);
        for item in self.document.items(range).unwrap_or_default() {
            self.fields += 1;
            if self.fields > MOST_FIELDS {
                return (
                    Cost::default().plus(Cost {
                        complexity: MOST,
                        lists: MOST,
                    }),
                    list,
                );
            }
            let (more, is_list) = match item {
                Item::Field(field) => self.field(&field, fragments),
                Item::Inline(inner) => self.selection(inner, fragments),
                Item::Spread(name) if fragments < 16 => {
                    let name = self.document.source(name);
                    let known = self.document.fragments.iter().find(|(known, _)| known == name);
                    let range = known.map_or(0..0, |(_, range)| range.clone());
                    self.selection(range, fragments + 1)
                }
                Item::Spread(_) => continue,
            };
            cost = cost.plus(more);
            list |= is_list;
        }
        (cost, list)
    }

    /// The cost of a field, and whether what it stands in is a list.
    fn field(&mut self, field: &Field, fragments: u32) -> (Cost, bool) {
        let name = self
            .document
            .source(field.key + if field.aliased { 2 } else { 0 });
        let in_list = matches!(name, "nodes" | "edges");
        let Some(inner) = field.selection.clone() else {
            let property = Cost {
                complexity: 1.0,
                lists: 0.0,
            };
            return (property, false);
        };
        let (inner, list) = self.selection(inner, fragments);
        let object = Cost {
            complexity: 10.0,
            lists: 0.0,
        };
        if !list {
            return (object.plus(inner), in_list);
        }
        let one = Cost {
            complexity: 10.0,
            lists: 1.0,
        };
        (one.plus(inner.times(self.length(field))), in_list)
    }

    /// How long a list is, by its arguments.
    fn length(&self, field: &Field) -> f64 {
        let document = self.document;
        for at in field.arguments.clone() {
            if !matches!(document.source(at), "first" | "last") || document.mark(at + 1) != Some(b':') {
                continue;
            }
            let said = match document.kind(at + 2) {
                Some(Kind::Number) => document.source(at + 2).parse().ok(),
                Some(Kind::Mark(b'$')) => self
                    .variables
                    .get(document.source(at + 3))
                    .and_then(Value::as_f64),
                _ => None,
            };
            return said.unwrap_or(LENGTH).clamp(1.0, LONGEST);
        }
        LENGTH
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cost(text: &str, variables: &Value) -> Cost {
        of(&Document::read(text).unwrap(), variables.as_object().unwrap())
    }

    #[test]
    fn complexity_as_it_is_documented() {
        for (text, complexity) in [
            ("{ viewer { id name } }", 2),
            ("{ issues(first: 10) { nodes { id title } } }", 13),
            ("{ issues { nodes { id } } }", 56),
            ("query($n: Int) { issues(first: $n) { nodes { id } } }", 6),
            (
                "{ teams(first: 10) { nodes { issues(first: 10) { nodes { id } } } } }",
                131,
            ),
            ("{ issues(filter: {a: 1}, last: 2) { edges { node { id } } } }", 6),
            ("{ ...F } fragment F on Query { viewer { id } }", 2),
            ("{ ...F } fragment F on Query { ...F }", 1),
            ("{ a(x: \"first: 3\") { nodes { id } } }", 56),
        ] {
            assert_eq!(cost(text, &json!({"n": 4})).complexity(), complexity, "{text}");
        }
    }

    #[test]
    fn points_as_they_are_documented() {
        // The example of GitHub's documentation: 1 + 100 + 5,000 requests are 51 points.
        let text = "{ viewer { repositories(first: 100) { edges { node { issues(first: 50) { edges { node { \
            labels(first: 60) { edges { node { name } } } } } } } } } } }";
        assert_eq!(cost(text, &json!({})).points(), 51);
        assert_eq!(cost("{ viewer { login } }", &json!({})).points(), 1);
    }

    #[test]
    fn nothing_costs_without_bound() {
        let fragment = |n: u32| {
            format!(
                "fragment F{n} on T {{ {} }} ",
                format!("...F{} ", n + 1).repeat(10)
            )
        };
        let bomb = (0..15).map(fragment).collect::<Vec<_>>().concat();
        let text = format!("{{ ...F0 }} {bomb} fragment F15 on T {{ id }}");
        assert!(cost(&text, &json!({})).complexity() > 1_000_000);
        let lists = "a(first: 99999999999) { nodes { ".repeat(15) + "id " + &"} }".repeat(15);
        let deep = cost(&format!("{{ {lists} }}"), &json!({}));
        assert!(deep.complexity() >= 100_000_000);
    }
}
