//! Go: packages by the module path of `go.mod`. A package, not a file, is what others depend on.
//!
//! Not seen: `replace`, vendored packages.

use super::{Resolver, Target, join};
use crate::facts::Import;

/// The module path in a `go.mod`.
pub(super) fn module(manifest: &str) -> Option<String> {
    let line = manifest
        .lines()
        .find_map(|line| line.trim().strip_prefix("module"))?;
    let name = line.split("//").next()?.trim().trim_matches('"');
    (!name.is_empty()).then(|| name.to_owned())
}

pub(super) fn resolve(resolver: &Resolver, import: Import<&str>) -> Target {
    for (module, folder) in &resolver.modules {
        let Some(rest) = import.path.strip_prefix(module.as_str()) else {
            continue;
        };
        if rest.is_empty() || rest.starts_with('/') {
            let package = join(folder, rest.trim_start_matches('/'));
            return Target::or_unknown(resolver.go_folders.get(&package).copied());
        }
    }
    Target::External
}
