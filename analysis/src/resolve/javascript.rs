//! JavaScript and TypeScript: relative paths with the endings that bundlers try, packages of the repository by name.
//!
//! Not seen: paths that `tsconfig.json` or a bundler renames, `exports` of `package.json`.

use super::{Resolver, Target, folder, join, normal};
use crate::facts::Import;

const ENDS: [&str; 21] = [
    "",
    ".ts",
    ".tsx",
    ".d.ts",
    ".js",
    ".jsx",
    ".mjs",
    ".cjs",
    ".mts",
    ".cts",
    "index.ts",
    "index.tsx",
    "index.d.ts",
    "index.js",
    "index.jsx",
    "index.mjs",
    "index.cjs",
    "src/index.ts",
    "src/index.tsx",
    "src/index.js",
    "lib/index.js",
];

/// The name in a `package.json`.
pub(super) fn package_name(manifest: &str) -> Option<String> {
    let manifest: serde_json::Value = serde_json::from_str(manifest).ok()?;
    manifest.get("name")?.as_str().map(str::to_owned)
}

pub(super) fn resolve(resolver: &Resolver, path: &str, import: Import<&str>) -> Target {
    let wanted = import.path.split(['?', '#']).next().unwrap_or_default();
    if wanted.starts_with('.') {
        let Some(at) = normal(folder(path), wanted) else {
            return Target::Unknown;
        };
        return Target::or_unknown(file(resolver, &at));
    }
    // `@scope/name/rest` or `name/rest`.
    let names = if wanted.starts_with('@') { 2 } else { 1 };
    let cut = wanted
        .match_indices('/')
        .nth(names - 1)
        .map_or(wanted.len(), |(at, _)| at);
    let Some(package) = resolver.npm.get(&wanted[..cut]) else {
        return Target::External;
    };
    let rest = wanted[cut..].trim_start_matches('/');
    let found = file(resolver, &join(package, rest))
        .or_else(|| file(resolver, &join(package, &join("src", rest))).filter(|_| !rest.is_empty()));
    Target::or_unknown(found)
}

fn file(resolver: &Resolver, at: &str) -> Option<u32> {
    // TypeScript is imported by the name of what it becomes.
    let source = [
        (".js", ".ts"),
        (".js", ".tsx"),
        (".jsx", ".tsx"),
        (".mjs", ".mts"),
        (".cjs", ".cts"),
    ];
    resolver.find_any(at, &ENDS).or_else(|| {
        source
            .iter()
            .filter_map(|(built, written)| Some(format!("{}{written}", at.strip_suffix(built)?)))
            .find_map(|path| resolver.find(&path))
    })
}
