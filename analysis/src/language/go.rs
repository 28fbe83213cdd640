//! Go.

mod elide;

use tree_sitter::Node;

use super::{Fields, Imports, Meaning, Rules, Source, field, named, text, unquoted};
use crate::facts::{Form, Kind};

pub(crate) static RULES: Rules = Rules {
    grammar: || tree_sitter_go::LANGUAGE.into(),
    meanings: &[
        ("function_declaration", Meaning::Symbol(Kind::Function)),
        ("method_declaration", Meaning::Symbol(Kind::Method)),
        ("method_elem", Meaning::Symbol(Kind::Method)),
        ("type_spec", Meaning::Ask),
        ("type_alias", Meaning::Symbol(Kind::Alias)),
        ("const_spec", Meaning::Symbol(Kind::Constant)),
        ("import_spec_list", Meaning::Open),
        ("import_spec", Meaning::Import),
        ("if_statement", Meaning::Branch),
        ("for_statement", Meaning::Branch),
        ("expression_case", Meaning::Branch),
        ("type_case", Meaning::Branch),
        ("communication_case", Meaning::Branch),
        ("binary_expression", Meaning::Operator),
        ("comment", Meaning::Comment),
        ("interpreted_string_literal", Meaning::Skip),
        ("raw_string_literal", Meaning::Skip),
    ],
    words: &[
        "func",
        "interface",
        "type",
        "const",
        "import",
        "if",
        "for",
        "case",
        "&&",
        "||",
        "//",
        "/*",
    ],
    name: named,
    ask,
    owner: receiver,
    elide: Some(elide::elide),
    imports,
};

fn ask(node: Node<'_>, _: &Source<'_>, _: &Fields) -> Meaning {
    Meaning::Symbol(match node.child_by_field_name("type").map(|of| of.kind()) {
        Some("struct_type") => Kind::Struct,
        Some("interface_type") => Kind::Interface,
        _ => Kind::Alias,
    })
}

/// The type a method belongs to, e.g. `Server` of `func (s *Server[T]) Close()`.
fn receiver(node: Node<'_>, source: &Source<'_>) -> Option<String> {
    let list = node.child_by_field_name("receiver")?;
    let mut cursor = list.walk();
    // A comment may stand before it.
    let mut of = list
        .named_children(&mut cursor)
        .find_map(|child| child.child_by_field_name("type"))?;
    for _ in 0..4 {
        match of.kind() {
            "pointer_type" | "parenthesized_type" => of = of.named_child(0)?,
            "generic_type" => return field(of, "type", source),
            _ => break,
        }
    }
    Some(text(of, source))
}

fn imports(node: Node<'_>, source: &Source<'_>, out: &mut Imports) {
    if let Some(path) = field(node, "path", source) {
        out.add(node, unquoted(&path), Form::Path);
    }
}
