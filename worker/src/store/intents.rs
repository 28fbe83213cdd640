//! Notes of calls that must not be made twice, made before they begin. At most one worker at a time has an event's.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use shared::event::EventId;
use sqlx::PgPool;

use super::{Owner, outcomes, until_answered};

/// Tells a note from those that others made of the same event: whoever's call ends late must not take away theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked(pub(super) i64);

/// What was known when a call was about to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// Nobody has begun it: it is ours.
    First,
    /// It was begun and done since we looked. The note is ours.
    Done,
    /// It was begun before, first so long ago, and nobody knows what became of it. It is ours now.
    Unknown(Duration),
    /// The same, and since then somebody has decided that it is to be done.
    Replayed(Duration),
    /// It may be under way elsewhere for so long.
    Elsewhere(Duration),
}

/// Makes a note of each event, or takes over one whose call cannot be under way any more. The number of a replay counts
/// once: what it decided is used up by the call that it leads to.
pub(super) async fn begin(
    pool: PgPool,
    owner: Arc<Owner>,
    calls: Vec<(EventId, u64)>,
) -> Vec<Option<(Begun, Asked)>> {
    // A note that is held is locked by nobody: whoever meets it reads its age.
    const BEGIN: &str = "
        WITH ours AS (
            INSERT INTO intents AS i (event_id, service, worker, asked, starts, replay, since, at)
            SELECT id, $2, $3, $5, 1, max(replay), now(), now() FROM unnest($1::text[], $6::bigint[]) AS t(id, replay)
            GROUP BY id ORDER BY id
            ON CONFLICT (event_id, service) DO UPDATE SET worker = excluded.worker, asked = excluded.asked, at = now(),
                replay = greatest(i.replay, excluded.replay), ended = false,
                starts = CASE WHEN excluded.replay > i.replay THEN 1
                    ELSE i.starts + (i.asked <> excluded.asked)::integer END
            WHERE i.ended OR i.at < now() - $4 * interval '1 second' OR i.asked = excluded.asked
            RETURNING event_id, starts, extract(epoch FROM now() - since)::float8 AS ago
        )
        SELECT event_id, starts, ago FROM ours
        UNION ALL
        SELECT event_id, 0, extract(epoch FROM at - now())::float8 + $4 FROM intents
        WHERE service = $2 AND event_id = ANY($1) AND event_id NOT IN (SELECT event_id FROM ours)";
    let texts: Vec<&str> = calls.iter().map(|(id, _)| id.as_str()).collect();
    let replays: Vec<i64> = calls.iter().map(|(_, replay)| *replay as i64).collect();
    // The same for every try: an answer that was lost must not make strangers of us.
    let asked: i64 = rand::random();
    let rows: Vec<(String, i32, f64)> = until_answered("what is begun cannot be noted", || {
        sqlx::query_as(BEGIN)
            .bind(&texts)
            .bind(owner.service.as_str())
            .bind(&*owner.worker)
            .bind(owner.longest_call.as_secs_f64())
            .bind(asked)
            .bind(&replays)
            .fetch_all(&pool)
    })
    .await;
    // A note goes together with its outcome. Whoever makes one where another has just gone has not seen the outcome yet.
    let ours = rows.iter().filter(|(_, starts, _)| *starts > 0);
    let ours: Vec<&str> = ours.map(|(id, ..)| id.as_str()).collect();
    let done = outcomes::done(&pool, &owner, &ours).await;
    let replayed = calls.iter().filter(|(_, replay)| *replay > 0);
    let replayed: HashSet<&str> = replayed.map(|(id, _)| id.as_str()).collect();
    let mut begun: HashMap<String, Begun> = HashMap::with_capacity(rows.len());
    for (id, starts, seconds) in rows {
        let span = Duration::from_secs_f64(seconds.max(0.0));
        let standing = match starts {
            0 => Begun::Elsewhere(span),
            _ if done.contains(&id) => Begun::Done,
            // Of a replay the note may be that of the call before; its age tells. Otherwise it is ours, made by a try
            // whose answer was lost.
            1 if !span.is_zero() && replayed.contains(id.as_str()) => Begun::Replayed(span),
            1 => Begun::First,
            _ => Begun::Unknown(span),
        };
        begun.insert(id, standing);
    }
    // Two deliveries of one event in one batch: the first has it.
    let mut taken = HashSet::new();
    let answer = |id: &&str| {
        let standing = match begun.get(*id) {
            Some(standing) => *standing,
            // Noted by another between our two looks: as good as just now.
            None => Begun::Elsewhere(owner.longest_call),
        };
        let ours = !matches!(standing, Begun::Elsewhere(_));
        let standing = if ours && !taken.insert((*id).to_owned()) {
            Begun::Elsewhere(owner.longest_call)
        } else {
            standing
        };
        Some((standing, Asked(asked)))
    };
    texts.iter().map(answer).collect()
}
