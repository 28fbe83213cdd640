//! JavaScript and TypeScript, with and without JSX.

use tree_sitter::Node;

use super::{Fields, Imports, Meaning, Rules, Source, field, named, nobody, text, unquoted};
use crate::facts::{Form, Kind};

const MEANINGS: &[(&str, Meaning)] = &[
    ("function_declaration", Meaning::Symbol(Kind::Function)),
    ("generator_function_declaration", Meaning::Symbol(Kind::Function)),
    ("class_declaration", Meaning::Symbol(Kind::Class)),
    ("method_definition", Meaning::Symbol(Kind::Method)),
    ("variable_declarator", Meaning::Ask),
    ("import_statement", Meaning::Import),
    ("export_statement", Meaning::Ask),
    ("call_expression", Meaning::Ask),
    ("if_statement", Meaning::Branch),
    ("for_statement", Meaning::Branch),
    ("for_in_statement", Meaning::Branch),
    ("while_statement", Meaning::Branch),
    ("do_statement", Meaning::Branch),
    ("switch_case", Meaning::Branch),
    ("catch_clause", Meaning::Branch),
    ("ternary_expression", Meaning::Branch),
    ("binary_expression", Meaning::Operator),
    ("comment", Meaning::Comment),
    ("html_comment", Meaning::Comment),
    ("string", Meaning::Skip),
    ("regex", Meaning::Skip),
    ("jsx_text", Meaning::Skip),
    ("decorator", Meaning::Skip),
    ("hash_bang_line", Meaning::Comment),
    // TypeScript only; JavaScript has no nodes of these kinds.
    ("abstract_class_declaration", Meaning::Symbol(Kind::Class)),
    ("interface_declaration", Meaning::Symbol(Kind::Interface)),
    ("enum_declaration", Meaning::Symbol(Kind::Enum)),
    ("type_alias_declaration", Meaning::Symbol(Kind::Alias)),
    ("function_signature", Meaning::Symbol(Kind::Function)),
    ("method_signature", Meaning::Symbol(Kind::Method)),
    ("abstract_method_signature", Meaning::Symbol(Kind::Method)),
    ("internal_module", Meaning::Symbol(Kind::Module)),
    ("module", Meaning::Symbol(Kind::Module)),
];

// Methods have no word of their own, but stand in braces.
const WORDS: &[&str] = &[
    "{",
    "function",
    "class",
    "import",
    "export",
    "require",
    "=>",
    "if",
    "for",
    "while",
    "do",
    "case",
    "catch",
    "?",
    "&&",
    "||",
    "//",
    "/*",
    "<!--",
    "-->",
    "#!",
    "interface",
    "enum",
    "type",
    "abstract",
    "namespace",
    "module",
];

pub(crate) static JAVASCRIPT: Rules = Rules {
    grammar: || tree_sitter_javascript::LANGUAGE.into(),
    meanings: MEANINGS,
    words: WORDS,
    name: named,
    ask,
    owner: nobody,
    elide: None,
    imports,
};

pub(crate) static TYPESCRIPT: Rules = Rules {
    grammar: || tree_sitter_typescript::LANGUAGE_TYPESCRIPT.into(),
    meanings: MEANINGS,
    words: WORDS,
    name: |node, source| named(node, source).map(|name| unquoted(&name).to_owned()),
    ask,
    owner: nobody,
    elide: None,
    imports,
};

pub(crate) static TSX: Rules = Rules {
    grammar: || tree_sitter_typescript::LANGUAGE_TSX.into(),
    meanings: MEANINGS,
    words: WORDS,
    name: |node, source| named(node, source).map(|name| unquoted(&name).to_owned()),
    ask,
    owner: nobody,
    elide: None,
    imports,
};

fn ask(node: Node<'_>, source: &Source<'_>, fields: &Fields) -> Meaning {
    match node.kind() {
        // `const f = () => ...` names a function as a declaration does.
        "variable_declarator" => match fields.value.of(node).map(|value| value.kind()) {
            Some("arrow_function" | "function_expression" | "generator_function") => {
                Meaning::Symbol(Kind::Function)
            }
            Some("class") => Meaning::Symbol(Kind::Class),
            _ => Meaning::Nothing,
        },
        "export_statement" if node.child_by_field_name("source").is_some() => Meaning::Import,
        "call_expression" if called(node, source).is_some() => Meaning::Import,
        _ => Meaning::Nothing,
    }
}

/// What `require("...")` or `import("...")` asks for.
fn called(node: Node<'_>, source: &Source<'_>) -> Option<String> {
    let function = node.child_by_field_name("function")?;
    let asks = match function.kind() {
        "import" => true,
        "identifier" => source.of(function) == b"require",
        _ => false,
    };
    let argument = asks.then(|| node.child_by_field_name("arguments")?.named_child(0))??;
    (argument.kind() == "string").then(|| text(argument, source))
}

fn imports(node: Node<'_>, source: &Source<'_>, out: &mut Imports) {
    let path = match node.kind() {
        "call_expression" => called(node, source),
        "import_statement" if node.child_by_field_name("source").is_none() => required(node, source),
        _ => field(node, "source", source),
    };
    if let Some(path) = path {
        out.add(node, unquoted(&path), Form::Path);
    }
}

/// TypeScript's `import x = require("...")`.
fn required(node: Node<'_>, source: &Source<'_>) -> Option<String> {
    let mut cursor = node.walk();
    let clause = node
        .named_children(&mut cursor)
        .find(|child| child.kind() == "import_require_clause")?;
    field(clause, "source", source)
}
