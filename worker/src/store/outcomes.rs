//! Outcomes and failed attempts: read before an event is handled, written before it is acked.

use std::collections::HashSet;
use std::sync::Arc;

use shared::event::{EventId, Tenant};
use sqlx::PgPool;

use super::follow_ups::Columns;
use super::{AWAY_PAUSE, Asked, Finding, Intent, Owner, Row, State};
use super::{bounded, is_about_a_partition, is_about_a_row, until_answered};
use crate::metrics::StoreMetrics;

/// Whether these events are done.
pub(super) async fn find(pool: PgPool, owner: Arc<Owner>, ids: Vec<EventId>) -> Vec<Finding> {
    let texts: Vec<&str> = ids.iter().map(EventId::as_str).collect();
    let done = done(&pool, &owner, &texts).await;
    let finding = |id: &&str| {
        if done.contains(*id) {
            Finding::Done
        } else {
            Finding::Open
        }
    };
    texts.iter().map(finding).collect()
}

/// Those of these events that are done.
pub(super) async fn done(pool: &PgPool, owner: &Owner, ids: &[&str]) -> HashSet<String> {
    // The time leaves all partitions but a few out of it. Id by id, and no further than to the first row: half the time of
    // asking for all of them at once (docs/decisions/0014-partitions.md).
    const FIND: &str = "SELECT id FROM unnest($2::text[]) AS t(id) CROSS JOIN LATERAL (
            SELECT FROM outcomes WHERE event_id = id AND service = $1 AND state = 'done'
                AND finished_at > now() - $3 * interval '1 second' LIMIT 1
        ) known";
    if ids.is_empty() {
        return HashSet::new();
    }
    let done: Vec<String> = until_answered("results cannot be read", || {
        sqlx::query_scalar(FIND)
            .bind(owner.service.as_str())
            .bind(ids)
            .bind(owner.inbox.as_secs_f64())
            .fetch_all(pool)
    })
    .await;
    done.into_iter().collect()
}

/// Writes rows, all in one statement.
pub(super) async fn commit(pool: PgPool, rows: Vec<Row>, metrics: StoreMetrics) -> Vec<bool> {
    loop {
        let start = std::time::Instant::now();
        match bounded(insert(&pool, &rows)).await {
            Ok(()) => {
                metrics.rows.observe(rows.len() as f64);
                metrics.seconds.observe(start.elapsed().as_secs_f64());
                return vec![true; rows.len()];
            }
            Err(error) if is_about_a_partition(&error) => {}
            Err(error) if is_about_a_row(&error) => {
                tracing::warn!(%error, rows = rows.len(), "a commit was refused: its rows go one by one");
                return one_by_one(&pool, rows).await;
            }
            Err(error) => {
                tracing::warn!(%error, "results cannot be written: events wait");
                tokio::time::sleep(AWAY_PAUSE).await;
            }
        }
    }
}

/// So that one bad row does not keep the others.
async fn one_by_one(pool: &PgPool, rows: Vec<Row>) -> Vec<bool> {
    let mut answers = Vec::with_capacity(rows.len());
    for mut row in rows {
        let kept = loop {
            match bounded(insert(pool, std::slice::from_ref(&row))).await {
                Ok(()) => break true,
                Err(error) if is_about_a_partition(&error) => {}
                // The result is the one part whose content comes from outside unchecked.
                Err(error) if is_about_a_row(&error) && row.result.is_some() => row.result = None,
                Err(error) if is_about_a_row(&error) => {
                    tracing::error!(%error, id = %row.event_id, "a result was refused");
                    break false;
                }
                Err(error) => {
                    tracing::warn!(%error, "results cannot be written: events wait");
                    tokio::time::sleep(AWAY_PAUSE).await;
                }
            }
        };
        answers.push(kept);
    }
    answers
}

/// One statement, so one transaction and one trip. A row that is there already is there because the answer of an
/// earlier try was lost.
macro_rules! insert {
    ($besides:literal) => {
        concat!(
            "WITH new AS (
                SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int[], $6::text[], $7::text[],
                    $8::text[], $9::bigint[], $10::text[], $11::text[], $12::bigint[], $13::bigint[], $14::text[])
                AS t(event_id, service, state, failure, attempts, code, detail, result, took_ms, worker, trace_id,
                    accepted_ms, at_ms, tenant)
            ), failed AS (
                INSERT INTO failures (event_id, service, attempt, class, code, detail, took_ms, worker, trace_id, at,
                    tenant)
                SELECT event_id, service, attempts, failure, code, detail, took_ms, worker, trace_id,
                    to_timestamp(at_ms / 1000.0), tenant
                FROM new WHERE failure IS NOT NULL ON CONFLICT DO NOTHING
            )",
            $besides,
            "INSERT INTO outcomes (event_id, service, state, attempts, code, detail, result, took_ms, worker, trace_id,
                accepted_at, finished_at, tenant)
            SELECT DISTINCT ON (event_id, service) event_id, service, state, attempts, code, detail, result::json,
                took_ms, worker, trace_id, to_timestamp(accepted_ms / 1000.0), to_timestamp(at_ms / 1000.0), tenant
            FROM new WHERE state IS NOT NULL ORDER BY event_id, service, state DESC ON CONFLICT DO NOTHING"
        )
    };
}

