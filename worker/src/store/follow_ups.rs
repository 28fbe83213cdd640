//! What events owe: written with their outcomes, read when they come again, removed when it is published.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use shared::event::EventId;
use shared::subject::Service;
use sqlx::PgPool;

use super::{Ending, Owner, Row, bounded, until_answered};
use crate::follow::Message;

/// Most messages of one look for what was left behind.
const LEFT_BEHIND: i64 = 100;

/// Where a message lies in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    event_id: String,
    service: String,
    part: i32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.event_id)
    }
}

/// The columns of what these rows owe, in the order of the table.
#[derive(Debug, Default)]
pub(super) struct Columns<'r> {
    pub(super) event_ids: Vec<&'r str>,
    pub(super) services: Vec<&'r str>,
    pub(super) parts: Vec<i32>,
    pub(super) rules: Vec<&'r str>,
    pub(super) subjects: Vec<&'r str>,
    pub(super) headers: Vec<String>,
    pub(super) payloads: Vec<&'r [u8]>,
    /// None for a dead letter.
    pub(super) child_ids: Vec<Option<&'r str>>,
    pub(super) child_services: Vec<Option<&'r str>>,
}

impl<'r> Columns<'r> {
    pub(super) fn of(rows: &'r [Row]) -> Self {
        let mut columns = Self::default();
        let owed = |row: &'r Row| {
            row.owed
                .iter()
                .enumerate()
                .map(move |(part, message)| (row, part, message))
        };
        for (row, part, message) in rows.iter().flat_map(owed) {
            columns.event_ids.push(row.event_id.as_str());
            columns.services.push(row.service.as_str());
            columns.parts.push(i32::try_from(part).unwrap_or(i32::MAX));
            columns.rules.push(&message.rule);
            columns.subjects.push(&message.subject);
            columns.headers.push(message.headers_json());
            columns.payloads.push(&message.payload);
            let (service, id) = message.child().unzip();
            columns.child_ids.push(id);
            columns.child_services.push(service);
        }
        columns
    }
}

/// A row of the table.
type Left = (String, String, i32, String, String, String, Vec<u8>);

/// What these events owe.
pub(super) async fn find(pool: PgPool, owner: Arc<Owner>, ids: Vec<EventId>) -> Vec<Vec<Message>> {
    const FIND: &str = "SELECT event_id, rule, subject, headers::text, payload FROM follow_ups
        WHERE service = $1 AND event_id = ANY($2) ORDER BY event_id, part";
    let texts: Vec<&str> = ids.iter().map(EventId::as_str).collect();
    let rows: Vec<(String, String, String, String, Vec<u8>)> =
        until_answered("what events owe cannot be read", || {
            sqlx::query_as(FIND)
                .bind(owner.service.as_str())
                .bind(&texts)
                .fetch_all(&pool)
        })
        .await;
    let mut owed: HashMap<String, Vec<Message>> = HashMap::new();
    for (id, rule, subject, headers, payload) in rows {
        let message = Message::kept(rule, subject, &headers, payload);
        owed.entry(id).or_default().push(message);
    }
    let of = |id: &&str| owed.get(*id).cloned().unwrap_or_default();
    texts.iter().map(of).collect()
}

/// Removes what these events owed.
pub(super) async fn settle(pool: PgPool, owner: Arc<Owner>, ids: Vec<EventId>) -> Vec<()> {
    const SETTLE: &str = "DELETE FROM follow_ups WHERE service = $1 AND event_id = ANY($2)";
    let texts: Vec<&str> = ids.iter().map(EventId::as_str).collect();
    until_answered("what events owed cannot be removed", || {
        sqlx::query(SETTLE)
            .bind(owner.service.as_str())
            .bind(&texts)
            .execute(&pool)
    })
    .await;
    vec![(); ids.len()]
}

/// How these events ended: the code and what was kept of the answer, of those whose end is still kept.
pub(super) async fn endings(pool: PgPool, owner: Arc<Owner>, ids: Vec<EventId>) -> Vec<Option<Ending>> {
    const FIND: &str = "SELECT DISTINCT ON (event_id) event_id, code, result FROM outcomes
        WHERE service = $1 AND state = 'done' AND event_id = ANY($2) ORDER BY event_id, finished_at DESC";
    let texts: Vec<&str> = ids.iter().map(EventId::as_str).collect();
    let rows: Vec<(String, String, Option<serde_json::Value>)> =
        until_answered("results cannot be read", || {
            sqlx::query_as(FIND)
                .bind(owner.service.as_str())
                .bind(&texts)
                .fetch_all(&pool)
        })
        .await;
    let mut ends: HashMap<String, Ending> = HashMap::new();
    for (id, code, result) in rows {
        ends.insert(id, (code, result));
    }
    texts.iter().map(|id| ends.get(*id).cloned()).collect()
}

/// What was left behind by events of these services longer ago than this, the oldest of it, bounded.
pub async fn left_behind(
    pool: &PgPool,
    services: &[Service],
    age: Duration,
) -> Result<Vec<(Place, Message)>, sqlx::Error> {
    const FIND: &str = "SELECT event_id, service, part, rule, subject, headers::text, payload FROM follow_ups
        WHERE service = ANY($1) AND at < now() - $2 * interval '1 second' ORDER BY at LIMIT $3";
    let services: Vec<&str> = services.iter().map(Service::as_str).collect();
    let rows: Vec<Left> = bounded(
        sqlx::query_as(FIND)
            .bind(&services)
            .bind(age.as_secs_f64())
            .bind(LEFT_BEHIND)
            .fetch_all(pool),
    )
    .await?;
    let left = rows.into_iter();
    let left = left.map(|(event_id, service, part, rule, subject, headers, payload)| {
        let message = Message::kept(rule, subject, &headers, payload);
        let place = Place {
            event_id,
            service,
            part,
        };
        (place, message)
    });
    Ok(left.collect())
}

macro_rules! at_these_places {
    ($what:literal) => {
        concat!(
            $what,
            " WHERE (event_id, service, part) IN (SELECT * FROM unnest($1::text[], $2::text[], $3::int[]))"
        )
    };
}

/// Removes messages that are published.
pub async fn remove(pool: &PgPool, places: &[Place]) -> Result<(), sqlx::Error> {
    const REMOVE: &str = at_these_places!("DELETE FROM follow_ups");
    at(REMOVE, pool, places).await
}

/// Leaves messages for later as if they were new.
pub async fn put_off(pool: &PgPool, places: &[Place]) -> Result<(), sqlx::Error> {
    const PUT_OFF: &str = at_these_places!("UPDATE follow_ups SET at = now()");
    at(PUT_OFF, pool, places).await
}

async fn at(statement: &'static str, pool: &PgPool, places: &[Place]) -> Result<(), sqlx::Error> {
    if places.is_empty() {
        return Ok(());
    }
    let text = |of: fn(&Place) -> &str| places.iter().map(of).collect::<Vec<_>>();
    let query = sqlx::query(statement)
        .bind(text(|place| &place.event_id))
        .bind(text(|place| &place.service))
        .bind(places.iter().map(|place| place.part).collect::<Vec<_>>());
    bounded(query.execute(pool)).await.map(|_| ())
}
