//! `weir warm`: what is fetched ahead into caches and why, asked of the scheduler that leads; and pauses of it.

use std::time::SystemTime;

use scheduler::api::warm::ask;
use shared::config::{Environment, Process};
use shared::subject::Service;
use shared::telemetry::propagation::millis;
use shared::topology::{self, TopologyError};
use shared::warm::{
    self as warming, Explained, Pause, Question, Reply, ServiceStatus, Source, State, Status,
};
use worker::handler::KINDS;

use crate::args::{Warm, WarmExplain, WarmPause, WarmResume, WarmStatus};
use crate::failure::Failure;
use crate::fleet::{self, Reached};
use crate::tables::Columns;
use crate::terminal::{self, Span, clean};

pub(crate) async fn run(warm: Warm) -> Result<(), Failure> {
    match warm {
        Warm::Status(status) => self::status(status).await,
        Warm::Explain(explain) => self::explain(explain).await,
        Warm::Pause(pause) => self::pause(pause).await,
        Warm::Resume(resume) => self::resume(resume).await,
    }
}

async fn status(asked: WarmStatus) -> Result<(), Failure> {
    let reached = fleet::reach(&asked.fleet, None).await?;
    let status = match ask(&reached.client, &Question::Status).await {
        Ok(Reply::Status(status)) => status,
        other => return Err(not_answered(other)),
    };
    if asked.json {
        terminal::out_json(&status);
        return Ok(());
    }
    let now_ms = millis(SystemTime::now());
    terminal::out(table(&status).text());
    match &status.off {
        Some(off) => terminal::note(format_args!("off: {}", clean(off, 300))),
        None => terminal::note(format_args!("WEIR_WARM is {}", status.mode)),
    }
    if let Some(pause) = &status.paused {
        terminal::note(format_args!("all is paused {}", of(pause, now_ms)));
    }
    for service in &status.services {
        for sentence in sentences(service, now_ms) {
            terminal::note(format_args!("{}: {sentence}", clean(&service.service, 32)));
        }
    }
    Ok(())
}

fn table(status: &Status) -> Columns {
    let mut columns = Columns::new(&[
        "service",
        "state",
        "#kept",
        "#keys",
        "#look-ups",
        "#ahead",
        "#precision",
        "#coverage",
        "#gain",
        "#lead",
        "live",
    ]);
    for service in &status.services {
        let day = &service.day;
        let shown = |fetched: u64, noted: u64| match (fetched, noted) {
            (0, 0) => "-".to_owned(),
            (0, noted) => format!("({noted})"),
            (fetched, _) => fetched.to_string(),
        };
        let share = |right: u64, wrong: u64| {
            let all = right + wrong;
            (all > 0).then(|| percent(right as f64 / all as f64))
        };
        let noted = share(day.shadow_right, day.shadow_wrong).map(|share| format!("({share})"));
        let live = service.sources.iter().filter(|source| source.live);
        let live: Vec<_> = live.map(|source| clean(&source.source, 16)).collect();
        columns.row([
            clean(&service.service, 32).into_owned(),
            service.state.as_str().to_owned(),
            seconds(service.ttl_ms),
            service.keys.to_string(),
            day.looks.to_string(),
            shown(day.right + day.wrong, day.shadow_right + day.shadow_wrong),
            share(day.right, day.wrong)
                .or(noted)
                .unwrap_or_else(|| "-".into()),
            day.coverage.map_or_else(|| "-".into(), percent),
            day.hit_gain.map_or_else(|| "-".into(), percent),
            day.lead_ms.map_or_else(|| "-".into(), seconds),
            live.join(" "),
        ]);
    }
    columns
}

/// What a table cannot say of a service.
fn sentences(service: &ServiceStatus, now_ms: u64) -> Vec<String> {
    let mut sentences = Vec::new();
    if let Some(pause) = &service.paused {
        sentences.push(format!("paused {}", of(pause, now_ms)));
    }
    if let Some(until) = service.silent_until_ms {
        let left = seconds(until.saturating_sub(now_ms));
        sentences.push(format!("silent for {left} more, because the API refused a call"));
    }
    if service.state == State::NotCached && service.trouble.is_none() {
        sentences.push(kept(&service.service));
    }
    if service.state == State::Shadow {
        sentences.extend(in_shadow(&service.sources));
    }
    sentences.extend(
        service
            .trouble
            .as_deref()
            .map(|trouble| clean(trouble, 300).into_owned()),
    );
    sentences
}

/// Why its workers keep no answers. Which handler it has its workers know; without a setting, the one of its name.
fn kept(service: &str) -> String {
    let name = clean(service, 32);
    let setting = name.to_ascii_uppercase().replace('-', "_");
    match KINDS.iter().find(|kind| kind.name == service) {
        Some(kind) if !kind.caches => format!("nothing is kept of what the handler {name} reads"),
        Some(_) => format!("its workers keep no answers: set WEIR_SERVICE_{setting}_CACHE"),
        None => {
            let caches = KINDS.iter().filter(|kind| kind.caches);
            let names: Vec<_> = caches.map(|kind| kind.name).collect();
            format!(
                "its workers keep no answers: set WEIR_SERVICE_{setting}_CACHE if its handler is one of {}",
                names.join(", ")
            )
        }
    }
}

