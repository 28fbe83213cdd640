//! The table at the end of a run.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table, Width,
    presets::UTF8_FULL_CONDENSED,
};
use serde::Serialize;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::{
    conservation::Conservation,
    generator::{Latency, LoadResult},
    provider::Stats,
};

/// Resident memory of one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// What the reader calls it.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// Bytes; `None` when the process is gone.
    pub resident: Option<u64>,
}

/// Reads the resident memory of processes by id.
pub fn memory(processes: &[(String, u32)]) -> Vec<Memory> {
    let pids: Vec<Pid> = processes.iter().map(|(_, pid)| Pid::from_u32(*pid)).collect();
    let system = System::new().ok().map(|mut system| {
        let kind = ProcessRefreshKind::nothing().with_memory();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&pids), true, kind);
        system
    });
    let resident = |pid: u32| Some(system.as_ref()?.process(Pid::from_u32(pid))?.memory());
    processes
        .iter()
        .map(|(name, pid)| Memory {
            name: name.clone(),
            pid: *pid,
            resident: resident(*pid),
        })
        .collect()
}

/// All that is known at the end of a run; what was not asked for is left out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// What the generator saw.
    pub load: Option<LoadResult>,
    /// The account of all accepted events.
    pub conservation: Option<Conservation>,
    /// From accept to done, by service.
    pub accept_to_done: BTreeMap<String, Latency>,
    /// What the provider counted.
    pub provider: Option<Stats>,
    /// Memory of the fleet's processes.
    pub memory: Vec<Memory>,
}

impl Report {
    /// Nothing lost, nothing doubled and no call over a limit, as far as it was looked at; false too when a load was
    /// sent and nothing of it was accepted, because that shows nothing.
    pub fn holds(&self) -> bool {
        self.load
            .as_ref()
            .is_none_or(|load| !load.accepted_ids.is_empty())
            && self.conservation.as_ref().is_none_or(Conservation::holds)
            && self
                .provider
                .as_ref()
                .is_none_or(|stats| stats.doubled.count == 0 && stats.total.refused == 0)
    }

    /// The table, at most 100 columns wide, without a newline at its end. `color` for terminals.
    pub fn table(&self, color: bool) -> String {
        let mut page = Page::new(color);
        if let Some(load) = &self.load {
            page.load(load);
        }
        match &self.conservation {
            Some(account) => page.conservation(account),
            None if self.load.is_some() => page.row("account", "none", "not drawn up: no Postgres was given"),
            None => {}
        }
        for (service, latency) in &self.accept_to_done {
            let of = format!("{} events, from kept to recorded", latency.count);
            page.latency(&format!("accept to done, {service}"), *latency, &of);
        }
        if let Some(stats) = &self.provider {
            page.provider(stats);
        }
        for process in &self.memory {
            let resident = process.resident.map_or_else(|| "gone".to_owned(), mebibytes);
            page.row(
                &format!("memory {}", process.name),
                &resident,
                &format!("pid {}", process.pid),
            );
        }
        page.table.to_string()
    }
}

struct Page {
    table: Table,
    color: bool,
}

impl Page {
    fn new(color: bool) -> Self {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED).set_width(100);
        table
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_header(["what", "figure", "note"]);
        if color {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        if let Some(column) = table.column_mut(0) {
            // One long name would take the room of every note.
            column.set_constraint(ColumnConstraint::UpperBoundary(Width::Fixed(34)));
        }
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        Self { table, color }
    }

    fn row(&mut self, what: &str, figure: &str, note: &str) {
        self.table
            .add_row([Cell::new(what), Cell::new(figure), Cell::new(note)]);
    }

    /// A figure that must be zero.
    fn verdict(&mut self, what: &str, figure: u64, note: &str) {
        let mut cell = Cell::new(figure);
        if self.color {
            let color = if figure == 0 { Color::Green } else { Color::Red };
            cell = cell.fg(color).add_attribute(Attribute::Bold);
        }
        self.table.add_row([Cell::new(what), cell, Cell::new(note)]);
    }

    fn load(&mut self, load: &LoadResult) {
        let rate = format!(
            "{:.1}/s accepted over {:.1?}",
            load.accepted_per_second, load.elapsed
        );
        self.row("requests sent", &load.sent.to_string(), &rate);
        for (outcome, count) in &load.outcomes {
            self.row(&format!("answers: {outcome}"), &count.to_string(), "");
        }
        let since = if load.from_due { "due" } else { "sent" };
        let of = format!("{} accepted, from when each was {since}", load.latency.count);
        self.latency("latency", load.latency, &of);
    }

