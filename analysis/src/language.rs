//! The languages: which files are written in them, their grammars, and what each kind of node means.

pub(crate) mod c;
pub(crate) mod go;
pub(crate) mod java;
pub(crate) mod javascript;
pub(crate) mod python;
pub(crate) mod rust;

use std::num::NonZeroU16;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use tree_sitter::Node;

use crate::elide::Elided;
use crate::facts::{Form, Import, Kind, MAX_IMPORTS, MAX_NAME, MAX_TEXT, bounded};
use crate::words::Words;

/// A language that is read. The numbers are kept in keys and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// Rust.
    Rust = 1,
    /// Python.
    Python = 2,
    /// JavaScript, with JSX.
    JavaScript = 3,
    /// TypeScript.
    TypeScript = 4,
    /// TypeScript with JSX.
    Tsx = 5,
    /// Go.
    Go = 6,
    /// Java.
    Java = 7,
    /// C and its headers.
    C = 8,
}

/// What a kind of node means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Nothing of its own; its children may mean something.
    Nothing,
    /// Neither it nor its children mean anything: strings, token trees.
    Skip,
    /// Not code.
    Comment,
    /// Names something.
    Symbol(Kind),
    /// Gives its children a parent without being a symbol: Rust's `impl`.
    Scope,
    /// Imports something.
    Import,
    /// A branch.
    Branch,
    /// A branch if its `operator` is `&&`, `||` or `??`.
    Operator,
    /// Branches of which one is taken in any case: Rust's `match`, whose arms are branches.
    Choice,
    /// Nothing of its own; but what stands in it may mean something without a word that says so.
    Open,
    /// The language's own code decides.
    Ask,
}

/// One language's rules.
pub(crate) struct Rules {
    pub(crate) grammar: fn() -> tree_sitter::Language,
    pub(crate) meanings: &'static [(&'static str, Meaning)],
    /// Every node that means something has one of these in the node that it stands in, unless that is an
    /// [open](Meaning::Open) one.
    pub(crate) words: &'static [&'static str],
    /// The name of what a symbol or scope node names; `None` if it has none, and then it is no symbol.
    pub(crate) name: fn(Node<'_>, &Source<'_>) -> Option<String>,
    /// The type that a method written outside of it belongs to.
    pub(crate) owner: fn(Node<'_>, &Source<'_>) -> Option<String>,
    /// Decides what a node with [`Meaning::Ask`] means.
    pub(crate) ask: fn(Node<'_>, &Source<'_>, &Fields) -> Meaning,
    /// Leaves out what means nothing, if that can be told without parsing.
    pub(crate) elide: Option<Elide>,
    /// Adds the imports of an import node.
    pub(crate) imports: fn(Node<'_>, &Source<'_>, &mut Imports),
}

/// Leaves out what means nothing, by the words that may mean something.
pub(crate) type Elide = fn(&[u8], &Words) -> Option<Elided>;

/// A source whose nodes were parsed from it, or from what was left of it.
pub(crate) struct Source<'a> {
    pub(crate) whole: &'a [u8],
    pub(crate) left: Option<&'a Elided>,
}

impl<'a> Source<'a> {
    /// What was parsed.
    pub(crate) fn parsed(&self) -> &'a [u8] {
        self.left.map_or(self.whole, |left| &left.text)
    }

    /// A node's text, as it is in the whole.
    pub(crate) fn of(&self, node: Node<'_>) -> &'a [u8] {
        let mut range = node.byte_range();
        if let Some(left) = self.left
            && !range.is_empty()
        {
            range = left.origin(range.start)..left.origin(range.end - 1) + 1;
        }
        self.whole.get(range).unwrap_or_default()
    }
}

/// The numbers of fields that are looked at often: by name a field is searched for among all of them.
#[derive(Default)]
pub(crate) struct Fields {
    pub(crate) alternative: Field,
    pub(crate) arguments: Field,
    pub(crate) body: Field,
    pub(crate) condition: Field,
    pub(crate) operator: Field,
    pub(crate) value: Field,
}

/// The number of a field, if the grammar has it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Field(Option<NonZeroU16>);

impl Field {
    /// A node's child in this field.
    pub(crate) fn of(self, node: Node<'_>) -> Option<Node<'_>> {
        node.child_by_field_id(self.0?.get())
    }
}

impl Fields {
    fn of(language: &tree_sitter::Language) -> Self {
        let field = |name| Field(language.field_id_for_name(name));
        Self {
            alternative: field("alternative"),
            arguments: field("arguments"),
            body: field("body"),
            condition: field("condition"),
            operator: field("operator"),
            value: field("value"),
        }
    }
}

/// A grammar with the meaning of each of its kinds of node, by id.
pub(crate) struct Grammar {
    pub(crate) language: tree_sitter::Language,
    pub(crate) meanings: Vec<Meaning>,
    pub(crate) words: Words,
    pub(crate) fields: Fields,
    pub(crate) rules: &'static Rules,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Rust,
        Self::Python,
        Self::JavaScript,
        Self::TypeScript,
        Self::Tsx,
        Self::Go,
        Self::Java,
        Self::C,
    ];

