//! Java.

use tree_sitter::Node;

use super::{Imports, Meaning, Rules, Source, named, nobody, text};
use crate::facts::{Form, Kind};

pub(crate) static RULES: Rules = Rules {
    grammar: || tree_sitter_java::LANGUAGE.into(),
    meanings: &[
        ("class_declaration", Meaning::Symbol(Kind::Class)),
        ("record_declaration", Meaning::Symbol(Kind::Struct)),
        ("enum_declaration", Meaning::Symbol(Kind::Enum)),
        ("interface_declaration", Meaning::Symbol(Kind::Interface)),
        ("annotation_type_declaration", Meaning::Symbol(Kind::Interface)),
        ("method_declaration", Meaning::Symbol(Kind::Method)),
        ("constructor_declaration", Meaning::Symbol(Kind::Method)),
        ("compact_constructor_declaration", Meaning::Symbol(Kind::Method)),
        // Abstract methods have no braces, nor have those at the top.
        ("program", Meaning::Open),
        ("enum_body_declarations", Meaning::Open),
        ("import_declaration", Meaning::Import),
        ("if_statement", Meaning::Branch),
        ("for_statement", Meaning::Branch),
        ("enhanced_for_statement", Meaning::Branch),
        ("while_statement", Meaning::Branch),
        ("do_statement", Meaning::Branch),
        ("catch_clause", Meaning::Branch),
        ("ternary_expression", Meaning::Branch),
        ("switch_label", Meaning::Ask),
        ("binary_expression", Meaning::Operator),
        ("line_comment", Meaning::Comment),
        ("block_comment", Meaning::Comment),
        ("string_literal", Meaning::Skip),
    ],
    words: &[
        "{",
        "class",
        "record",
        "enum",
        "interface",
        "import",
        "if",
        "for",
        "while",
        "do",
        "catch",
        "case",
        "?",
        "&&",
        "||",
        "//",
        "/*",
    ],
    name: named,
    ask: |node, source, _| match source.of(node) {
        label if label.starts_with(b"default") => Meaning::Nothing,
        _ => Meaning::Branch,
    },
    owner: nobody,
    elide: None,
    imports,
};

fn imports(node: Node<'_>, source: &Source<'_>, out: &mut Imports) {
    let (mut path, mut form) = (String::new(), Form::Path);
    let mut cursor = node.walk();
    for child in node.children(&mut cursor) {
        match child.kind() {
            "static" => form = Form::Member,
            "asterisk" => form = Form::Star,
            "scoped_identifier" | "identifier" => path = text(child, source),
            _ => {}
        }
    }
    out.add(node, &path, form);
}