    /// One row: the median as the figure, the other percentiles and what was measured beside it.
    fn latency(&mut self, what: &str, latency: Latency, of: &str) {
        if latency.count == 0 {
            return;
        }
        let [p90, p95, p99, max] = [latency.p90, latency.p95, latency.p99, latency.max].map(short_millis);
        let note = format!("p90 {p90}, p95 {p95}, p99 {p99}, max {max} ms\n{of}");
        self.row(&format!("{what} p50"), &millis(latency.p50), &note);
    }

    fn conservation(&mut self, account: &Conservation) {
        self.row("accepted", &account.accepted.to_string(), "distinct ids");
        self.row("done", &account.done.to_string(), "");
        self.row("dead", &account.dead.to_string(), "");
        self.row(
            "waiting",
            &account.waiting.to_string(),
            "in a stream or for a retry",
        );
        self.verdict("lost", account.lost, &account.lost_ids.join("\n"));
        self.verdict("doubled", account.doubled, &account.doubled_ids.join("\n"));
    }

    fn provider(&mut self, stats: &Stats) {
        for (api, counts) in &stats.api {
            let note = format!(
                "{} accepted, {} failed by faults, {} rejected",
                counts.accepted, counts.failed, counts.rejected
            );
            self.row(
                &format!("calls {}", api.as_str()),
                &counts.calls.to_string(),
                &note,
            );
        }
        self.verdict(
            "breaches",
            stats.total.refused,
            "calls over a limit, counted by the provider",
        );
        for (name, seen) in &stats.limits {
            let per = Duration::from_millis(seen.per_ms);
            let mut note = format!("the most in any {per:?}; {} allowed, {}", seen.calls, seen.shape);
            if let Some(share) = seen.used_share() {
                let _ = write!(note, "\n{:.1} % of what could be used was used", share * 100.0);
            }
            self.row(&format!("fullest window {name}"), &seen.worst.to_string(), &note);
        }
        self.verdict(
            "doubled effects",
            stats.doubled.count,
            &stats.doubled.examples.join("\n"),
        );
    }
}

fn millis(micros: u64) -> String {
    format!("{} ms", short_millis(micros))
}

/// Three digits that count; more would not be measured.
fn short_millis(micros: u64) -> String {
    let millis = micros as f64 / 1e3;
    match micros {
        0..10_000 => format!("{millis:.2}"),
        10_000..100_000 => format!("{millis:.1}"),
        _ => format!("{millis:.0}"),
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]
    use serde_json::json;

    use super::*;

    #[test]
    fn the_table_tells_what_is_lost_and_fits() {
        let account = Conservation {
            accepted: 3,
            done: 1,
            lost: 2,
            lost_ids: vec!["github:1".repeat(20), "github:2".into()],
            ..Conservation::default()
        };
        let memory = memory(&[("self".into(), std::process::id()), ("gone".into(), u32::MAX - 7)]);
        assert!(
            memory[0].resident.is_some_and(|bytes| bytes > 1 << 20),
            "{memory:?}"
        );
        assert_eq!(memory[1].resident, None);
        let report = Report {
            conservation: Some(account),
            memory,
            ..Report::default()
        };
        assert!(!report.holds());
        let text = report.table(false);
        assert!(
            text.contains("github:2") && text.contains("memory self"),
            "{text}"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }

    #[test]
    fn a_call_over_a_limit_fails_the_run() {
        let stats = |refused: u64| -> Stats {
            let calls =
                json!({"calls": 9, "accepted": 9 - refused, "refused": refused, "failed": 0, "rejected": 0});
            let stats = json!({
                "total": calls, "api": {}, "limits": {}, "concurrency": {"limit": 1, "peak": 1, "breaches": 0},
                "doubled": {"count": 0, "examples": [], "tracked": 9, "untracked": 0},
            });
            serde_json::from_value(stats).unwrap()
        };
        for (refused, holds) in [(0, true), (1, false)] {
            let report = Report {
                provider: Some(stats(refused)),
                ..Report::default()
            };
            assert_eq!(report.holds(), holds);
        }
    }

    #[test]
    fn latencies_take_one_row_each() {
        let latency = Latency {
            p50: 1_234,
            p90: 12_345,
            p95: 100_000,
            p99: 12_345_678,
            max: 12_345_679,
            count: 3,
        };
        let mut report = Report::default();
        report.accept_to_done.insert("github".into(), latency);
        report.accept_to_done.insert("idle".into(), Latency::default());
        let text = report.table(false);
        assert!(
            text.contains("accept to done, github p50") && text.contains("1.23 ms"),
            "{text}"
        );
        assert!(
            text.contains("p90 12.3, p95 100, p99 12346, max 12346 ms"),
            "{text}"
        );
        assert!(!text.contains("idle"), "what was not measured has no row: {text}");
    }

    #[test]
    fn nothing_looked_at_is_no_failure() {
        assert!(Report::default().holds());
    }
}
