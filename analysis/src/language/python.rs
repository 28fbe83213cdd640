//! Python.

use tree_sitter::Node;

use super::{Imports, Meaning, Rules, Source, field, named, nobody, nothing, text};
use crate::facts::{Form, Kind};

pub(crate) static RULES: Rules = Rules {
    grammar: || tree_sitter_python::LANGUAGE.into(),
    meanings: &[
        ("function_definition", Meaning::Symbol(Kind::Function)),
        ("class_definition", Meaning::Symbol(Kind::Class)),
        ("type_alias_statement", Meaning::Symbol(Kind::Alias)),
        ("import_statement", Meaning::Import),
        ("import_from_statement", Meaning::Import),
        ("if_statement", Meaning::Branch),
        ("elif_clause", Meaning::Branch),
        ("for_statement", Meaning::Branch),
        ("while_statement", Meaning::Branch),
        ("except_clause", Meaning::Branch),
        ("case_clause", Meaning::Branch),
        ("conditional_expression", Meaning::Branch),
        ("for_in_clause", Meaning::Branch),
        ("if_clause", Meaning::Branch),
        ("boolean_operator", Meaning::Branch),
        ("comment", Meaning::Comment),
    ],
    words: &[
        "def", "class", "type", "import", "if", "elif", "for", "while", "except", "case", "and", "or", "#",
    ],
    name: |node, source| match node.kind() {
        "type_alias_statement" => field(node, "left", source),
        _ => named(node, source),
    },
    ask: nothing,
    owner: nobody,
    elide: None,
    imports,
};

fn imports(node: Node<'_>, source: &Source<'_>, out: &mut Imports) {
    let module = field(node, "module_name", source);
    let mut cursor = node.walk();
    if node.kind() == "import_from_statement" {
        let module = module.unwrap_or_default();
        let mut star = node.named_children(&mut cursor);
        if star.any(|child| child.kind() == "wildcard_import") {
            out.add(node, &module, Form::Star);
            return;
        }
        drop(star);
        for child in node.children_by_field_name("name", &mut cursor) {
            let dot = if module.ends_with('.') || module.is_empty() {
                ""
            } else {
                "."
            };
            out.add(
                child,
                &format!("{module}{dot}{}", original(child, source)),
                Form::Member,
            );
        }
        return;
    }
    for child in node.children_by_field_name("name", &mut cursor) {
        out.add(child, &original(child, source), Form::Path);
    }
}

/// The name before `as`.
fn original(node: Node<'_>, source: &Source<'_>) -> String {
    match node.kind() {
        "aliased_import" => field(node, "name", source).unwrap_or_default(),
        _ => text(node, source),
    }
}
