//! The tree of what follows from what, for people and for programs. Pure.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};
use shared::telemetry::propagation::rfc3339;

use super::{Kin, Link, Place, Standing};
use crate::moment;
use crate::terminal::clean;

/// Characters of an id.
const ID: usize = 120;

/// A line of the tree.
#[derive(Debug)]
struct Line {
    name: String,
    service: String,
    rest: String,
}

impl Kin {
    fn standing_of(&self, place: &Place) -> Option<&Standing> {
        self.standing.iter().flatten().find(|one| one.place == *place)
    }

    fn stands(&self, place: &Place) -> String {
        match self.standing_of(place) {
            Some(end) => format!(
                "{}: {}, {}",
                if end.state == "done" { "done" } else { "given up" },
                clean(&end.code, 40),
                moment::since(end.finished_ms as u64)
            ),
            None if self.standing.is_some() => "not done yet".to_owned(),
            None => "not known".to_owned(),
        }
    }

    fn below(&self, place: &Place) -> &[Link] {
        self.children.get(place).map_or(&[], Vec::as_slice)
    }

    /// How many follow from it that are not shown.
    fn hidden(&self, place: &Place) -> usize {
        let total = self.totals.get(place).copied().unwrap_or(0);
        usize::try_from(total)
            .unwrap_or(0)
            .saturating_sub(self.below(place).len())
    }

    /// The trace that all of it is in, where it is one.
    fn trace(&self) -> Option<&str> {
        let mut traces = self.standing.iter().flatten().map(|end| end.trace_id.as_str());
        let first = traces.next().filter(|first| first.bytes().any(|b| b != b'0'))?;
        traces.all(|trace| trace == first).then_some(first)
    }
}

pub(super) fn lines(kin: &Kin) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(why) = &kin.problem {
        lines.push(format!(
            "What follows from what is not known: {}",
            clean(why, 300)
        ));
    }
    if kin.is_empty() {
        return lines;
    }
    lines.extend(origin(&kin.parents));
    lines.push("What followed from what, by rules:".to_owned());
    lines.push(String::new());
    let (mut rows, mut shown) = (Vec::new(), BTreeSet::new());
    for root in &kin.roots {
        draw(kin, root, ("", ""), &mut shown, &mut rows);
    }
    let width = |of: fn(&Line) -> &str| rows.iter().map(|row| of(row).chars().count()).max();
    let name = width(|row| &row.name).unwrap_or(0);
    let service = width(|row| &row.service).unwrap_or(0);
    let text = |row: &Line| {
        let Line {
            name: tree,
            service: of,
            rest,
        } = row;
        format!("  {tree:name$}  {of:service$}  {rest}")
    };
    lines.extend(rows.iter().map(|row| text(row).trim_end().to_owned()));
    if let Some(trace) = kin.trace() {
        lines.push(String::new());
        lines.push(format!("All of it is one trace: {}", clean(trace, 40)));
    }
    lines
}

/// What it follows from at once.
fn origin(parents: &[Link]) -> Option<String> {
    let (first, others) = parents.split_first()?;
    let mut says = format!(
        "It follows from {} of {}, by rule {}.",
        clean(&first.parent.id, ID),
        clean(&first.parent.service, 40),
        clean(&first.rule, 80)
    );
    if !others.is_empty() {
        let ids: Vec<_> = others.iter().map(|link| clean(&link.parent.id, ID)).collect();
        let (all, dots) = (
            first.total - 1,
            if others.len() as i64 == first.total - 1 {
                "."
            } else {
                ", ..."
            },
        );
        let _ = write!(
            says,
            " {all} more led to the same event: {}{dots}",
            ids.join(", ")
        );
    }
    Some(says)
}

/// A branch: `lead` is what stands before its own line, and before those below it.
fn draw(kin: &Kin, place: &Place, lead: (&str, &str), shown: &mut BTreeSet<Place>, rows: &mut Vec<Line>) {
    let again = !shown.insert(place.clone());
    let mut rest = kin.stands(place);
    if again {
        rest += " (see above)";
    }
    if kin.own.contains(place) {
        rest += "  <- this event";
    }
    rows.push(Line {
        name: format!("{}{}", lead.0, clean(&place.id, ID)),
        service: clean(&place.service, 40).into_owned(),
        rest,
    });
    if again {
        return;
    }
    let (below, hidden) = (kin.below(place), kin.hidden(place));
    for (n, link) in below.iter().enumerate() {
        let last = n + 1 == below.len() && hidden == 0;
        let (own, under) = if last {
            ("└─ ", "   ")
        } else {
            ("├─ ", "│  ")
        };
        let lead = (format!("{}{own}", lead.1), format!("{}{under}", lead.1));
        draw(kin, &link.child(), (&lead.0, &lead.1), shown, rows);
    }
    if hidden > 0 {
        rows.push(Line {
            name: format!("{}└─ and {hidden} more", lead.1),
            service: String::new(),
            rest: String::new(),
        });
    }
}

pub(super) fn json(kin: &Kin) -> Value {
    let mut shown = BTreeSet::new();
    let roots = kin.roots.iter().filter(|_| !kin.is_empty());
    let trees: Vec<Value> = roots.map(|root| node(kin, root, None, &mut shown)).collect();
    let parent =
        |link: &Link| json!({"service": link.parent.service, "id": link.parent.id, "rule": link.rule});
    json!({
        "parents": kin.parents.iter().map(parent).collect::<Vec<_>>(),
        "parents_in_all": kin.parents.first().map_or(0, |link| link.total),
        "trees": trees,
        "trace_id": kin.trace(),
        "problem": kin.problem,
    })
}

fn node(kin: &Kin, place: &Place, rule: Option<&str>, shown: &mut BTreeSet<Place>) -> Value {
    let again = !shown.insert(place.clone());
    let below = if again { &[] } else { kin.below(place) };
    let end = kin.standing_of(place);
    let follows: Vec<Value> = below
        .iter()
        .map(|link| node(kin, &link.child(), Some(&link.rule), shown))
        .collect();
    json!({
        "service": place.service, "id": place.id, "rule": rule,
        "state": end.map(|end| &end.state), "code": end.map(|end| &end.code),
        "finished_at": end.map(|end| rfc3339(moment::unix(end.finished_ms as u64))),
        "trace_id": end.map(|end| &end.trace_id),
        "this": kin.own.contains(place), "shown_above": again,
        "follows": follows, "not_shown": if again { 0 } else { kin.hidden(place) },
    })
}

#[cfg(test)]
mod tests;
