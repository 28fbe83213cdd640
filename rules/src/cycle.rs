//! Rules that would go on for ever on the first event that they concern: found when they are read.

use shared::subject::Service;

use crate::SOURCE;
use crate::rule::Rule;

/// The rules of a cycle that nothing can end, in the order in which they would follow each other, for each such cycle
/// once. Those with a condition, or whose type or tenant only an event tells, are left to the count of hops.
pub(crate) fn find(rules: &[Rule]) -> Vec<Vec<&Rule>> {
    let mut cycles: Vec<Vec<&Rule>> = Vec::new();
    let mut over = vec![false; rules.len()];
    for start in 0..rules.len() {
        // A walk from each rule over what surely follows; what was walked before has told its cycles.
        let mut path: Vec<usize> = Vec::new();
        let mut open = vec![(start, 0)];
        while let Some((at, depth)) = open.pop() {
            path.truncate(depth);
            if let Some(begin) = path.iter().position(|seen| *seen == at) {
                cycles.push(path[begin..].iter().map(|at| &rules[*at]).collect());
                continue;
            }
            if over[at] {
                continue;
            }
            over[at] = true;
            path.push(at);
            let next = (0..rules.len()).filter(|next| follows(&rules[at], &rules[*next]));
            open.extend(next.map(|next| (next, depth + 1)));
        }
    }
    cycles
}

/// Whether every event of the first rule surely makes the second one emit.
fn follows(first: &Rule, second: &Rule) -> bool {
    let Some(kind) = first.emit.kind.fixed() else {
        return false;
    };
    let to: &Service = &first.emit.service;
    second.is_unconditional()
        && first.is_unconditional()
        && second.on.service == *to
        && second.on.types.iter().any(|pattern| pattern.fits(kind))
        && second.on.source.as_deref().is_none_or(|source| source == SOURCE)
        && second.on.tenant.is_none()
}
