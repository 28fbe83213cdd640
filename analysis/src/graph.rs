//! Who depends on whom: totals, who is depended on most, and cycles.

use serde::{Deserialize, Serialize};

/// Longest cycle of which all members are told.
const MAX_MEMBERS: usize = 50;

/// A dependency between files (in Go: packages), by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Edge {
    pub(crate) from: u32,
    pub(crate) to: u32,
    /// `to` is a module declared in `from` (Rust's `mod name;`): no reason for a cycle, as children use their parents.
    pub(crate) contains: bool,
}

/// A file and how many depend on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Depended {
    /// The file, or in Go the package's folder with a slash at its end.
    pub path: String,
    /// How many files (packages) depend on it.
    pub dependents: u32,
}

/// Files that depend on each other in a circle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cycle {
    /// How many.
    pub size: u64,
    /// The first of them, in the order of their paths.
    pub members: Vec<String>,
}

/// What the graph says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependencies {
    /// Imports in all files.
    pub imports: u64,
    /// Imports that mean a file of the repository.
    pub resolved: u64,
    /// Imports of what is not of the repository.
    pub external: u64,
    /// Imports that mean something of the repository that was not found.
    pub unresolved: u64,
    /// Different pairs of files.
    pub edges: u64,
    /// Whom most depend on.
    pub most_depended_on: Vec<Depended>,
    /// How many circles there are: groups in which everybody depends on everybody, maybe through others.
    pub cycles: u64,
    /// The largest of them.
    pub largest_cycles: Vec<Cycle>,
}

/// Sorts the edges, drops doubles, and says what they say. `name` names a node.
pub(crate) fn measure(
    nodes: usize,
    edges: &mut Vec<Edge>,
    top: usize,
    name: impl Fn(u32) -> String,
) -> Dependencies {
    edges.sort_unstable();
    // The same pair once; `contains: false` sorts first and says more.
    edges.dedup_by_key(|edge| (edge.from, edge.to));
    let mut dependents = vec![0_u32; nodes];
    for edge in edges.iter() {
        dependents[edge.to as usize] += 1;
    }
    let mut order: Vec<u32> = (0..nodes as u32)
        .filter(|node| dependents[*node as usize] > 0)
        .collect();
    order.sort_unstable_by_key(|node| (std::cmp::Reverse(dependents[*node as usize]), *node));
    order.truncate(top);
    let most_depended_on = order
        .into_iter()
        .map(|node| Depended {
            path: name(node),
            dependents: dependents[node as usize],
        })
        .collect();
    let mut groups = circles(nodes, edges);
    groups.sort_by_key(|group| (std::cmp::Reverse(group.len()), group[0]));
    Dependencies {
        edges: edges.len() as u64,
        most_depended_on,
        cycles: groups.len() as u64,
        largest_cycles: groups
            .iter()
            .take(top)
            .map(|group| Cycle {
                size: group.len() as u64,
                members: group.iter().take(MAX_MEMBERS).map(|node| name(*node)).collect(),
            })
            .collect(),
        ..Dependencies::default()
    }
}

/// The strongly connected components of more than one node (Tarjan, with a stack of its own: the repository decides
/// how deep it goes). `edges` are sorted. Members are sorted.
fn circles(nodes: usize, edges: &[Edge]) -> Vec<Vec<u32>> {
    const NEW: u32 = u32::MAX;
    let mut first = vec![0_u32; nodes + 1];
    for edge in edges {
        first[edge.from as usize + 1] += 1;
    }
    for node in 0..nodes {
        first[node + 1] += first[node];
    }
    let mut number = vec![NEW; nodes];
    let mut low = vec![0_u32; nodes];
    let mut waits = vec![false; nodes];
    let mut next = first.clone();
    let (mut stack, mut calls, mut found, mut count) = (Vec::new(), Vec::new(), Vec::new(), 0_u32);
    for start in 0..nodes as u32 {
        if number[start as usize] != NEW {
            continue;
        }
        calls.push(start);
        while let Some(&node) = calls.last() {
            let at = node as usize;
            if number[at] == NEW {
                number[at] = count;
                low[at] = count;
                count += 1;
                stack.push(node);
                waits[at] = true;
            }
            if next[at] < first[at + 1] {
                let edge = edges[next[at] as usize];
                next[at] += 1;
                let to = edge.to as usize;
                if edge.contains {
                    continue;
                }
                if number[to] == NEW {
                    calls.push(edge.to);
                } else if waits[to] {
                    low[at] = low[at].min(number[to]);
                }
                continue;
            }
            calls.pop();
            if let Some(&above) = calls.last() {
                low[above as usize] = low[above as usize].min(low[at]);
            }
            if low[at] == number[at] {
                let mut group = Vec::new();
                while let Some(member) = stack.pop() {
                    waits[member as usize] = false;
                    group.push(member);
                    if member == node {
                        break;
                    }
                }
                if group.len() > 1 {
                    group.sort_unstable();
                    found.push(group);
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(pairs: &[(u32, u32)]) -> Dependencies {
        let mut edges: Vec<Edge> = pairs
            .iter()
            .map(|(from, to)| Edge {
                from: *from,
                to: *to,
                contains: false,
            })
            .collect();
        measure(10, &mut edges, 3, |node| node.to_string())
    }

    #[test]
    fn finds_cycles_and_counts_dependents_once() {
        let told = measured(&[
            (0, 1),
            (0, 1),
            (1, 2),
            (2, 0),
            (3, 1),
            (4, 5),
            (5, 4),
            (6, 7),
            (8, 7),
        ]);
        assert_eq!((told.edges, told.cycles), (8, 2));
        assert_eq!(told.largest_cycles[0].members, ["0", "1", "2"]);
        assert_eq!(told.largest_cycles[1].members, ["4", "5"]);
        assert_eq!(told.most_depended_on[0].path, "1");
        assert_eq!(told.most_depended_on[0].dependents, 2);
    }

    #[test]
    fn a_declared_child_that_uses_its_parent_is_no_cycle() {
        let (child, parent) = (1, 0);
        let mut edges = vec![
            Edge {
                from: parent,
                to: child,
                contains: true,
            },
            Edge {
                from: child,
                to: parent,
                contains: false,
            },
        ];
        let told = measure(2, &mut edges, 3, |node| node.to_string());
        assert_eq!((told.edges, told.cycles), (2, 0));
        // A parent that uses what it declares is one.
        edges.push(Edge {
            from: parent,
            to: child,
            contains: false,
        });
        assert_eq!(measure(2, &mut edges, 3, |node| node.to_string()).cycles, 1);
    }

    #[test]
    fn a_million_files_in_one_circle_do_not_overflow_the_stack() {
        let count = 1_000_000;
        let mut edges: Vec<Edge> = (0..count)
            .map(|from| Edge {
                from,
                to: (from + 1) % count,
                contains: false,
            })
            .collect();
        let told = measure(count as usize, &mut edges, 3, |node| node.to_string());
        assert_eq!((told.cycles, told.largest_cycles[0].size), (1, u64::from(count)));
        assert_eq!(told.largest_cycles[0].members.len(), MAX_MEMBERS);
    }
}