async fn insert(pool: &PgPool, rows: &[Row]) -> Result<(), sqlx::Error> {
    const INSERT: &str = insert!("");
    // A note goes with the outcome of its call. One whose outcome nobody knows stays, for whoever comes next; and one
    // that another has taken over by now is theirs.
    const INSERT_WITH_INTENTS: &str = insert!(
        ", over AS (
            DELETE FROM intents WHERE service = $15 AND event_id = ANY($16) AND asked = ANY($18)
        ), unknown AS (
            UPDATE intents SET ended = true WHERE service = $15 AND event_id = ANY($17) AND asked = ANY($18)
        ) "
    );
    // Beside the notes, so that there is no fourth statement. An event that two deliveries have done owes what the first
    // of them has decided.
    const INSERT_WITH_FOLLOW_UPS: &str = insert!(
        ", over AS (
            DELETE FROM intents WHERE service = $15 AND event_id = ANY($16) AND asked = ANY($18)
        ), unknown AS (
            UPDATE intents SET ended = true WHERE service = $15 AND event_id = ANY($17) AND asked = ANY($18)
        ), owed AS (
            INSERT INTO follow_ups (event_id, service, part, rule, subject, headers, payload)
            SELECT event_id, service, part, rule, subject, headers::json, payload
            FROM unnest($19::text[], $20::text[], $21::int[], $22::text[], $23::text[], $24::text[], $25::bytea[])
            AS t(event_id, service, part, rule, subject, headers, payload)
            WHERE NOT EXISTS (SELECT FROM follow_ups f WHERE f.event_id = t.event_id AND f.service = t.service)
            ON CONFLICT DO NOTHING RETURNING event_id, service, part
        ), kin AS (
            INSERT INTO followed (event_id, service, rule, child_id, child_service)
            SELECT event_id, service, rule, child_id, child_service
            FROM unnest($19::text[], $20::text[], $21::int[], $22::text[], $26::text[], $27::text[])
            AS t(event_id, service, part, rule, child_id, child_service)
            JOIN owed USING (event_id, service, part) WHERE child_id IS NOT NULL
            ON CONFLICT DO NOTHING
        ) "
    );
    let column = |of: fn(&Row) -> &str| rows.iter().map(of).collect::<Vec<_>>();
    let numbers = |of: fn(&Row) -> u64| rows.iter().map(|row| of(row) as i64).collect::<Vec<_>>();
    let attempts = |row: &Row| i32::try_from(row.attempts).unwrap_or(i32::MAX);
    let state = |row: &Row| {
        row.state.map(|state| match state {
            State::Done => "done",
            State::Dead => "dead",
        })
    };
    let tenants = rows.iter().map(|row| row.tenant.as_ref().map(Tenant::as_str));
    let tenants = tenants.collect::<Vec<_>>();
    let noted = rows.iter().find(|row| row.intent != Intent::None);
    let owing = rows.iter().find(|row| !row.owed.is_empty());
    let mut query = sqlx::query(match (noted, owing) {
        (_, Some(_)) => INSERT_WITH_FOLLOW_UPS,
        (Some(_), None) => INSERT_WITH_INTENTS,
        (None, None) => INSERT,
    })
    .bind(column(|row| row.event_id.as_str()))
    .bind(column(|row| row.service.as_str()))
    .bind(rows.iter().map(state).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.failure).collect::<Vec<_>>())
    .bind(rows.iter().map(attempts).collect::<Vec<_>>())
    .bind(column(|row| &row.code))
    .bind(column(|row| &row.detail))
    .bind(rows.iter().map(|row| row.result.as_deref()).collect::<Vec<_>>())
    .bind(numbers(|row| row.took.as_millis() as u64))
    .bind(column(|row| &row.worker))
    .bind(column(|row| &row.trace_id))
    .bind(numbers(|row| row.accepted_ms))
    .bind(numbers(|row| row.at_ms))
    .bind(tenants);
    if let Some(one) = noted.or(owing) {
        let of = |those: fn(Intent) -> bool| {
            let those = rows.iter().filter(move |row| those(row.intent));
            those.map(|row| row.event_id.as_str()).collect::<Vec<_>>()
        };
        let asked = rows.iter().filter_map(|row| row.intent.asked());
        query = query
            .bind(one.service.as_str())
            .bind(of(|intent| matches!(intent, Intent::Over(_))))
            .bind(of(|intent| matches!(intent, Intent::Unknown(_))))
            .bind(asked.map(|Asked(asked)| asked).collect::<Vec<_>>());
    }
    if owing.is_some() {
        let owed = Columns::of(rows);
        query = query
            .bind(owed.event_ids)
            .bind(owed.services)
            .bind(owed.parts)
            .bind(owed.rules)
            .bind(owed.subjects)
            .bind(owed.headers)
            .bind(owed.payloads)
            .bind(owed.child_ids)
            .bind(owed.child_services);
    }
    query.execute(pool).await?;
    Ok(())
}
