//! What is known of an event, in sentences: where it is, why, and what there is to do. Pure.

use std::fmt::Write as _;

use serde_json::{Value, json};
use shared::event::EventId;
use shared::telemetry::propagation::rfc3339;

use super::find::MOST;
use super::found::{Buried, Put, Row, Searched, Tried, Waiting};
use super::kin::Kin;
use crate::moment;
use crate::terminal::{Span, clean};

/// Characters of a text from outside.
const TEXT: usize = 300;

/// All that was found.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) rows: Vec<Row>,
    /// Failed attempts, newest first.
    pub(super) tried: Vec<Tried>,
    pub(super) waiting: Vec<Waiting>,
    pub(super) put: Vec<Put>,
    pub(super) buried: Vec<Buried>,
    pub(super) searched: Vec<Searched>,
    /// Why the results are not known.
    pub(super) unknown: Option<String>,
    /// What it follows from and what follows from it.
    pub(super) kin: Kin,
}

impl Report {
    /// Whether the event was found anywhere.
    pub(super) fn is_known(&self) -> bool {
        let found = [
            self.rows.len(),
            self.tried.len(),
            self.waiting.len(),
            self.put.len(),
            self.buried.len(),
        ];
        found.iter().sum::<usize>() > 0 || !self.kin.is_empty()
    }

    /// One word.
    pub(super) fn verdict(&self) -> &'static str {
        if self.rows.iter().any(|row| row.state == "done") {
            "done"
        } else if self.waiting.iter().any(|waiting| waiting.taken) {
            "in_flight"
        } else if !self.waiting.is_empty() {
            "waiting"
        } else if !self.put.is_empty() {
            "retry"
        } else if !self.buried.is_empty() || !self.rows.is_empty() {
            "dead"
        } else {
            "unknown"
        }
    }

    /// For people.
    pub(super) fn lines(&self, id: &EventId) -> Vec<String> {
        let mut lines = Vec::new();
        if self.is_known() {
            let verdict = self.verdict().replace('_', " ");
            lines.push(format!("{}: {verdict}", clean(id.as_str(), TEXT)));
            lines.push(String::new());
        }
        lines.extend(self.sentences());
        let kin = self.kin.lines();
        if !kin.is_empty() {
            lines.push(String::new());
            lines.extend(kin);
        }
        let attempts = self.attempts();
        if !attempts.is_empty() {
            lines.push(String::new());
            lines.push("Attempts that failed, newest first:".to_owned());
            lines.extend(attempts);
        }
        if self.is_known()
            && let Some(why) = &self.unknown
        {
            lines.push(String::new());
            lines.push(format!("What Postgres knows is not shown: {}", clean(why, TEXT)));
        }
        lines
    }

    /// One for each place where it is.
    fn sentences(&self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        all.extend(self.rows.iter().filter(|row| row.state == "done").map(done));
        all.extend(self.waiting.iter().flat_map(waits));
        all.extend(self.put.iter().map(put));
        all.extend(self.buried.iter().map(|letter| {
            let of_done = |row: &Row| row.state == "done" && row.service == letter.service.as_str();
            buried(letter, self.rows.iter().any(of_done))
        }));
        if self.verdict() == "done" {
            all.extend(self.searched.iter().filter(|searched| searched.cut).map(cut));
        }
        let gone = self.buried.is_empty() && self.waiting.is_empty() && self.put.is_empty();
        all.extend(
            self.rows
                .iter()
                .filter(|row| gone && row.state == "dead")
                .map(died),
        );
        if all.is_empty() && !self.tried.is_empty() {
            all.push(
                "Attempts of it are recorded, and no message of it is to be found: it has moved on this very moment, or \
                 somebody has removed it. Ask once more."
                    .to_owned(),
            );
        }
        if all.is_empty() && self.is_known() {
            all.push(
                "Nothing is recorded of it yet, and no message of it was found: it is about to be published, or is worked \
                 on this very moment. Ask once more."
                    .to_owned(),
            );
        }
        all
    }

    fn attempts(&self) -> Vec<String> {
        let line = |at: u64, code: &str, detail: &str, by: &str| {
            format!(
                "  {}  {}  {}{by}",
                moment::since(at),
                clean(code, 40),
                clean(detail, 120)
            )
        };
        if !self.tried.is_empty() {
            let lines = self.tried.iter().map(|tried| {
                let by = format!("  (worker {})", clean(&tried.worker, 60));
                line(tried.at_ms as u64, &tried.code, &tried.detail, &by)
            });
            return lines.collect();
        }
        let histories = [
            self.waiting.first().map(|waiting| &waiting.history),
            self.put.first().map(|put| &put.history),
            self.buried.first().map(|buried| &buried.history),
        ];
        let history = histories.into_iter().flatten().next();
        let lines = history.into_iter().flatten().rev();
        lines.map(|a| line(a.at, &a.code, &a.detail, "")).collect()
    }

    /// For programs, without the id.
    pub(super) fn json(&self) -> Value {
        json!({
            "verdict": self.verdict(),
            "because": self.sentences(),
            "results": self.rows,
            "failures": self.tried,
            "in_stream": self.waiting.iter().map(|w| json!({
                "service": w.service.as_str(), "lane": w.lane.as_str(), "sequence": w.sequence,
                "taken": w.taken, "before": w.before, "before_in_all_lanes": w.ahead,
                "begins_at": w.begins.map(moment::stamp), "attempts": w.attempts, "history": w.history,
            })).collect::<Vec<_>>(),
            "scheduled": self.put.iter().map(|p| json!({
                "service": p.service.as_str(), "at": p.at.map(|at| rfc3339(moment::unix(at))), "due": p.due, "for_a_limit": p.planned.is_some() && p.budgets.is_none(),
                "for_a_budget": p.budgets.is_some(),
                "for_an_upstream": p.out_of_service,
                "attempts": p.attempts, "history": p.history,
            })).collect::<Vec<_>>(),
            "dead_letters": self.buried.iter().map(|b| json!({
                "service": b.service.as_str(), "sequence": b.sequence, "code": b.code, "reason": b.reason,
                "attempts": b.attempts, "died_ms": b.at, "history": b.history,
            })).collect::<Vec<_>>(),
            "chain": self.kin.json(),
            "searched": self.searched,
            "postgres_problem": self.unknown,
        })
    }
}

