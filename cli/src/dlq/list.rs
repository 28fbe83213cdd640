//! `weir dlq list`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use shared::telemetry::propagation::{millis, rfc3339};

use super::letters::{Headed, Letters, stream};
use crate::args::DlqList;
use crate::failure::Failure;
use crate::fleet;
use crate::tables::Columns;
use crate::terminal::{self, Span, clean};

pub(super) async fn run(list: DlqList) -> Result<(), Failure> {
    let reached = fleet::reach(&list.fleet, None).await?;
    let mut letters = Letters::open(stream(&reached.js).await?, &list.selection).await?;
    let mut columns = Columns::new(&[
        "#seq", "service", "id", "code", "#tries", "#died", "#bytes", "reason",
    ]);
    let (mut listed, mut looked_at) = (0, 0);
    while listed < list.limit {
        let Some((batch, count)) = letters.next().await? else {
            break;
        };
        looked_at += count;
        for headed in batch.iter().take((list.limit - listed) as usize) {
            listed += 1;
            if list.json {
                terminal::out(as_json(headed));
            } else {
                columns.row(cells(headed));
            }
        }
    }
    let rest = letters.total.saturating_sub(looked_at);
    letters.close().await;
    if !list.json {
        if listed == 0 {
            terminal::out("no dead letters");
        } else {
            terminal::out(columns.cut_last().text());
        }
    }
    if listed == list.limit && rest > 0 {
        terminal::note(format_args!("{rest} more were not looked at: see --limit"));
    }
    Ok(())
}

fn cells(headed: &Headed) -> [String; 8] {
    let letter = &headed.letter;
    let age = millis(SystemTime::now()).saturating_sub(letter.at) as f64 / 1000.0;
    [
        letter.sequence.to_string(),
        letter.service.to_string(),
        clean(&letter.id, 80).into_owned(),
        clean(&letter.code, 32).into_owned(),
        letter.attempts.to_string(),
        format!("{} ago", Span(age)),
        headed.size.to_string(),
        clean(&letter.reason, 120).into_owned(),
    ]
}

fn as_json(headed: &Headed) -> serde_json::Value {
    let letter = &headed.letter;
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
        "bytes": headed.size,
    })
}
