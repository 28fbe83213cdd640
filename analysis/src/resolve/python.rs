//! Python: modules by their files, seen from the file's package, the top, `src` and `lib`.
//!
//! Not seen: `sys.path` as a program changes it, namespace packages that other repositories share, `importlib`.

use super::{Resolver, Target, folder, join, normal};
use crate::facts::{Form, Import};

const ENDS: [&str; 4] = [".py", "__init__.py", ".pyi", "__init__.pyi"];

pub(super) fn resolve(resolver: &Resolver, path: &str, import: Import<&str>) -> Target {
    let rest = import.path.trim_start_matches('.');
    let dots = import.path.len() - rest.len();
    let names: Vec<&str> = rest.split('.').filter(|name| !name.is_empty()).collect();
    if dots > 0 {
        let up = vec![".."; dots - 1].join("/");
        let Some(base) = normal(folder(path), &up) else {
            return Target::Unknown;
        };
        return Target::or_unknown(module(resolver, &base, &names, import.form, 0));
    }
    // Most are of the standard library.
    if names.first().is_some_and(|first| !resolver.knows_python(first)) {
        return Target::External;
    }
    let mut package = folder(path);
    while !package.is_empty() && resolver.find(&join(package, "__init__.py")).is_some() {
        package = folder(package);
    }
    let bases = [package, folder(path), "", "src", "lib"];
    for base in bases {
        if let Some(file) = module(resolver, base, &names, import.form, 1) {
            return Target::File(file);
        }
    }
    let ours = names.first().is_some_and(|first| {
        bases
            .iter()
            .any(|base| resolver.find_any(&join(base, first), &ENDS).is_some())
    });
    if ours { Target::Unknown } else { Target::External }
}

/// The module of `names`. Of `from a import b`, b may be a module of a or a name in it.
fn module(resolver: &Resolver, base: &str, names: &[&str], form: Form, least: usize) -> Option<u32> {
    let shortest = if form == Form::Member {
        names.len().saturating_sub(1)
    } else {
        names.len()
    };
    for length in (shortest.max(least)..=names.len()).rev() {
        let path = join(base, &names[..length].join("/"));
        let ends = if length == 0 { &ENDS[1..2] } else { &ENDS[..] };
        if let Some(file) = resolver.find_any(&path, ends) {
            return Some(file);
        }
    }
    None
}
