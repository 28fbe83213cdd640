//! `weir tail`: ends and failed attempts as they come.

mod follow;

use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use shared::store::history::{Entry, newer};

use crate::args::Tail;
use crate::failure::Failure;
use crate::history::{failed, in_vain, line, reads};
use crate::terminal;
use follow::Follower;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(500);
/// Pause while Postgres is away.
const AWAY_PAUSE: Duration = Duration::from_secs(2);
/// Most rows of one question.
const ROWS: usize = 1_000;
/// Most questions of one look: what comes faster is shown in part.
const QUESTIONS: usize = 20;

pub(crate) async fn run(tail: Tail) -> Result<(), Failure> {
    let reads = reads(&tail.of.fleet, tail.of.postgres_url.as_deref()).await?;
    let watching = tokio::spawn(reads.clone().watch());
    let mut filter = tail.of.filter();
    filter.attempts = true;
    let overlap = tail.overlap.as_micros() as i64;
    let mut follower = Follower::new(tail.since.unwrap_or_else(now), overlap);
    let mut away = false;
    let mut first = true;
    loop {
        let mut place = follower.from();
        let mut questions = 0;
        let mut shown = false;
        let looked = loop {
            let rows = match newer(&reads, &filter, &place, ROWS).await {
                Ok(rows) => rows,
                Err(error) => break Err(error),
            };
            questions += 1;
            let (full, last) = (rows.len() == ROWS, rows.last().map(Entry::place));
            for entry in follower.take(rows, now()) {
                shown = true;
                if !show(&entry, tail.json) {
                    watching.abort();
                    return Ok(());
                }
            }
            match last {
                Some(last) if full && questions < QUESTIONS => place = last,
                last => break Ok(last.filter(|_| full)),
            }
        };
        match looked {
            Ok(cut) => {
                if away {
                    terminal::note("Postgres answers again");
                }
                away = false;
                if cut.is_some() {
                    terminal::note(
                        "more comes than can be shown: what lies between is left out (`weir history` has it)",
                    );
                    follower.skip_to(now());
                }
            }
            Err(error) if first => return Err(failed(error)),
            Err(error) => {
                if !away {
                    terminal::note(format_args!("{error}: going on when it is back"));
                }
                away = true;
            }
        }
        if first && !shown {
            let of = tail.of.clone();
            tokio::spawn(async move { in_vain(&of).await });
        }
        first = false;
        tokio::time::sleep(if away { AWAY_PAUSE } else { PAUSE }).await;
    }
}

/// Whether there is still somebody who reads it.
fn show(entry: &Entry, as_json: bool) -> bool {
    let text = if as_json {
        json!(entry).to_string()
    } else {
        line(entry)
    };
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).is_ok()
}

/// Microseconds since the Unix epoch.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
