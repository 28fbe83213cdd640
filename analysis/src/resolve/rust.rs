//! Rust: modules by their files, crates of the repository by their manifests.
//!
//! Not seen: `#[path]`, re-exports (an import of one means the file that re-exports), paths written without `use`,
//! what macros make.

use super::{Resolver, Target, folder, join};
use crate::facts::{Form, Import};

/// The name in paths of the crate that a manifest describes.
pub(super) fn crate_name(manifest: &str) -> Option<String> {
    let mut section = "";
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        } else if section == "[package]"
            && let Some((key, value)) = line.split_once('=')
            && key.trim() == "name"
        {
            let name = value.split('#').next()?.trim().trim_matches(['"', '\'']);
            return (!name.is_empty()).then(|| name.replace('-', "_"));
        }
    }
    None
}

/// Where a file stands in its crate.
pub(super) struct Place<'a> {
    /// The folder of the crate's root module.
    base: String,
    /// The file of the root module, if it is not `lib.rs` or `main.rs`.
    root: Option<&'a str>,
    /// The module that the file is.
    module: Vec<&'a str>,
    /// The folder of its children.
    children: String,
}

pub(super) fn place<'a>(resolver: &Resolver, path: &'a str) -> Place<'a> {
    let mut crate_folder = folder(path);
    while !resolver.crates.contains_key(crate_folder) && !crate_folder.is_empty() {
        crate_folder = folder(crate_folder);
    }
    let inside = path[crate_folder.len()..].trim_start_matches('/');
    let parts: Vec<&str> = inside.split('/').collect();
    // How many folders lead to the root module, and whether the file is a root by its own name.
    let (lead, own_root) = match parts.as_slice() {
        ["src", "bin", _] => (2, true),
        ["src", "bin", ..] => (3, false),
        ["src", ..] => (1, false),
        ["tests" | "benches" | "examples", _] => (1, true),
        ["tests" | "benches" | "examples", name, ..] => {
            let own = join(crate_folder, &format!("{}/{name}/main.rs", parts[0]));
            (if resolver.find(&own).is_some() { 2 } else { 1 }, false)
        }
        [_] => (0, true),
        // Not where cargo looks: taken for a crate whose root is beside it.
        _ => (parts.len() - 1, false),
    };
    let base = join(crate_folder, &parts[..lead].join("/"));
    let stem = parts.last().map_or("", |name| name.trim_end_matches(".rs"));
    let is_root = own_root || (parts.len() == lead + 1 && matches!(stem, "lib" | "main"));
    let mut module = parts[lead..parts.len() - 1].to_vec();
    let mut children = folder(path).to_owned();
    if !is_root && stem != "mod" {
        module.push(stem);
        children = join(&children, stem);
    }
    Place {
        base,
        root: own_root.then_some(path),
        module: if is_root { Vec::new() } else { module },
        children,
    }
}

/// The file of the module that the longest beginning of `names` means.
fn descend(resolver: &Resolver, base: &str, root: Option<&str>, names: &[&str]) -> Option<u32> {
    let names = &names[..names.len().min(32)];
    let mut module = join(base, &names.join("/"));
    for name in names.iter().rev() {
        if let Some(file) = resolver.find_any(&module, &[".rs", "mod.rs"]) {
            return Some(file);
        }
        module.truncate((module.len() - name.len()).saturating_sub(1));
    }
    match root {
        Some(root) => resolver.find(root),
        None => resolver.find_any(base, &["lib.rs", "main.rs", "mod.rs"]),
    }
}

pub(super) fn resolve(resolver: &Resolver, here: &Place<'_>, import: Import<&str>) -> Target {
    if import.form == Form::Child {
        let child = join(&here.children, import.path.trim_start_matches("r#"));
        return Target::or_unknown(resolver.find_any(&child, &[".rs", "mod.rs"]));
    }
    let names: Vec<&str> = import
        .path
        .split("::")
        .map(|name| name.trim().trim_start_matches("r#"))
        .collect();
    let within = |module: &[&str], rest: &[&str]| {
        let names: Vec<&str> = module.iter().chain(rest).copied().collect();
        Target::or_unknown(descend(resolver, &here.base, here.root, &names))
    };
    match names.as_slice() {
        ["crate", rest @ ..] => within(&[], rest),
        ["self", rest @ ..] => within(&here.module, rest),
        ["super", ..] => {
            let up = names.iter().take_while(|name| **name == "super").count();
            match here.module.len().checked_sub(up) {
                Some(left) => within(&here.module[..left], &names[up..]),
                None => Target::Unknown,
            }
        }
        ["", name, rest @ ..] => foreign(resolver, name, rest),
        [name, rest @ ..] => {
            let child = join(&here.children, name);
            match resolver.find_any(&child, &[".rs", "mod.rs"]) {
                Some(_) => within(&here.module, &names),
                None => foreign(resolver, name, rest),
            }
        }
        [] => Target::Unknown,
    }
}

fn foreign(resolver: &Resolver, name: &str, rest: &[&str]) -> Target {
    match resolver.crate_names.get(name) {
        Some(folder) => Target::or_unknown(descend(resolver, &join(folder, "src"), None, rest)),
        None => Target::External,
    }
}
