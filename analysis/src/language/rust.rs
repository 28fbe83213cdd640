//! Rust.

mod elide;

use tree_sitter::Node;

use super::{Fields, Imports, Meaning, Rules, Source, field, named, nobody, text};
use crate::facts::{Form, Kind};

pub(crate) static RULES: Rules = Rules {
    grammar: || tree_sitter_rust::LANGUAGE.into(),
    meanings: &[
        ("function_item", Meaning::Symbol(Kind::Function)),
        ("function_signature_item", Meaning::Symbol(Kind::Function)),
        ("struct_item", Meaning::Symbol(Kind::Struct)),
        ("union_item", Meaning::Symbol(Kind::Struct)),
        ("enum_item", Meaning::Symbol(Kind::Enum)),
        ("trait_item", Meaning::Symbol(Kind::Interface)),
        ("type_item", Meaning::Symbol(Kind::Alias)),
        ("const_item", Meaning::Symbol(Kind::Constant)),
        ("static_item", Meaning::Symbol(Kind::Constant)),
        ("macro_definition", Meaning::Symbol(Kind::Macro)),
        ("mod_item", Meaning::Ask),
        ("impl_item", Meaning::Scope),
        ("use_declaration", Meaning::Import),
        ("extern_crate_declaration", Meaning::Import),
        ("if_expression", Meaning::Branch),
        ("while_expression", Meaning::Branch),
        ("for_expression", Meaning::Branch),
        ("loop_expression", Meaning::Branch),
        ("try_expression", Meaning::Branch),
        ("match_expression", Meaning::Choice),
        ("match_arm", Meaning::Branch),
        ("binary_expression", Meaning::Operator),
        ("let_declaration", Meaning::Ask),
        ("match_pattern", Meaning::Ask),
        ("line_comment", Meaning::Comment),
        ("block_comment", Meaning::Comment),
        ("string_literal", Meaning::Skip),
        ("raw_string_literal", Meaning::Skip),
        // What is in a macro's call is tokens, not syntax.
        ("token_tree", Meaning::Skip),
        ("macro_rule", Meaning::Skip),
        // Types and paths are a good part of all nodes, and branch nowhere.
        ("visibility_modifier", Meaning::Skip),
        ("parameters", Meaning::Skip),
        ("closure_parameters", Meaning::Skip),
        ("type_parameters", Meaning::Skip),
        ("type_arguments", Meaning::Skip),
        ("where_clause", Meaning::Skip),
        ("tuple_type", Meaning::Skip),
        ("array_type", Meaning::Skip),
        ("function_type", Meaning::Skip),
        ("tuple_struct_pattern", Meaning::Skip),
        ("struct_pattern", Meaning::Skip),
        ("tuple_pattern", Meaning::Skip),
        ("integer_literal", Meaning::Skip),
        ("char_literal", Meaning::Skip),
        ("lifetime", Meaning::Skip),
        ("scoped_identifier", Meaning::Skip),
        ("scoped_type_identifier", Meaning::Skip),
        ("generic_type", Meaning::Skip),
        ("reference_type", Meaning::Skip),
        ("attribute_item", Meaning::Skip),
        ("inner_attribute_item", Meaning::Skip),
    ],
    words: &[
        "fn",
        "struct",
        "union",
        "enum",
        "trait",
        "type",
        "const",
        "static",
        "macro_rules",
        "mod",
        "impl",
        "use",
        "extern",
        "if",
        "while",
        "for",
        "loop",
        "match",
        "else",
        "?",
        "=>",
        "&&",
        "||",
        "//",
        "/*",
    ],
    name,
    ask,
    owner: nobody,
    elide: Some(elide::elide),
    imports,
};

fn name(node: Node<'_>, source: &Source<'_>) -> Option<String> {
    if node.kind() != "impl_item" {
        return named(node, source);
    }
    let of = node.child_by_field_name("type")?;
    // `impl<T> Foo<T>` is an impl of Foo.
    Some(field(of, "type", source).unwrap_or_else(|| text(of, source)))
}