/// How far its sources are on the way out of the shadow.
fn in_shadow(sources: &[Source]) -> Option<String> {
    let far = |source: &Source| {
        let right = source.precision.map(|share| percent(share.into()));
        let right = right.map_or_else(String::new, |right| format!(", {right} right"));
        let name = clean(&source.source, 16);
        format!("{name} {} of {}{right}", source.judged, source.needed)
    };
    let all: Vec<_> = sources
        .iter()
        .filter(|of| !of.live && of.needed > 0)
        .map(far)
        .collect();
    (!all.is_empty()).then(|| {
        format!(
            "in shadow, predictions judged of those needed: {}",
            all.join("; ")
        )
    })
}

/// Who paused it, when, and until when.
fn of(pause: &Pause, now_ms: u64) -> String {
    let ago = seconds(now_ms.saturating_sub(pause.at_ms));
    let by = clean(&pause.by, warming::MAX_BY);
    match pause.until_ms {
        Some(until) => format!(
            "by {by} {ago} ago, for {} more",
            seconds(until.saturating_sub(now_ms))
        ),
        None => format!("by {by} {ago} ago, until it is resumed"),
    }
}

async fn explain(asked: WarmExplain) -> Result<(), Failure> {
    let reached = fleet::reach(&asked.fleet, None).await?;
    let question = Question::Explain {
        service: asked.service.to_string(),
        key: asked.key.clone(),
    };
    let keys = match ask(&reached.client, &question).await {
        Ok(Reply::Explained(keys)) => keys,
        other => return Err(not_answered(other)),
    };
    if asked.json {
        terminal::out_json(&keys);
        return Ok(());
    }
    if keys.is_empty() {
        return Err(Failure::failed(format_args!(
            "no key of {} is known by that name: nobody asked for it within 15 days, or it is not noted",
            asked.service
        )));
    }
    let now_ms = millis(SystemTime::now());
    for key in &keys {
        explained(key, now_ms);
    }
    Ok(())
}

fn explained(key: &Explained, now_ms: u64) {
    let name = key.name.as_deref().unwrap_or("what to fetch for it is not known");
    let tenant = key
        .tenant
        .as_deref()
        .map(|tenant| format!(" of {}", clean(tenant, 64)));
    terminal::out(format_args!(
        "{}  {}{}",
        clean(&key.key, 16),
        clean(name, 300),
        tenant.unwrap_or_default()
    ));
    let times = match key.seen {
        0 => "not known to have been asked for".to_owned(),
        1 => "asked for once: nothing can be said of that".to_owned(),
        times => format!("asked for {times} times"),
    };
    let cached = key
        .cached_until_ms
        .map(|until| seconds(until.saturating_sub(now_ms)));
    let cached = cached.map_or_else(String::new, |left| format!(", in the cache for {left} more"));
    terminal::out(format_args!("  {times}{cached}"));
    for said in &key.predictions {
        let follows = if said.key == key.key {
            String::new()
        } else {
            format!(" ({} after it)", clean(&said.key, 16))
        };
        terminal::out(format_args!(
            "  {}{follows}: {} of {} times; {}",
            clean(&said.source, 16),
            percent(said.probability.into()),
            said.support,
            clean(&said.verdict, 200)
        ));
    }
}

async fn pause(asked: WarmPause) -> Result<(), Failure> {
    let reached = fleet::reach(&asked.fleet, None).await?;
    if let Some(service) = &asked.service {
        is_there(&reached, service).await?;
    }
    let bucket = bucket(&reached).await?;
    let user = || Process.raw("USER")?.into_string().ok();
    let by = asked.by.or_else(user);
    let now_ms = millis(SystemTime::now());
    let pause = Pause::new(by.as_deref().unwrap_or("weir warm"), now_ms, asked.lasts);
    let put = warming::pause(&bucket, asked.service.as_ref(), &pause).await;
    put.map_err(Failure::at("pausing"))?;
    terminal::out(format_args!(
        "{} is paused {}",
        named(asked.service.as_ref()),
        of(&pause, now_ms)
    ));
    Ok(())
}

async fn resume(asked: WarmResume) -> Result<(), Failure> {
    let reached = fleet::reach(&asked.fleet, None).await?;
    let bucket = bucket(&reached).await?;
    let service = asked.service.as_ref();
    let resumed = warming::resume(&bucket, service).await;
    let was = if resumed.map_err(Failure::at("resuming"))? {
        "goes on"
    } else {
        // The pause of a service that has gone can be ended all the same.
        if let Some(service) = service {
            is_there(&reached, service).await?;
        }
        "was not paused"
    };
    terminal::out(format_args!("{} {was}", named(service)));
    Ok(())
}

/// Refuses a service that the fleet does not have.
async fn is_there(reached: &Reached, service: &Service) -> Result<(), Failure> {
    let services = fleet::services(&reached.js).await?;
    if services.contains(service) {
        return Ok(());
    }
    Err(Failure::Failed(fleet::strange(&[service], &services)))
}

async fn bucket(reached: &Reached) -> Result<async_nats::jetstream::kv::Store, Failure> {
    let bucket = topology::warm_bucket(&reached.js, &reached.fleet.streams).await;
    bucket.map_err(|error: TopologyError| Failure::failed(error))
}

fn named(service: Option<&Service>) -> String {
    service.map_or_else(
        || "the warming of all caches".into(),
        |service| format!("the warming of {service}"),
    )
}

fn not_answered(reply: Result<Reply, String>) -> Failure {
    match reply {
        Err(why) | Ok(Reply::Not(why)) => Failure::failed(clean(&why, 400)),
        Ok(Reply::Status(_) | Reply::Explained(_)) => Failure::failed("the leader answers another question"),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn seconds(ms: u64) -> String {
    Span(ms as f64 / 1_000.0).to_string()
}

#[cfg(test)]
mod tests;