    /// The language of a file, by its extension.
    pub fn of(path: &[u8]) -> Option<Self> {
        let name = path.rsplit(|b| *b == b'/').next()?;
        let dot = name.iter().rposition(|b| *b == b'.')?;
        Some(match &name[dot + 1..] {
            b"rs" => Self::Rust,
            b"py" | b"pyi" => Self::Python,
            b"js" | b"jsx" | b"mjs" | b"cjs" => Self::JavaScript,
            b"ts" | b"mts" | b"cts" => Self::TypeScript,
            b"tsx" => Self::Tsx,
            b"go" => Self::Go,
            b"java" => Self::Java,
            b"c" | b"h" => Self::C,
            _ => return None,
        })
    }

    /// Its name, as it is kept and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::JavaScript => "javascript",
            Self::TypeScript => "typescript",
            Self::Tsx => "tsx",
            Self::Go => "go",
            Self::Java => "java",
            Self::C => "c",
        }
    }

    fn rules(self) -> &'static Rules {
        match self {
            Self::Rust => &rust::RULES,
            Self::Python => &python::RULES,
            Self::JavaScript => &javascript::JAVASCRIPT,
            Self::TypeScript => &javascript::TYPESCRIPT,
            Self::Tsx => &javascript::TSX,
            Self::Go => &go::RULES,
            Self::Java => &java::RULES,
            Self::C => &c::RULES,
        }
    }

    /// Its grammar, made once.
    pub(crate) fn grammar(self) -> &'static Grammar {
        static GRAMMARS: [OnceLock<Grammar>; 8] = [const { OnceLock::new() }; 8];
        GRAMMARS[self as usize - 1].get_or_init(|| {
            let rules = self.rules();
            let language = (rules.grammar)();
            let mut meanings = vec![Meaning::Nothing; language.node_kind_count()];
            for (kind, meaning) in rules.meanings {
                // A grammar may have several ids of one name, aliases among them.
                for id in 0..language.node_kind_count() as u16 {
                    if language.node_kind_is_named(id) && language.node_kind_for_id(id) == Some(kind) {
                        meanings[usize::from(id)] = *meaning;
                    }
                }
            }
            Grammar {
                words: Words::new(rules.words),
                fields: Fields::of(&language),
                language,
                meanings,
                rules,
            }
        })
    }
}

/// The imports of a file, bounded.
#[derive(Default)]
pub(crate) struct Imports {
    /// The modules around what is read now, outermost first. Kept here because a node finds its parent only by
    /// going down from the top, which deep nesting makes slow.
    pub(crate) modules: Vec<String>,
    pub(crate) list: Vec<Import>,
    text: usize,
    pub(crate) dropped: u32,
}

impl Imports {
    pub(crate) fn add(&mut self, node: Node<'_>, path: &str, form: Form) {
        if path.is_empty() {
            return;
        }
        self.text = self.text.saturating_add(path.len().min(MAX_NAME));
        if self.list.len() >= MAX_IMPORTS || self.text > MAX_TEXT {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        self.list.push(Import {
            path: bounded(path).to_owned(),
            form,
            line: line(node.start_position().row),
        });
    }
}

/// The line of a row.
pub(crate) fn line(row: usize) -> u32 {
    u32::try_from(row + 1).unwrap_or(u32::MAX)
}

/// A node's text, without white space at its ends; what is not UTF-8 is replaced.
pub(crate) fn text(node: Node<'_>, source: &Source<'_>) -> String {
    let bytes = source.of(node);
    let cut = &bytes[..bytes.len().min(MAX_NAME * 4)];
    let text = String::from_utf8_lossy(cut);
    // Databases take no zero byte in a text.
    bounded(text.trim()).replace('\0', "\u{fffd}")
}

/// The text of the child in the field `name`.
pub(crate) fn field(node: Node<'_>, name: &str, source: &Source<'_>) -> Option<String> {
    let text = text(node.child_by_field_name(name)?, source);
    (!text.is_empty()).then_some(text)
}

/// The name in the field `name`: where most grammars put it.
pub(crate) fn named(node: Node<'_>, source: &Source<'_>) -> Option<String> {
    field(node, "name", source)
}

/// For grammars in which the kind of a node says it all.
pub(crate) fn nothing(_: Node<'_>, _: &Source<'_>, _: &Fields) -> Meaning {
    Meaning::Nothing
}

/// For languages whose methods stand inside of their types.
pub(crate) fn nobody(_: Node<'_>, _: &Source<'_>) -> Option<String> {
    None
}

/// A string without its quotes.
pub(crate) fn unquoted(text: &str) -> &str {
    text.trim_matches(|c| matches!(c, '"' | '\'' | '`' | '<' | '>'))
}
