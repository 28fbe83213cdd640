//! `weir status`: what waits where, read from the one place that knows.

use std::collections::BTreeMap;
use std::time::Duration;

use scheduler::api::{Freshness, ServiceView};
use scheduler::board::Known;
use scheduler::observe;
use serde_json::{Value, json};
use shared::subject::Service;
use sqlx::Connection;

use crate::args::Status;
use crate::failure::Failure;
use crate::fleet::{self, Reached};
use crate::tables::Columns;
use crate::terminal::{self, Span};
use crate::upstreams::Out;

/// How long Postgres may take to answer.
const POSTGRES_WITHIN: Duration = Duration::from_secs(3);
/// How long a scheduler may take to answer.
const SCHEDULER_WITHIN: Duration = Duration::from_secs(5);

/// SQLSTATE of a query on a table that is not there.
const UNDEFINED_TABLE: &str = "42P01";

/// Events that ended in the last hour, of one service.
#[derive(Debug, Default, Clone, Copy, serde::Serialize)]
struct Ended {
    done: i64,
    dead: i64,
}

pub(crate) async fn run(status: Status) -> Result<(), Failure> {
    let mut out: BTreeMap<String, Out> = BTreeMap::new();
    let (views, unknown, postgres_url, fleet) = if let Some(url) = &status.scheduler {
        let settings = fleet::settings(&status.fleet, status.postgres_url.as_deref())?;
        // The scheduler named may be that of another fleet.
        (
            from_scheduler(url).await?,
            Vec::new(),
            settings.postgres_url,
            None,
        )
    } else {
        let reached = fleet::reach(&status.fleet, status.postgres_url.as_deref()).await?;
        let (views, mut unknown) = from_nats(&reached).await?;
        for view in &views {
            let Ok(service) = Service::new(view.service.as_str()) else {
                continue;
            };
            match Out::read(&reached.js, &service).await {
                Ok(of) => drop(out.insert(view.service.clone(), of)),
                Err(Failure::Failed(why) | Failure::Usage(why)) => unknown.push(why),
            }
        }
        (views, unknown, reached.postgres_url, reached.services)
    };
    let ended = match &postgres_url {
        None => Err("no Postgres is known: set WEIR_POSTGRES_URL".to_owned()),
        Some(url) => last_hour(url).await,
    };
    if status.json {
        terminal::out_json(&as_json(&views, &ended, fleet.as_deref(), &out));
    } else {
        terminal::out(table(&views, ended.as_ref().ok(), fleet.as_deref()).text());
        for (service, sentence) in out.iter().flat_map(|(service, out)| {
            out.sentences()
                .into_iter()
                .map(move |sentence| (service, sentence))
        }) {
            terminal::out(format_args!("{service}: {sentence}"));
        }
        if let Err(why) = &ended {
            terminal::note(format_args!("the last hour is not shown: {why}"));
        }
    }
    if unknown.is_empty() {
        Ok(())
    } else {
        Err(Failure::Failed(unknown.join("\nweir: ")))
    }
}

/// Every service that has a stream, observed now.
async fn from_nats(reached: &Reached) -> Result<(Vec<ServiceView>, Vec<String>), Failure> {
    let mut services = fleet::services(&reached.js).await?;
    if services.is_empty() {
        services.clone_from(&reached.fleet.services);
    }
    let mut unknown = Vec::new();
    let views = observe::observe(&reached.js, &services)
        .await
        .into_iter()
        .map(|(service, observed)| {
            let known = match observed {
                Ok(observation) => Known::Fresh(observation, Duration::ZERO),
                Err(error) => {
                    unknown.push(format!("{service}: {error}"));
                    Known::Never
                }
            };
            ServiceView::new(service.to_string(), known)
        });
    let views = views.collect();
    Ok((views, unknown))
}

async fn from_scheduler(url: &str) -> Result<Vec<ServiceView>, Failure> {
    let url = format!("{}/api/services", url.trim_end_matches('/'));
    let failed = |error: reqwest::Error| Failure::Failed(format!("asking the scheduler: {error}"));
    let client = reqwest::Client::builder()
        .timeout(SCHEDULER_WITHIN)
        .build()
        .map_err(failed)?;
    let answer = client.get(&url).send().await.map_err(failed)?;
    let status = answer.status();
    if !status.is_success() {
        let problem: Value = answer.json().await.unwrap_or_default();
        let detail = problem["detail"].as_str().unwrap_or_default();
        return Err(Failure::Failed(format!(
            "the scheduler answers {status}: {}",
            terminal::clean(detail, 400)
        )));
    }
    answer.json().await.map_err(failed)
}

