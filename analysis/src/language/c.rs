//! C.

use tree_sitter::Node;

use super::{Fields, Imports, Meaning, Rules, Source, field, named, nobody, text, unquoted};
use crate::facts::{Form, Kind};

pub(crate) static RULES: Rules = Rules {
    grammar: || tree_sitter_c::LANGUAGE.into(),
    meanings: &[
        ("function_definition", Meaning::Symbol(Kind::Function)),
        ("struct_specifier", Meaning::Ask),
        ("union_specifier", Meaning::Ask),
        ("enum_specifier", Meaning::Ask),
        ("type_definition", Meaning::Symbol(Kind::Alias)),
        ("preproc_def", Meaning::Symbol(Kind::Macro)),
        ("preproc_function_def", Meaning::Symbol(Kind::Macro)),
        ("preproc_include", Meaning::Import),
        ("if_statement", Meaning::Branch),
        ("for_statement", Meaning::Branch),
        ("while_statement", Meaning::Branch),
        ("do_statement", Meaning::Branch),
        ("case_statement", Meaning::Ask),
        ("conditional_expression", Meaning::Branch),
        ("binary_expression", Meaning::Operator),
        ("comment", Meaning::Comment),
        ("string_literal", Meaning::Skip),
        ("initializer_list", Meaning::Nothing),
    ],
    words: &[
        "{", "#", "struct", "union", "enum", "typedef", "if", "for", "while", "do", "case", "?", "&&", "||",
        "//", "/*",
    ],
    name,
    ask,
    owner: nobody,
    elide: None,
    imports,
};

fn name(node: Node<'_>, source: &Source<'_>) -> Option<String> {
    if let Some(name) = named(node, source) {
        return Some(name);
    }
    // `int *(*name(void))(int)`: the name is at the end of the declarators.
    let mut at = node.child_by_field_name("declarator")?;
    for _ in 0..32 {
        let Some(inner) = at.child_by_field_name("declarator").or_else(|| {
            (at.kind() == "parenthesized_declarator")
                .then(|| at.named_child(0))
                .flatten()
        }) else {
            break;
        };
        at = inner;
    }
    matches!(at.kind(), "identifier" | "type_identifier" | "primitive_type").then(|| text(at, source))
}

fn ask(node: Node<'_>, _: &Source<'_>, fields: &Fields) -> Meaning {
    let body = fields.body.of(node).is_some();
    match node.kind() {
        "struct_specifier" | "union_specifier" if body => Meaning::Symbol(Kind::Struct),
        "enum_specifier" if body => Meaning::Symbol(Kind::Enum),
        // `default:` has no value.
        "case_statement" if fields.value.of(node).is_some() => Meaning::Branch,
        _ => Meaning::Nothing,
    }
}

fn imports(node: Node<'_>, source: &Source<'_>, out: &mut Imports) {
    let Some(path) = field(node, "path", source) else {
        return;
    };
    let form = if path.starts_with('<') {
        Form::System
    } else {
        Form::Path
    };
    // `#include MACRO` names no file.
    if path.starts_with(['<', '"']) {
        out.add(node, unquoted(&path), form);
    }
}
