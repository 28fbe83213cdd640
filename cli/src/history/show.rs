//! The past as people read it.

use shared::store::history::{Entry, Story, moment};
use shared::store::report::Line;
use shared::telemetry::propagation::rfc3339;

use crate::tables::Columns;
use crate::terminal::{self, clean};

/// Longest text of a cell that comes from outside.
const CELL: usize = 300;

pub(super) fn table(entries: impl Iterator<Item = Entry>) -> Columns {
    let mut columns = Columns::new(&[
        "at", "service", "state", "#attempt", "code", "#took", "tenant", "event", "detail",
    ]);
    for entry in entries {
        columns.row([
            rfc3339(moment(entry.at_us)),
            clean(&entry.service, 32).into_owned(),
            entry.state.clone(),
            entry.attempts.to_string(),
            clean(&entry.code, 40).into_owned(),
            took(entry.took_ms),
            clean(entry.tenant.as_deref().unwrap_or("-"), 64).into_owned(),
            clean(&entry.event_id, 256).into_owned(),
            clean(&entry.detail, CELL).into_owned(),
        ]);
    }
    columns
}

/// One entry on a line of its own, for what has no end that columns could be measured at.
pub(crate) fn line(entry: &Entry) -> String {
    let mut line = format!(
        "{}  {:<10} {:<6} {:>2}  {:<14} {:>8}  {}",
        rfc3339(moment(entry.at_us)),
        clean(&entry.service, 32),
        entry.state,
        entry.attempts,
        clean(&entry.code, 40),
        took(entry.took_ms),
        clean(&entry.event_id, 256),
    );
    for text in [entry.tenant.as_deref().unwrap_or_default(), &entry.detail] {
        if !text.is_empty() {
            line.push_str("  ");
            line.push_str(&clean(text, CELL));
        }
    }
    line
}

pub(super) fn story(story: &Story) {
    let ends = story.ends.iter().map(|end| end.entry.clone());
    let all = ends.chain(story.failed.iter().cloned());
    terminal::out(table(all).cut_last().text());
    for end in &story.ends {
        let service = clean(&end.entry.service, 32);
        match (&end.result, end.result_bytes) {
            (Some(result), _) => terminal::out(format_args!(
                "\n{service} kept:\n{}",
                terminal::clean_lines(&serde_json::to_string_pretty(result).unwrap_or_default())
            )),
            (None, Some(bytes)) => {
                terminal::out(format_args!("\n{service} kept {bytes} bytes, too long to show"));
            }
            (None, None) => {}
        }
        if !end.entry.trace_id.is_empty() {
            terminal::out(format_args!(
                "{service} trace: {}",
                clean(&end.entry.trace_id, 64)
            ));
        }
    }
    if story.more {
        terminal::note("there is more than is shown");
    }
}

pub(super) fn hours(lines: &[Line]) -> Columns {
    let mut columns = Columns::new(&["hour", "service", "state", "#events", "#attempts", "#p50", "#p95"]);
    for line in lines {
        columns.row([
            rfc3339(moment(line.hour.saturating_mul(1_000_000))).replace(":00:00.000Z", ":00Z"),
            clean(&line.service, 32).into_owned(),
            line.state.clone(),
            line.events.to_string(),
            line.attempts.to_string(),
            took(line.p50_ms as i64),
            took(line.p95_ms as i64),
        ]);
    }
    columns
}

fn took(ms: i64) -> String {
    match ms {
        ms if ms < 10_000 => format!("{ms}ms"),
        ms => format!("{:.1}s", ms as f64 / 1e3),
    }
}