/// For an event of which nothing was found.
pub(super) fn nowhere(id: &EventId, report: &Report) -> String {
    let mut text = format!(
        "nothing is known of {}: it was never accepted here, or what was known has been removed since",
        clean(id.as_str(), TEXT)
    );
    if let Some(why) = &report.unknown {
        let _ = write!(
            text,
            "\nweir: what is done is not known, for the results cannot be read: {}",
            clean(why, TEXT)
        );
    }
    for cut in report.searched.iter().filter(|searched| searched.cut) {
        let _ = write!(
            text,
            "\nweir: of the {} messages of {} only the newest {MOST} were looked at",
            cut.total, cut.stream
        );
    }
    text
}

fn done(row: &Row) -> String {
    let attempt = match row.attempts {
        1 => "at the first attempt".to_owned(),
        n => format!("at attempt {n}"),
    };
    let waited = (row.finished_ms - row.accepted_ms).max(0) as f64 / 1e3;
    format!(
        "{} is done with it: {}, {attempt}, {}, {} after it was accepted; the attempt took {} ms, by worker {}.{}",
        row.service,
        clean(&row.code, 60),
        moment::since(row.finished_ms as u64),
        moment::span(waited).replace("now", "0ms"),
        row.took_ms,
        clean(&row.worker, 80),
        if row.trace_id.bytes().all(|b| b == b'0') {
            String::new()
        } else {
            format!(" Its trace is {}.", clean(&row.trace_id, 40))
        }
    ) + &match row.detail.as_str() {
        "" => String::new(),
        detail => format!(
            " It was {}: a worker may have begun it before.",
            clean(detail, TEXT)
        ),
    }
}

