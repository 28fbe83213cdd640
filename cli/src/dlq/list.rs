//! `weir dlq list`.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use shared::telemetry::propagation::{millis, rfc3339};

use super::chosen::Work;
use super::letters::{Depth, Found};
use crate::args::DlqList;
use crate::failure::Failure;
use crate::tables::Columns;
use crate::terminal::{self, Span, clean};

/// Letters that one table shows; then another begins, with its heading.
const PAGE: usize = 1000;
/// How long to wait for a server that has gone away.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn run(list: DlqList) -> Result<(), Failure> {
    list.selection.check()?;
    let work = Work::look(&list.fleet, PATIENCE).await?;
    let failed = |halt| work.failed(halt);
    let mut letters = work
        .letters(&list.selection, Depth::Headers)
        .await
        .map_err(failed)?;
    let mut page = if list.json {
        Page::Json(String::new())
    } else {
        Page::Table(Vec::new())
    };
    let (mut listed, mut looked_at) = (0, 0);
    // A reader that has gone away needs no more.
    let mut read = true;
    while listed < list.limit && read {
        let Some((batch, count)) = letters.next().await.map_err(failed)? else {
            break;
        };
        looked_at += count;
        for found in batch.iter().take((list.limit - listed) as usize) {
            listed += 1;
            page.add(found);
        }
        if page.is_full() {
            read = page.print();
        }
    }
    page.print();
    let rest = letters.total.saturating_sub(looked_at);
    letters.close().await;
    if !list.json && listed == 0 {
        terminal::out("no dead letters");
    }
    if listed == list.limit && rest > 0 {
        terminal::note(format_args!("{rest} more were not looked at: see --limit"));
    }
    Ok(())
}

/// What is listed and not printed yet.
enum Page {
    Json(String),
    Table(Vec<[String; 8]>),
}

impl Page {
    fn add(&mut self, found: &Found) {
        match self {
            Self::Json(lines) => {
                lines.push_str(&terminal::json_line(&as_json(found)));
                lines.push('\n');
            }
            Self::Table(rows) => rows.push(cells(found)),
        }
    }

    fn is_full(&self) -> bool {
        match self {
            Self::Json(lines) => !lines.is_empty(),
            Self::Table(rows) => rows.len() >= PAGE,
        }
    }

    /// Prints it, and says whether anybody reads it.
    fn print(&mut self) -> bool {
        let text = match self {
            Self::Json(lines) => std::mem::take(lines),
            Self::Table(rows) if rows.is_empty() => return true,
            Self::Table(rows) => {
                let mut columns = Columns::new(&[
                    "#seq", "service", "id", "code", "#tries", "#died", "#bytes", "reason",
                ]);
                rows.drain(..).for_each(|row| columns.row(row));
                columns.cut_last().text() + "\n"
            }
        };
        let mut stdout = std::io::stdout();
        stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush())
            .is_ok()
    }
}

fn cells(found: &Found) -> [String; 8] {
    let letter = &found.letter;
    let age = millis(SystemTime::now()).saturating_sub(letter.at) as f64 / 1000.0;
    [
        letter.sequence.to_string(),
        letter.service.to_string(),
        clean(&letter.id, 80).into_owned(),
        clean(&letter.code, 32).into_owned(),
        letter.attempts.to_string(),
        format!("{} ago", Span(age)),
        found.size.to_string(),
        clean(&letter.reason, 120).into_owned(),
    ]
}

fn as_json(found: &Found) -> serde_json::Value {
    let letter = &found.letter;
    json!({
        "sequence": letter.sequence,
        "service": letter.service.as_str(),
        "id": letter.id,
        "code": letter.code,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "died_at": rfc3339(UNIX_EPOCH + Duration::from_millis(letter.at)),
        "accepted_at": rfc3339(UNIX_EPOCH + Duration::from_millis(letter.accepted)),
        "subject": letter.subject,
        "bytes": found.size,
    })
}
