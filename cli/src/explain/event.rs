//! Where an event is: among the results, in a stream, waiting for a retry or its turn, or among the dead letters.

use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::Stream;
use futures_util::TryStreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use shared::dead_letter::{self, DeadLetter};
use shared::event::EventId;
use shared::subject::{
    DEAD_STREAM, Lane, RETRY_DUE, RETRY_SCHEDULED, RETRY_STREAM, Service, header, headers, lane_and_tenant,
};
use shared::telemetry::propagation::millis;
use sqlx::Connection;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use worker::outbound::upstreams::OUT_OF_SERVICE;

use super::budgets;
use super::find::{self, Walked, walk};
use super::found::{Buried, Put, Row, Searched, Tried, Waiting};
use super::kin::{Kin, Told};
use super::limits::Limits;
use super::page::{self, Report};
use super::plan;
use crate::failure::Failure;
use crate::fleet::Reached;
use crate::limits::reading::read_at;
use crate::terminal;
use crate::upstreams::Out;

/// How long Postgres may take to answer.
const POSTGRES_WITHIN: Duration = Duration::from_secs(5);
/// SQLSTATE of a query on a table that is not there.
const UNDEFINED_TABLE: &str = "42P01";

pub(super) async fn run(
    reached: &Reached,
    id: &EventId,
    service: Option<&Service>,
    as_json: bool,
) -> Result<(), Failure> {
    let mut report = Report::default();
    match &reached.postgres_url {
        None => report.unknown = Some("no Postgres is known: set WEIR_POSTGRES_URL".into()),
        Some(url) => match rows(url, id, service).await {
            Ok((rows, tried)) => (report.rows, report.tried) = (rows, tried),
            Err(why) => report.unknown = Some(why),
        },
    }
    let done = report.rows.iter().any(|row| row.state == "done");
    let bar = bar();
    let searched = if done {
        // Rules that fail on an event that is done leave a letter. What it follows from is in Postgres.
        let letters = letters(reached, id, service, &mut report, &bar, find::MOST_OF_DONE).await;
        letters.map(|_| None)
    } else {
        search(reached, id, service, &mut report, &bar).await
    };
    bar.finish_and_clear();
    let told = searched?;
    report.kin = match &reached.postgres_url {
        Some(url) if report.unknown.is_none() => Kin::read(url, id, service, told).await,
        _ => Kin::of(id, told),
    };
    if as_json {
        let mut value = report.json();
        value["event"] = json!(id.as_str());
        value["read_at"] = json!(read_at());
        terminal::out_json(&value);
    } else {
        for line in report.lines(id) {
            terminal::out(line);
        }
    }
    if report.is_known() {
        Ok(())
    } else {
        Err(Failure::Failed(page::nowhere(id, &report)))
    }
}

/// What Postgres has of the event.
async fn rows(url: &str, id: &EventId, service: Option<&Service>) -> Result<(Vec<Row>, Vec<Tried>), String> {
    let ask = async {
        let mut connection = sqlx::PgConnection::connect(url).await?;
        let service = service.map(Service::as_str);
        let rows: Vec<Row> = sqlx::query_as(
            "select service, state, attempts, code, detail, result::json as result, took_ms, worker, trace_id,
                 (extract(epoch from accepted_at) * 1000)::bigint as accepted_ms,
                 (extract(epoch from finished_at) * 1000)::bigint as finished_ms
             from results where event_id = $1 and ($2::text is null or service = $2) order by service limit 20",
        )
        .bind(id.as_str())
        .bind(service)
        .fetch_all(&mut connection)
        .await?;
        let tried: Vec<Tried> = sqlx::query_as(
            "select attempt, code, detail, worker, (extract(epoch from at) * 1000)::bigint as at_ms
             from failures where event_id = $1 and ($2::text is null or service = $2) order by at desc limit 20",
        )
        .bind(id.as_str())
        .bind(service)
        .fetch_all(&mut connection)
        .await?;
        connection.close().await?;
        Ok::<_, sqlx::Error>((rows, tried))
    };
    match tokio::time::timeout(POSTGRES_WITHIN, ask).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(sqlx::Error::Database(error))) if error.code().is_some_and(|code| code == UNDEFINED_TABLE) => {
            Err("no worker has made the tables in Postgres yet".to_owned())
        }
        Ok(Err(error)) => Err(format!("Postgres: {error}")),
        Err(_) => Err(format!(
            "Postgres did not answer within {} s",
            POSTGRES_WITHIN.as_secs()
        )),
    }
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} messages of {msg} looked at, {elapsed}");
    let bar = ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Looks in the streams of the services, then among the retries, then among the dead letters. In this order, so that an
/// event that moves on meanwhile is seen where it moves to. Gives what one of its messages says that it follows from.
async fn search(
    reached: &Reached,
    id: &EventId,
    service: Option<&Service>,
    report: &mut Report,
    bar: &ProgressBar,
) -> Result<Option<Told>, Failure> {
    let mut told = None;
    let services = match service {
        Some(service) => vec![service.clone()],
        None => services(&reached.js).await?,
    };
    for service in services {
        let Some((stream, walked)) =
            look(&reached.js, &service.stream(), id, report, bar, find::MOST).await?
        else {
            continue;
        };
        if !walked.found.is_empty() {
            let limits = Limits::read(reached, &service).await?;
            let out = Out::read(&reached.js, &service).await?;
            for message in &walked.found {
                told = told.or_else(|| Told::read(&service, &message.headers));
                let waiting = waiting(&service, &stream, &walked, message, &limits, &out).await?;
                report.waiting.push(waiting);
            }
        }
    }
    let of = |message: &StreamMessage, prefix: &str| {
        let rest = message.subject.strip_prefix(prefix)?.strip_prefix('.')?;
        let owner = Service::new(rest.split('.').next()?).ok()?;
        service.is_none_or(|service| *service == owner).then_some(owner)
    };
    if let Some((_, walked)) = look(&reached.js, RETRY_STREAM, id, report, bar, find::MOST).await? {
        for message in &walked.found {
            let owner = of(message, RETRY_SCHEDULED).or_else(|| of(message, RETRY_DUE));
            if let Some(service) = owner {
                told = told.or_else(|| Told::read(&service, &message.headers));
                let mut put = put(service, message);
                put.budgets = budgets::of(reached, &put.service, &message.headers).await?;
                report.put.push(put);
            }
        }
    }
    let of_letters = letters(reached, id, service, report, bar, find::MOST).await?;
    Ok(told.or(of_letters))
}