async fn last_hour(url: &str) -> Result<BTreeMap<String, Ended>, String> {
    let ask = async {
        let mut connection = sqlx::PgConnection::connect(url).await?;
        let rows: Vec<(String, String, i64)> = sqlx::query_as(
            "select service, state, count(*) from outcomes
             where finished_at > now() - interval '1 hour' group by service, state",
        )
        .fetch_all(&mut connection)
        .await?;
        connection.close().await?;
        Ok::<_, sqlx::Error>(rows)
    };
    let rows = match tokio::time::timeout(POSTGRES_WITHIN, ask).await {
        Ok(Ok(rows)) => rows,
        Ok(Err(sqlx::Error::Database(error))) if error.code().is_some_and(|code| code == UNDEFINED_TABLE) => {
            return Err("Postgres: no worker has made its tables yet".to_owned());
        }
        Ok(Err(error)) => return Err(format!("Postgres: {error}")),
        Err(_) => {
            return Err(format!(
                "Postgres did not answer within {} s",
                POSTGRES_WITHIN.as_secs()
            ));
        }
    };
    let mut ended: BTreeMap<String, Ended> = BTreeMap::new();
    for (service, state, count) in rows {
        let entry = ended.entry(service).or_default();
        match state.as_str() {
            "done" => entry.done += count,
            "dead" => entry.dead += count,
            _ => {}
        }
    }
    Ok(ended)
}

/// Whether a service is one of the fleet's; `None` where its services are not known.
fn is_of(fleet: Option<&[String]>, service: &str) -> Option<bool> {
    fleet.map(|services| services.iter().any(|name| name == service))
}

fn table(
    views: &[ServiceView],
    ended: Option<&BTreeMap<String, Ended>>,
    fleet: Option<&[String]>,
) -> Columns {
    let mut columns = Columns::new(&[
        "service",
        "lane",
        "#waiting",
        "#unacked",
        "#oldest",
        "#retrying",
        "#dead",
        "#done 1h",
        "#dead 1h",
        "",
    ]);
    let figure = |n: Option<u64>| n.map_or("?".to_owned(), |n| n.to_string());
    for view in views {
        let totals = view.totals.as_ref();
        let oldest = match totals.map(|totals| totals.oldest_age_seconds) {
            Some(Some(seconds)) => Span(seconds).to_string(),
            Some(None) => "-".into(),
            None => "?".into(),
        };
        let last = ended.map(|ended| ended.get(&view.service).copied().unwrap_or_default());
        let count = |n: Option<i64>| n.map_or("?".to_owned(), |n| n.to_string());
        columns.row([
            terminal::clean(&view.service, 32).into_owned(),
            "all".into(),
            figure(totals.map(|t| t.pending)),
            figure(totals.map(|t| t.unacked)),
            oldest,
            figure(totals.and_then(|t| t.retrying)),
            figure(totals.and_then(|t| t.dead)),
            count(last.map(|l| l.done)),
            count(last.map(|l| l.dead)),
            match (view.state, view.observation_age_seconds) {
                (Freshness::Fresh, _) if is_of(fleet, &view.service) == Some(false) => {
                    "not in this fleet".into()
                }
                (Freshness::Fresh, _) => String::new(),
                (Freshness::Stale, age) => format!("seen {} ago", Span(age.unwrap_or_default())),
                (Freshness::Unknown, _) => "unknown".into(),
            },
        ]);
        for lane in &view.lanes {
            let name = terminal::clean(&lane.lane, 16).into_owned();
            columns.row([
                String::new(),
                name,
                lane.pending.to_string(),
                lane.unacked.to_string(),
            ]);
        }
    }
    columns
}

fn as_json(
    views: &[ServiceView],
    ended: &Result<BTreeMap<String, Ended>, String>,
    fleet: Option<&[String]>,
    out: &BTreeMap<String, Out>,
) -> Value {
    let services: Vec<Value> = views
        .iter()
        .map(|view| {
            let mut value = json!(view);
            value["last_hour"] = match ended {
                Ok(ended) => json!(ended.get(&view.service).copied().unwrap_or_default()),
                Err(_) => Value::Null,
            };
            value["out_of_service"] = out.get(&view.service).map_or(Value::Null, Out::json);
            value["in_fleet"] = json!(is_of(fleet, &view.service));
            value
        })
        .collect();
    json!({ "services": services, "last_hour_problem": ended.as_ref().err() })
}
