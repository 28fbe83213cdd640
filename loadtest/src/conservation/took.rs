//! How long accepted events took until their effect was recorded.

use std::collections::{BTreeMap, BTreeSet};

use hdrhistogram::Histogram;
use shared::subject::Service;
use sqlx::PgPool;

use super::read::{BATCH, ReadError};
use crate::generator::Latency;

/// Latencies from accept to done by service, of those of the ids that are done. They count from the millisecond at
/// which NATS kept the event to the worker's record, by the clocks of these two machines.
pub async fn accept_to_done(
    accepted: &BTreeSet<String>,
    pool: &PgPool,
    services: &[Service],
) -> Result<BTreeMap<String, Latency>, ReadError> {
    let services: Vec<String> = services.iter().map(ToString::to_string).collect();
    let ids: Vec<&str> = accepted.iter().map(String::as_str).collect();
    let mut histograms: BTreeMap<String, Histogram<u64>> = BTreeMap::new();
    for batch in ids.chunks(BATCH) {
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "SELECT service, (extract(epoch FROM finished_at - accepted_at) * 1e6)::bigint FROM results
             WHERE state = 'done' AND service = ANY($1) AND event_id = ANY($2)",
        )
        .bind(&services)
        .bind(batch)
        .fetch_all(pool)
        .await?;
        for (service, micros) in rows {
            let histogram = histograms.entry(service).or_insert_with(Latency::histogram);
            histogram.saturating_record(u64::try_from(micros).unwrap_or(0).max(1));
        }
    }
    let latencies = histograms
        .into_iter()
        .map(|(service, histogram)| (service, Latency::of(&histogram)));
    Ok(latencies.collect())
}