fn waits(waiting: &Waiting) -> Vec<String> {
    let Waiting {
        service,
        lane,
        sequence,
        before,
        ..
    } = waiting;
    let tried = match waiting.attempts {
        0 => String::new(),
        1 => ", after one failed attempt".to_owned(),
        n => format!(", after {n} failed attempts"),
    };
    if waiting.taken {
        return vec![format!(
            "A worker of {service} has it (message {sequence}, lane {lane}{tried}): it is worked on or waits for its \
             turn at a limit. There is nothing to do: should that worker have died, another one gets it after \
             WEIR_STREAM_ACK_WAIT."
        )];
    }
    let others = waiting.ahead.saturating_sub(*before);
    let others = match others {
        0 => String::new(),
        n => format!(", and about {n} of other lanes go first"),
    };
    let place = match before {
        0 => format!("first in lane {lane}"),
        n => format!("in lane {lane} behind {n}"),
    };
    let mut all = vec![format!(
        "It waits {place} of {service} (message {sequence}{tried}){others}, since {}; {} are in flight.",
        moment::since(waiting.kept),
        waiting.in_flight
    )];
    all.extend(waiting.because.clone());
    match waiting.begins {
        Some(begins) => all.push(format!("It may begin at {}.", moment::until(begins))),
        None if waiting.because.is_none() => {
            all.push("No limit is in its way: workers and the API set the pace.".to_owned());
        }
        None => {}
    }
    all
}

fn put(put: &Put) -> String {
    let service = &put.service;
    if put.due {
        return format!(
            "Its time has come: it is on its way back to the stream of {service}. There is nothing to do."
        );
    }
    let at = match put.planned.or(put.at).map(|at| (at, moment::from_now(at))) {
        Some((_, ahead)) if ahead > 0.0 => moment::until(ahead),
        Some((at, _)) => moment::since(at),
        None => "a time that cannot be read".to_owned(),
    };
    if put.out_of_service {
        return format!(
            "It waits for an upstream of {service} to be back in service, and is looked at again at {at}. That is no \
             failed attempt, and there is nothing to do; `weir explain {service}` says what is known of the upstream."
        );
    }
    if let Some(budgets) = &put.budgets {
        return format!(
            "It waits for a budget of {service}: its next call could have spent more than is left of the day. It is looked at \
             again at {at}, not before, also if the budget is raised; that is no failed attempt. {}",
            budgets.join(" ")
        );
    }
    if put.planned.is_some() {
        return format!(
            "It waits for its turn at a limit of {service}, planned for {at}. That is no failed attempt, and there is \
             nothing to do."
        );
    }
    let last = put.history.last().map_or(String::new(), |last| {
        format!(" ({}: {})", clean(&last.code, 40), clean(&last.detail, 120))
    });
    format!(
        "{service} has failed on it {}{last}, and tries again at {at}. There is nothing to do.",
        match put.attempts {
            0 | 1 => "once".to_owned(),
            n => format!("{n} times"),
        }
    )
}

/// A letter, of an event that is done or not.
fn buried(letter: &Buried, done: bool) -> String {
    let Buried {
        service,
        sequence,
        attempts,
        ..
    } = letter;
    let (what, after) = match (done, attempts) {
        (true, _) => ("keeps a dead letter of it all the same", String::new()),
        (false, 1) => ("has given it up", ", after 1 attempt".to_owned()),
        (false, n) => ("has given it up", format!(", after {n} attempts")),
    };
    format!(
        "{service} {what}: {}: {}{after}, {}. See `weir dlq show {sequence}`; once the reason is gone, `weir dlq replay \
         {sequence}`.",
        clean(&letter.code, 40),
        clean(&letter.reason, TEXT),
        moment::since(letter.at)
    )
}

/// Letters that were not looked at, for an event that is done.
fn cut(searched: &Searched) -> String {
    format!(
        "Of {} dead letters only the newest {} were looked at for one of it: `weir dlq list --id` looks at all.",
        searched.total, searched.looked_at
    )
}

/// Dead, and its letter is not there.
fn died(row: &Row) -> String {
    format!(
        "{} has given it up: {}: {}, after {} attempt{}, {}. Its dead letter is not there any more, so it cannot be \
         replayed; publish it again if it is wanted.",
        row.service,
        clean(&row.code, 40),
        clean(&row.detail, TEXT),
        row.attempts,
        if row.attempts == 1 { "" } else { "s" },
        format_args!("{} ago", Span(-moment::from_now(row.finished_ms as u64)))
    )
}

#[cfg(test)]
mod tests;
