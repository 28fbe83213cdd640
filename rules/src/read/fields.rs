//! The fields of a table: taken one by one, and those that nobody took are told.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde_json::Value as Json;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Problem;
use crate::template::{Place, Template};
use crate::tree::{MAX_DEPTH, MAX_TEMPLATES, Tree};

/// Most characters of a problem.
const MAX_TOLD: usize = 500;
/// Most problems that are told: a file of rubbish has one a line.
const MAX_PROBLEMS: usize = 100;

/// A file on its way through the reader.
pub(super) struct Reading<'t> {
    text: &'t str,
    rule: Option<String>,
    problems: Vec<Problem>,
}

/// A text and where it stands.
pub(super) struct Text {
    pub(super) text: String,
    pub(super) at: usize,
}

impl<'t> Reading<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self {
            text,
            rule: None,
            problems: Vec::new(),
        }
    }

    /// What is told from here on is about this rule.
    pub(super) fn begin(&mut self, rule: String) {
        self.rule = Some(rule);
    }

    pub(super) fn end(&mut self) {
        self.rule = None;
    }

    pub(super) fn line(&self, at: usize) -> usize {
        1 + self
            .text
            .char_indices()
            .take_while(|(begin, _)| *begin < at)
            .filter(|(_, c)| *c == '\n')
            .count()
    }

    pub(super) fn problem(&mut self, at: usize, what: impl Display) {
        // One line of a terminal, whatever stands in the file.
        let what = what.to_string();
        let what = what.chars().map(|c| if c.is_control() { ' ' } else { c });
        let problem = Problem {
            line: self.line(at),
            rule: self.rule.clone(),
            what: what.take(MAX_TOLD).collect(),
        };
        self.problems.push(problem);
    }

    pub(super) fn tell(&mut self, line: usize, rule: &str, what: String) {
        let rule = Some(rule.to_owned());
        self.problems.push(Problem { line, rule, what });
    }

    /// All that was told, in the order of the lines.
    pub(super) fn over(mut self) -> Vec<Problem> {
        self.problems.sort();
        self.problems.truncate(MAX_PROBLEMS);
        self.problems
    }
}

/// A table whose fields are taken one by one.
pub(super) struct Fields<'t, 'i> {
    left: BTreeMap<&'t str, (usize, &'t Spanned<DeValue<'i>>)>,
    path: &'static str,
    at: usize,
    asked: Vec<&'static str>,
    wrong: Vec<&'static str>,
}

