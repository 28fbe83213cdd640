//! `weir limits list`.

use futures_util::TryStreamExt;
use serde_json::{Value, json};
use shared::limiter::live::Now;
use shared::subject::Service;

use super::buckets::{self, Apart, Buckets, Limit};
use super::models::{self, Model};
use super::reading::{percent, read_at};
use super::{now, unsaid};
use crate::args::LimitsList;
use crate::failure::Failure;
use crate::fleet::{self, Reached};
use crate::moment;
use crate::tables::Columns;
use crate::terminal::{self, clean};

/// One service's limits.
struct Told {
    service: Service,
    now: Now,
    limits: Vec<Limit>,
    models: Vec<Model>,
    apart: Apart,
}

pub(super) async fn run(list: LimitsList) -> Result<(), Failure> {
    let place = &list.buckets;
    let reached = fleet::reach_all(&place.fleet, None, place.redis_url.as_deref()).await?;
    let services = match &list.service {
        Some(service) => vec![service.clone()],
        None => services(&reached).await?,
    };
    let redis = Buckets::open(&reached.redis_url).map_err(Failure::failed)?;
    let (mut all, mut problems, mut away) = (Vec::new(), Vec::new(), None);
    for service in services {
        let Some(now) = now(&reached.js, &service).await? else {
            problems.push(unsaid(&service));
            continue;
        };
        let (mut limits, mut apart) = (buckets::limits(&now), Apart::default());
        let mut models = models::models(&now);
        if away.is_none() {
            let asked = async {
                models::read(&redis, &mut models).await?;
                Ok::<_, String>((redis.limits(&now).await?, redis.apart(&now).await?))
            };
            match asked.await {
                Ok(read) => (limits, apart) = read,
                Err(why) => away = Some(why),
            }
        }
        all.push(Told {
            service,
            now,
            limits,
            models,
            apart,
        });
    }
    if list.json {
        terminal::out_json(&as_json(&all, list.keys.into(), away.as_deref()));
    } else if !all.is_empty() {
        let (table, notes) = table(&all, list.keys.into());
        terminal::out(table.text());
        for note in notes {
            terminal::note(note);
        }
    }
    if let Some(why) = away {
        problems.push(format!("how far the limits are used is unknown: {why}"));
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Failure::Failed(problems.join("\nweir: ")))
    }
}

/// Every service that has a stream.
async fn services(reached: &Reached) -> Result<Vec<Service>, Failure> {
    let names: Vec<String> = reached
        .js
        .stream_names()
        .try_collect()
        .await
        .map_err(Failure::at("listing the streams"))?;
    let mut services: Vec<Service> = names.iter().filter_map(|name| Service::of_stream(name)).collect();
    services.sort();
    Ok(services)
}

fn table(all: &[Told], most: usize) -> (Columns, Vec<String>) {
    let names = [
        "service", "provider", "limit", "rule", "#free", "#next", "#used", "state",
    ];
    let mut columns = Columns::new(&names);
    let mut notes = Vec::new();
    for told in all {
        let mut owner = (
            told.service.to_string(),
            clean(&told.now.provider, 16).into_owned(),
        );
        if told.limits.is_empty() {
            let (service, provider) = std::mem::take(&mut owner);
            columns.row([service, provider, "none".into()]);
        }
        for limit in told.limits.iter().chain(told.apart.keys.iter().take(most)) {
            let (service, provider) = std::mem::take(&mut owner);
            let [name, rule, free, next, used, state] = cells(limit);
            columns.row([service, provider, name, rule, free, next, used, state]);
        }
        for model in &told.models {
            let mut provider = clean(&model.now.provider, 16).into_owned();
            let mut which = clean(&model.told(), 160).into_owned();
            if model.limits.is_empty() {
                columns.row([
                    String::new(),
                    provider.clone(),
                    format!("{}/", clean(&model.name, 80)),
                    "none".into(),
                    String::new(),
                    String::new(),
                    String::new(),
                    which.clone(),
                ]);
            }
            for limit in model.named() {
                let [name, rule, free, next, used, state] = cells(&limit);
                let which = std::mem::take(&mut which);
                let state = [which, state].into_iter().filter(|text| !text.is_empty());
                let state = state.collect::<Vec<_>>().join("; ");
                columns.row([
                    String::new(),
                    std::mem::take(&mut provider),
                    name,
                    rule,
                    free,
                    next,
                    used,
                    state,
                ]);
            }
        }
        let total = told.apart.keys.len();
        if total > most || told.apart.cut {
            let more = if told.apart.cut { "more than " } else { "" };
            notes.push(format!(
                "{}: {more}{total} channels, methods and the like have a limit of their own; {} of them are shown \
                 (see --keys)",
                told.service,
                most.min(total)
            ));
        }
        if let Some(why) = &told.now.refused {
            let why = clean(why, 300);
            notes.push(format!(
                "{}: a change was refused by worker {}: {why}",
                told.service,
                clean(&told.now.worker, 80)
            ));
        }
    }
    (columns, notes)
}

fn cells(limit: &Limit) -> [String; 6] {
    let name = clean(&limit.name, 80).into_owned();
    let Some(reading) = &limit.reading else {
        let unknown = || if limit.is_of_each() { "" } else { "?" }.to_owned();
        return [
            name,
            limit.rule_text(),
            unknown(),
            unknown(),
            unknown(),
            notes(limit),
        ];
    };
    [
        name,
        limit.rule_text(),
        format!("{:.0}", reading.free),
        moment::span(reading.next),
        percent(reading.used),
        notes(limit),
    ]
}

/// What the figures do not say.
fn notes(limit: &Limit) -> String {
    let mut notes = Vec::new();
    if limit.shadow {
        let over = limit.reading.as_ref().map_or(0.0, |reading| reading.over);
        notes.push(format!("shadow: {over:.0} calls would have waited"));
    }
    notes.extend(limit.scope());
    if let Some(reading) = &limit.reading {
        if let Some(blocked) = reading.blocked {
            notes.push(format!(
                "refused by the provider until {}",
                moment::until(blocked)
            ));
        }
        if let Some((left, reset)) = reading.told {
            notes.push(format!("provider: {left:.0} left until {}", moment::until(reset)));
        }
    }
    notes.join("; ")
}

fn as_json(all: &[Told], most: usize, away: Option<&str>) -> Value {
    let services: Vec<Value> = all
        .iter()
        .map(|told| {
            let shown = told.apart.keys.iter().take(most);
            json!({
                "service": told.service.as_str(),
                "provider": told.now.provider,
                "tag": told.now.tag,
                "redis_away": told.now.away,
                "worker": told.now.worker,
                "said_at": shared::telemetry::propagation::rfc3339(moment::unix(told.now.at)),
                "refused": told.now.refused,
                "limits": told.limits.iter().map(Limit::json).collect::<Vec<_>>(),
                "models": told.models.iter().map(Model::json).collect::<Vec<_>>(),
                "keys": shown.map(Limit::json).collect::<Vec<_>>(),
                "keys_total": told.apart.keys.len(),
                "keys_cut": told.apart.cut,
            })
        })
        .collect();
    json!({ "services": services, "read_at": read_at(), "redis_problem": away })
}
