//! The questions themselves. What an index is for is spelt here as in the migration that made it.

use sqlx::postgres::PgArguments;
use sqlx::query::QueryAs;
use sqlx::{AssertSqlSafe, PgPool, Postgres};

use super::{BRANCHES, End, Entry, Filter, Place};
use crate::event::Tenant;

/// A table that history is read from.
#[derive(Debug)]
pub(super) struct Source {
    table: &'static str,
    /// The column of its time.
    time: &'static str,
    /// The first column of the index that is read without a tenant.
    branch: &'static str,
    /// The same with one.
    of_tenant: &'static str,
    /// States that its rows can have.
    states: &'static [&'static str],
    /// The columns of an entry.
    columns: &'static str,
}

/// Ends of events.
pub(super) static OUTCOMES: Source = Source {
    table: "outcomes",
    time: "finished_at",
    branch: "(service || ' ' || state)",
    of_tenant: "(tenant || ' ' || service || ' ' || state)",
    states: &["dead", "done"],
    columns: "event_id, service, state, attempts, NULL::text AS class, code, left(detail, 1000) AS detail, took_ms, worker,
        trace_id, tenant, (extract(epoch FROM accepted_at) * 1000)::bigint AS accepted_ms,
        (extract(epoch FROM finished_at) * 1000000)::bigint AS at_us",
};

/// Attempts that failed.
pub(super) static FAILURES: Source = Source {
    table: "failures",
    time: "at",
    branch: "(service || ' failed')",
    of_tenant: "(tenant || ' ' || service || ' failed')",
    states: &["failed"],
    columns: "event_id, service, 'failed' AS state, attempt AS attempts, class, code, left(detail, 1000) AS detail, took_ms,
        worker, trace_id, tenant, NULL::bigint AS accepted_ms, (extract(epoch FROM at) * 1000000)::bigint AS at_us",
};

impl Source {
    fn key(&self, filter: &Filter) -> &'static str {
        match filter.tenant {
            Some(_) => self.of_tenant,
            None => self.branch,
        }
    }

    /// What lets the database take the index of tenants.
    fn only(filter: &Filter) -> &'static str {
        match filter.tenant {
            Some(_) => "tenant IS NOT NULL AND",
            None => "",
        }
    }
}

/// The branches that the filter asks for: known from it where it names services, else those that there are, each found by one
/// step into the index.
pub(super) async fn branches(
    pool: &PgPool,
    source: &Source,
    filter: &Filter,
) -> Result<Vec<String>, sqlx::Error> {
    let prefix = filter.tenant.as_ref().map(Tenant::as_str);
    let prefix = prefix.map_or_else(String::new, |tenant| format!("{tenant} "));
    let asked = |state: &&&str| filter.state.is_none_or(|asked| asked.as_str() == **state);
    let states: Vec<_> = source.states.iter().filter(asked).collect();
    if !filter.services.is_empty() {
        let of = |service| states.iter().map(move |state| format!("{service} {state}"));
        let services = filter.services.iter().flat_map(of);
        return Ok(services.map(|branch| format!("{prefix}{branch}")).collect());
    }
    let found: Vec<String> = sqlx::query_scalar(AssertSqlSafe(next_branches(source, filter)))
        .bind(&prefix)
        // What follows a space: the prefix ends in one.
        .bind(prefix.trim_end().to_owned() + if prefix.is_empty() { "\u{7f}" } else { "!" })
        .bind(BRANCHES)
        .fetch_all(pool)
        .await?;
    let wanted = |branch: &String| states.iter().any(|state| branch.ends_with(&format!(" {state}")));
    Ok(found.into_iter().filter(wanted).collect())
}

fn next_branches(source: &Source, filter: &Filter) -> String {
    let (table, key, only) = (source.table, source.key(filter), Source::only(filter));
    format!(
        "WITH RECURSIVE b(branch) AS (
            (SELECT {key} FROM {table} WHERE {only} {key} > $1 AND {key} < $2 ORDER BY {key} LIMIT 1)
            UNION ALL
            SELECT n.branch FROM b CROSS JOIN LATERAL (
                SELECT {key} AS branch FROM {table} WHERE {only} {key} > b.branch AND {key} < $2 ORDER BY {key} LIMIT 1
            ) n
        )
        SELECT branch FROM b LIMIT $3"
    )
}