impl<'t, 'i> Fields<'t, 'i> {
    pub(super) fn of(table: &'t DeTable<'i>, path: &'static str, at: usize) -> Self {
        let fields = table.iter().map(|(name, value)| {
            let name: (&'t str, usize) = (name.get_ref().as_ref(), name.span().start);
            (name.0, (name.1, value))
        });
        Self {
            left: fields.collect(),
            path,
            at,
            asked: Vec::new(),
            wrong: Vec::new(),
        }
    }

    /// The full name of a field.
    pub(super) fn path(&self, name: &str) -> String {
        match self.path {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        }
    }

    pub(super) fn take(&mut self, name: &'static str) -> Option<&'t Spanned<DeValue<'i>>> {
        self.asked.push(name);
        self.left.remove(name).map(|(_, value)| value)
    }

    pub(super) fn text(&mut self, name: &'static str, reading: &mut Reading<'_>) -> Option<Text> {
        let value = self.take(name)?;
        let at = value.span().start;
        match value.get_ref().as_str() {
            Some(text) => Some(Text {
                text: text.to_owned(),
                at,
            }),
            None => {
                reading.problem(at, format!("{} must be text", self.path(name)));
                self.wrong.push(name);
                None
            }
        }
    }

    /// A table that must be there.
    pub(super) fn table(
        &mut self,
        name: &'static str,
        what: &str,
        reading: &mut Reading<'_>,
    ) -> Option<Fields<'t, 'i>> {
        let Some(value) = self.take(name) else {
            self.missing(name, what, reading);
            return None;
        };
        match value.get_ref() {
            DeValue::Table(table) => Some(Fields::of(table, name, value.span().start)),
            _ => {
                reading.problem(value.span().start, format!("{name} must be a table"));
                None
            }
        }
    }

    /// A value of any kind whose texts are templates, and where it stands.
    pub(super) fn tree(
        &mut self,
        name: &'static str,
        place: Place,
        reading: &mut Reading<'_>,
    ) -> Option<(usize, Tree)> {
        let value = self.take(name)?;
        let mut growing = Growing {
            place,
            templates: 0,
            reading,
        };
        let tree = growing.tree(value, &self.path(name), 0)?;
        if growing.templates > MAX_TEMPLATES {
            let what = format!("{} has more than {MAX_TEMPLATES} templates", self.path(name));
            reading.problem(value.span().start, what);
        }
        Some((value.span().start, tree))
    }

    pub(super) fn missing(&self, name: &str, what: &str, reading: &mut Reading<'_>) {
        if !self.wrong.contains(&name) {
            reading.problem(self.at, format!("{} is missing: {what}", self.path(name)));
        }
    }

    /// Tells the fields that nobody took.
    pub(super) fn over(self, reading: &mut Reading<'_>) {
        for (name, (at, _)) in &self.left {
            let near = self
                .asked
                .iter()
                .map(|asked| (strsim::levenshtein(asked, name), *asked))
                .min();
            let hint = match near {
                Some((distance, near)) if distance <= 2 => format!(": did you mean {near}?"),
                _ => format!(": there are {}", self.asked.join(", ")),
            };
            let shown: String = self.path(name).chars().take(64).collect();
            reading.problem(*at, format!("{shown} is unknown{hint}"));
        }
    }
}

/// A tree being read.
struct Growing<'r, 't> {
    place: Place,
    templates: usize,
    reading: &'r mut Reading<'t>,
}

impl Growing<'_, '_> {
    fn tree(&mut self, value: &Spanned<DeValue<'_>>, path: &str, depth: usize) -> Option<Tree> {
        let at = value.span().start;
        if depth > MAX_DEPTH {
            self.reading
                .problem(at, format!("{path} is nested deeper than {MAX_DEPTH}"));
            return None;
        }
        match value.get_ref() {
            DeValue::String(text) => match Template::read(text, self.place) {
                Ok(Template::Fixed(text)) => Some(Tree::Fixed(Json::String(text))),
                Ok(template) => {
                    self.templates += 1;
                    Some(Tree::Template(template))
                }
                Err(what) => {
                    self.reading.problem(at, format!("{path} {what}"));
                    None
                }
            },
            DeValue::Boolean(truth) => Some(Tree::Fixed(Json::Bool(*truth))),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Some(Tree::Fixed(number.into())),
                Err(_) => {
                    self.reading
                        .problem(at, format!("{path} is no number of 64 bits"));
                    None
                }
            },
            DeValue::Float(number) => {
                let read = number
                    .as_str()
                    .parse()
                    .ok()
                    .and_then(serde_json::Number::from_f64);
                if read.is_none() {
                    self.reading
                        .problem(at, format!("{path} is no number that JSON has"));
                }
                Some(Tree::Fixed(Json::Number(read?)))
            }
            DeValue::Datetime(time) => Some(Tree::Fixed(Json::String(time.to_string()))),
            // All of them are read, so that all that is wrong with them is told.
            DeValue::Array(items) => {
                let items = items.iter().enumerate();
                let read: Vec<_> = items
                    .map(|(at, item)| self.tree(item, &format!("{path}[{at}]"), depth + 1))
                    .collect();
                Some(Tree::List(read.into_iter().collect::<Option<_>>()?))
            }
            DeValue::Table(fields) => {
                let read: Vec<_> = fields
                    .iter()
                    .map(|(name, field)| {
                        let name = name.get_ref().to_string();
                        let tree = self.tree(field, &format!("{path}.{name}"), depth + 1);
                        tree.map(|tree| (name, tree))
                    })
                    .collect();
                Some(Tree::Map(read.into_iter().collect::<Option<_>>()?))
            }
        }
    }
}
