//! `weir cache worth`: how many look-ups found an answer, and what that saved.

use serde_json::json;
use shared::access::worth::{Line, worth};
use shared::store::history::moment;
use shared::telemetry::propagation::rfc3339;

use crate::args::CacheWorth;
use crate::failure::Failure;
use crate::fleet;
use crate::history;
use crate::moment::span;
use crate::tables::Columns;
use crate::terminal::{self, clean};

pub(super) async fn run(asked: CacheWorth) -> Result<(), Failure> {
    let reads = history::reads(&asked.fleet, asked.postgres_url.as_deref()).await?;
    let lines = worth(&reads, asked.hours, &asked.service)
        .await
        .map_err(history::failed)?;
    if lines.is_empty() {
        let postgres_url = asked.postgres_url.as_deref();
        if let Some(told) = fleet::strangers(&asked.fleet, postgres_url, &asked.service).await {
            terminal::note(told);
        }
    }
    if asked.json {
        terminal::out(json!({"hours": asked.hours, "lines": lines}));
        return Ok(());
    }
    if lines.is_empty() {
        terminal::note("no look-up of a cached answer is noted in that time");
        return Ok(());
    }
    terminal::out(table(&lines).text());
    let least = lines.iter().map(|line| line.share).fold(1.0, f64::min);
    if least < 1.0 {
        terminal::note(format_args!(
            "not all keys are noted (WEIR_WORKER_ACCESS), down to {}% of them: those stand for all",
            (least * 1e6).round() / 1e4
        ));
    }
    Ok(())
}

fn table(lines: &[Line]) -> Columns {
    let mut columns = Columns::new(&[
        "hour",
        "service",
        "#look-ups",
        "#hits",
        "#memory",
        "#redis",
        "#postgres",
        "#missed",
        "#ahead",
        "#saved",
        "#fetch",
        "#waiting",
    ]);
    for line in lines {
        let sums = &line.sums;
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        columns.row([
            rfc3339(moment(line.hour.saturating_mul(1_000_000))).replace(":00:00Z", ":00Z"),
            clean(&line.service, 32).into_owned(),
            whole(sums.lookups),
            or_none(sums.hit_share.map(|share| format!("{:.1}%", share * 100.0))),
            whole(sums.memory),
            whole(sums.redis),
            whole(sums.postgres),
            whole(sums.missed),
            whole(sums.unasked),
            whole(sums.calls_saved),
            or_none(sums.fetch_ms.map(|ms| format!("{ms:.0}ms"))),
            or_none(sums.saved_s.filter(|saved| *saved >= 0.0005).map(span)),
        ]);
    }
    columns
}

fn whole(number: f64) -> String {
    format!("{number:.0}")
}