fn ask(node: Node<'_>, _: &Source<'_>, fields: &Fields) -> Meaning {
    match node.kind() {
        "mod_item" if fields.body.of(node).is_some() => Meaning::Symbol(Kind::Module),
        "mod_item" => Meaning::Import,
        // `let ... else`, and a guard on an arm.
        "let_declaration" if fields.alternative.of(node).is_some() => Meaning::Branch,
        "match_pattern" if fields.condition.of(node).is_some() => Meaning::Branch,
        _ => Meaning::Nothing,
    }
}

fn imports(node: Node<'_>, source: &Source<'_>, out: &mut Imports) {
    match node.kind() {
        "mod_item" => {
            if let Some(name) = named(node, source) {
                out.add(node, &name, Form::Child);
            }
        }
        "extern_crate_declaration" => {
            if let Some(name) = named(node, source) {
                out.add(node, &format!("::{name}"), Form::Path);
            }
        }
        _ => {
            // Depth is bounded: use trees nest by hand, and hostile ones end here.
            if let Some(argument) = node.child_by_field_name("argument") {
                let mut found = Imports::default();
                tree(argument, source, "", &mut found, 16);
                out.dropped = out.dropped.saturating_add(found.dropped);
                for import in found.list {
                    let path = outside(&import.path, &out.modules);
                    out.add(node, &path, import.form);
                }
            }
        }
    }
}

/// A path written in inline modules, as the file outside of them would write it.
fn outside(path: &str, modules: &[String]) -> String {
    let (mut left, mut rest) = (modules.len(), path);
    if left == 0 || !(rest.starts_with("super") || rest.starts_with("self")) {
        return path.to_owned();
    }
    rest = rest.strip_prefix("self::").unwrap_or(rest);
    while left > 0
        && let Some(after) = rest.strip_prefix("super")
        && (after.is_empty() || after.starts_with("::"))
    {
        left -= 1;
        rest = after.trim_start_matches("::");
    }
    if left == 0 && rest.starts_with("super") {
        return rest.to_owned();
    }
    let mut parts = vec!["self"];
    parts.extend(modules[..left].iter().map(String::as_str));
    parts.extend((!rest.is_empty()).then_some(rest));
    parts.join("::")
}

fn join(prefix: &str, path: &str) -> String {
    if prefix.is_empty() {
        path.to_owned()
    } else {
        format!("{prefix}::{path}")
    }
}

/// The leaves of a `use` tree.
fn tree(node: Node<'_>, source: &Source<'_>, prefix: &str, out: &mut Imports, depth: u8) {
    let Some(depth) = depth.checked_sub(1) else {
        out.dropped = out.dropped.saturating_add(1);
        return;
    };
    match node.kind() {
        "use_list" => {
            let mut cursor = node.walk();
            for child in node.named_children(&mut cursor) {
                tree(child, source, prefix, out, depth);
            }
        }
        "scoped_use_list" => {
            let path = field(node, "path", source).unwrap_or_default();
            let prefix = if path.is_empty() {
                prefix.to_owned()
            } else {
                join(prefix, &path)
            };
            if let Some(list) = node.child_by_field_name("list") {
                tree(list, source, &prefix, out, depth);
            }
        }
        "use_as_clause" => {
            if let Some(path) = node.child_by_field_name("path") {
                tree(path, source, prefix, out, depth);
            }
        }
        "use_wildcard" => {
            let path = node.named_child(0).map(|n| text(n, source)).unwrap_or_default();
            let path = if path.is_empty() {
                prefix.to_owned()
            } else {
                join(prefix, &path)
            };
            out.add(node, &path, Form::Star);
        }
        // `use a::{self}` is `use a`.
        "self" if !prefix.is_empty() => out.add(node, prefix, Form::Path),
        "line_comment" | "block_comment" => {}
        _ => out.add(node, &join(prefix, &text(node, source)), Form::Path),
    }
}
