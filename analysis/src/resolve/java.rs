//! Java: classes by the end of their files' paths.
//!
//! Not seen: star imports of packages, and classes of the same package, which need no import.

use super::{Resolver, Target};
use crate::facts::{Form, Import};

pub(super) fn resolve(resolver: &Resolver, path: &str, import: Import<&str>) -> Target {
    let names: Vec<&str> = import.path.split('.').collect();
    let most = match import.form {
        Form::Member => names.len().saturating_sub(1),
        _ => names.len(),
    };
    // A class in a class lies in the outer one's file. A package alone is no file.
    for length in (2..=most).rev().take(4) {
        let tail = format!("{}.java", names[..length].join("/"));
        if let Some(file) = resolver.find_tail(&tail, path) {
            return Target::File(file);
        }
    }
    Target::External
}