/// The newest before a place.
pub(super) async fn older(
    pool: &PgPool,
    source: &Source,
    filter: &Filter,
    branches: &[String],
    before: Option<&Place>,
    rows: usize,
) -> Result<Vec<Entry>, sqlx::Error> {
    if branches.is_empty() {
        return Ok(Vec::new());
    }
    let text = side(source, filter, before.map(|_| "<"));
    bound(
        sqlx::query_as(AssertSqlSafe(text)),
        filter,
        branches,
        before,
        rows,
    )
    .fetch_all(pool)
    .await
}

/// The oldest after a place.
pub(super) async fn newer(
    pool: &PgPool,
    source: &Source,
    filter: &Filter,
    branches: &[String],
    after: &Place,
    rows: usize,
) -> Result<Vec<Entry>, sqlx::Error> {
    if branches.is_empty() {
        return Ok(Vec::new());
    }
    let text = side(source, filter, Some(">"));
    bound(
        sqlx::query_as(AssertSqlSafe(text)),
        filter,
        branches,
        Some(after),
        rows,
    )
    .fetch_all(pool)
    .await
}

/// One side of a place: `<` for the newest before it, `>` for the oldest after it; the newest of all without a place.
pub(super) fn side(source: &Source, filter: &Filter, than: Option<&str>) -> String {
    let Source {
        table, time, columns, ..
    } = source;
    let (key, only) = (source.key(filter), Source::only(filter));
    // The time alone, beside the place, is what leaves partitions out.
    let place = than.map_or_else(String::new, |than| {
        format!(
            "AND {time} {than}= to_timestamp($5 / 1000000)
             AND ({time}, event_id, service) {than} (to_timestamp($5 / 1000000), $6, $7)"
        )
    });
    let order = if than == Some(">") { "" } else { "DESC" };
    format!(
        "SELECT e.* FROM unnest($1::text[]) AS b(branch) CROSS JOIN LATERAL (
            SELECT {columns} FROM {table}
            WHERE {only} {key} = b.branch AND {time} >= to_timestamp($3 / 1000000) AND {time} < to_timestamp($4 / 1000000) {place}
            ORDER BY {time} {order}, event_id {order} LIMIT $2
        ) e
        ORDER BY e.at_us {order}, e.event_id {order}, e.service {order} LIMIT $2"
    )
}

/// From the year 1 to the year 9999, where nobody says otherwise: what the database has dates for.
const ALL_TIME: (f64, f64) = (-62_135_596_800e6, 253_402_300_799e6);

fn bound<'q, T>(
    query: QueryAs<'q, Postgres, T, PgArguments>,
    filter: &Filter,
    branches: &'q [String],
    place: Option<&'q Place>,
    rows: usize,
) -> QueryAs<'q, Postgres, T, PgArguments> {
    let (first, last) = ALL_TIME;
    let within = |us: i64| (us as f64).clamp(first, last);
    let query = query
        .bind(branches)
        .bind(i64::try_from(rows).unwrap_or(i64::MAX))
        .bind(filter.from_us.map_or(first, within))
        .bind(filter.to_us.map_or(last, within));
    match place {
        None => query,
        Some(place) => query
            .bind(within(place.at_us))
            .bind(&place.event_id)
            .bind(&place.service),
    }
}

/// The ends of one event.
pub(super) async fn ends(
    pool: &PgPool,
    event_id: &str,
    services: &[String],
    rows: i64,
) -> Result<Vec<End>, sqlx::Error> {
    let text = format!(
        "SELECT {}, octet_length(result::text)::bigint AS result_bytes,
            CASE WHEN octet_length(result::text) <= 65536 THEN result END AS result
        FROM outcomes WHERE event_id = $1 AND (cardinality($2::text[]) = 0 OR service = ANY($2))
        ORDER BY finished_at DESC, service LIMIT $3",
        OUTCOMES.columns
    );
    let query = sqlx::query_as(AssertSqlSafe(text)).bind(event_id);
    query.bind(services).bind(rows).fetch_all(pool).await
}

/// The failed attempts of one event.
pub(super) async fn failed(
    pool: &PgPool,
    event_id: &str,
    services: &[String],
    rows: i64,
) -> Result<Vec<Entry>, sqlx::Error> {
    let text = format!(
        "SELECT {} FROM failures WHERE event_id = $1 AND (cardinality($2::text[]) = 0 OR service = ANY($2))
        ORDER BY at DESC, service LIMIT $3",
        FAILURES.columns
    );
    let query = sqlx::query_as(AssertSqlSafe(text)).bind(event_id);
    query.bind(services).bind(rows).fetch_all(pool).await
}
