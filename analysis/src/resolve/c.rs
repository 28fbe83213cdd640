//! C: headers beside the file, else by the end of their paths, the nearest first.
//!
//! Not seen: the search path of a build, so that of several headers alike another one may be meant; generated headers.

use super::{Resolver, Target, folder, normal};
use crate::facts::{Form, Import};

pub(super) fn resolve(resolver: &Resolver, path: &str, import: Import<&str>) -> Target {
    let beside = normal(folder(path), import.path).and_then(|at| resolver.find(&at));
    // `../x.h` is only ever beside.
    let tail = import.path.trim_start_matches("./");
    let anywhere = || {
        (!tail.starts_with("../"))
            .then(|| resolver.find_tail(tail, path))
            .flatten()
    };
    match import.form {
        Form::System => {
            // `<stdio.h>` is the system's even if somebody has a file of that name; `<lib/x.h>` may be ours.
            let found = tail.contains('/').then(anywhere).flatten();
            found.map_or(Target::External, Target::File)
        }
        _ => Target::or_unknown(beside.or_else(anywhere)),
    }
}