/// Looks among the newest dead letters.
async fn letters(
    reached: &Reached,
    id: &EventId,
    service: Option<&Service>,
    report: &mut Report,
    bar: &ProgressBar,
    most: u64,
) -> Result<Option<Told>, Failure> {
    let mut told = None;
    if let Some((_, walked)) = look(&reached.js, DEAD_STREAM, id, report, bar, most).await? {
        for message in &walked.found {
            let letter = DeadLetter::read(message);
            let ours = letter.filter(|letter| service.is_none_or(|service| *service == letter.service));
            let Some(letter) = ours else { continue };
            told = told.or_else(|| Told::read(&letter.service, &message.headers));
            report.buried.push(Buried {
                service: letter.service,
                sequence: letter.sequence,
                code: letter.code,
                reason: letter.reason,
                attempts: letter.attempts,
                at: letter.at,
                history: letter.history,
            });
        }
    }
    Ok(told)
}

/// Walks through a stream, if it is there.
async fn look(
    js: &jetstream::Context,
    name: &str,
    id: &EventId,
    report: &mut Report,
    bar: &ProgressBar,
    most: u64,
) -> Result<Option<(Stream, Walked)>, Failure> {
    let Ok(stream) = js.get_stream(name).await else {
        return Ok(None);
    };
    let walked = walk(js, &stream, id, bar, most).await?;
    report.searched.push(Searched {
        stream: name.to_owned(),
        looked_at: walked.seen.len() as u64,
        total: walked.total,
        cut: walked.cut && walked.found.is_empty(),
    });
    Ok(Some((stream, walked)))
}

async fn services(js: &jetstream::Context) -> Result<Vec<Service>, Failure> {
    let names: Vec<String> = js
        .stream_names()
        .try_collect()
        .await
        .map_err(Failure::at("listing the streams"))?;
    Ok(names.iter().filter_map(|name| Service::of_stream(name)).collect())
}

/// A message in its service's stream: whether a worker has it, else how many go before it and when it may begin.
async fn waiting(
    service: &Service,
    stream: &Stream,
    walked: &Walked,
    message: &StreamMessage,
    limits: &Limits,
    out: &Out,
) -> Result<Waiting, Failure> {
    let (lane, _) = lane_and_tenant(&message.subject);
    let (mut pending, mut delivered, mut in_flight) = ([0_u64; 3], 0, 0);
    for (n, of) in Lane::ALL.into_iter().enumerate() {
        let info = stream
            .consumer_info(of.as_str())
            .await
            .map_err(Failure::at(format!("consumer {}/{of}", service.stream())))?;
        pending[n] = info.num_pending;
        in_flight += info.num_ack_pending as u64;
        if of == lane {
            delivered = info.delivered.stream_sequence;
        }
    }
    let in_lane = |above: u64, below: u64| {
        let seen = walked.seen.iter();
        seen.filter(|(sequence, of)| *of == lane && *sequence > above && *sequence < below)
            .count() as u64
    };
    let own = Lane::ALL.iter().position(|of| *of == lane).unwrap_or_default();
    let before = if walked.cut {
        let after = in_lane(message.sequence, u64::MAX);
        pending[own].saturating_sub(after + 1)
    } else {
        in_lane(delivered, message.sequence)
    };
    let ahead = plan::ahead_of(lane, before, pending);
    let map = Some(&message.headers);
    Ok(Waiting {
        service: service.clone(),
        lane,
        sequence: message.sequence,
        taken: message.sequence <= delivered,
        before,
        ahead,
        in_flight,
        kept: millis(message.time.into()),
        begins: limits
            .away
            .is_none()
            .then(|| plan::start_of(&limits.all, ahead + 1))
            .flatten()
            .filter(|_| out.all().is_none()),
        because: match out.all() {
            Some(_) => Some(out.sentences().join(" ")),
            None => limits.because(),
        },
        attempts: number(map, headers::ATTEMPTS),
        history: dead_letter::history(map),
    })
}

/// A message that waits for its time.
fn put(service: Service, message: &StreamMessage) -> Put {
    let map = Some(&message.headers);
    let at = header(map, headers::SCHEDULE).and_then(|text| text.strip_prefix("@at "));
    Put {
        service,
        due: message.subject.starts_with(RETRY_DUE),
        at: at.and_then(read),
        out_of_service: header(map, headers::PUT_OFF) == Some(OUT_OF_SERVICE),
        budgets: None,
        planned: header(map, headers::PLANNED).and_then(|text| text.parse().ok()),
        attempts: number(map, headers::ATTEMPTS),
        history: dead_letter::history(map),
    }
}

/// Milliseconds since the Unix epoch, from RFC 3339.
fn read(text: &str) -> Option<u64> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()
}

fn number(map: Option<&async_nats::HeaderMap>, name: &str) -> u32 {
    header(map, name).and_then(|text| text.parse().ok()).unwrap_or(0)
}
