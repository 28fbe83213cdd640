//! Messages that came again: how often each was begun without coming to an end.

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::PgPool;

use super::{Owner, until_answered};

/// Counts a start of each message.
pub(super) async fn note(pool: PgPool, owner: Arc<Owner>, sequences: Vec<u64>) -> Vec<u32> {
    // An old note is of another stream of the name, or of other trouble.
    const NOTE: &str = "
        INSERT INTO suspects AS s (service, sequence, starts, at)
        SELECT $1, sequence, 1, now() FROM (SELECT DISTINCT unnest($2::bigint[]) AS sequence ORDER BY 1) again
        ON CONFLICT (service, sequence) DO UPDATE SET at = now(),
            starts = CASE WHEN s.at < now() - interval '1 day' THEN 1 ELSE s.starts + 1 END
        RETURNING sequence, starts";
    let numbers = numbers(&sequences);
    let rows: Vec<(i64, i32)> = until_answered("what came again cannot be noted", || {
        sqlx::query_as(NOTE)
            .bind(owner.service.as_str())
            .bind(&numbers)
            .fetch_all(&pool)
    })
    .await;
    let starts: HashMap<i64, i32> = rows.into_iter().collect();
    let of = |number: &i64| starts.get(number).map_or(0, |starts| (*starts).max(0) as u32);
    numbers.iter().map(of).collect()
}

/// Forgets messages that came to an end.
pub(super) async fn clear(pool: PgPool, owner: Arc<Owner>, sequences: Vec<u64>) -> Vec<()> {
    let numbers = numbers(&sequences);
    until_answered("what came again cannot be cleared", || {
        sqlx::query("DELETE FROM suspects WHERE service = $1 AND sequence = ANY($2)")
            .bind(owner.service.as_str())
            .bind(&numbers)
            .execute(&pool)
    })
    .await;
    vec![(); sequences.len()]
}

fn numbers(sequences: &[u64]) -> Vec<i64> {
    sequences
        .iter()
        .map(|n| i64::try_from(*n).unwrap_or(i64::MAX))
        .collect()
}
