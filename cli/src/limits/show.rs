//! `weir limits show`: one limit in detail.

use std::fmt::Write as _;

use serde_json::json;
use shared::limiter::live::Now;
use shared::limiter::{Bucket, Rule};

use super::buckets::{self, Buckets, Limit};
use super::models::{self, Model};
use super::reading::{Reading, percent, rate, read_at};
use super::{now, unsaid};
use crate::args::LimitsShow;
use crate::failure::Failure;
use crate::terminal::{self, clean};
use crate::{fleet, moment};

pub(super) async fn run(show: LimitsShow) -> Result<(), Failure> {
    let place = &show.buckets;
    let reached = fleet::reach_all(&place.fleet, None, place.redis_url.as_deref()).await?;
    let service = &show.service;
    let now = now(&reached.js, service)
        .await?
        .ok_or_else(|| Failure::Failed(unsaid(service)))?;
    let Some(name) = &show.name else {
        return Err(Failure::Usage(missing(service.as_str(), &models::names(&now))));
    };
    let (model, limit) = named(&now, name).ok_or_else(|| {
        let known = models::names(&now);
        Failure::Usage(format!(
            "NAME {}: {service} has no such limit; it has {}",
            clean(&format!("{name:?}"), 80),
            if known.is_empty() {
                "none".to_owned()
            } else {
                known.join(", ")
            }
        ))
    })?;
    let now = model.as_ref().map_or(now, |model| model.now.clone());
    let redis = Buckets::open(&reached.redis_url).map_err(Failure::failed)?;
    let (limit, away) = match redis.one(&now, limit.clone()).await {
        Ok(read) => (read, None),
        Err(why) => (limit, Some(why)),
    };
    if show.json {
        let mut value = limit.json();
        value["service"] = json!(service.as_str());
        value["model"] = json!(model.as_ref().map(|model| &model.name));
        value["provider"] = json!(now.provider);
        value["key"] = json!(key(&now, &limit));
        value["read_at"] = json!(read_at());
        terminal::out_json(&value);
    } else {
        terminal::out(page(service.as_str(), &now, model.as_ref(), &limit).trim_end());
    }
    match away {
        None => Ok(()),
        Some(why) => Err(Failure::Failed(format!("how far it is used is unknown: {why}"))),
    }
}

/// What to write, for somebody who named no limit.
fn missing(service: &str, known: &[String]) -> String {
    match known.first() {
        None => format!("NAME is missing, and {service} has no limit"),
        Some(first) => format!(
            "NAME is missing: {service} has {}; write `weir limits show {service} {first}`, or `weir limits list \
             {service}` for all of them",
            known.join(", ")
        ),
    }
}

/// The limit, or the bucket of one channel, method or the like; with the model whose it is.
fn named(now: &Now, name: &str) -> Option<(Option<Model>, Limit)> {
    let Some((model, name)) = name.split_once('/') else {
        return own(now, name).map(|limit| (None, limit));
    };
    let model = models::models(now)
        .into_iter()
        .find(|known| known.name == model)?;
    let limit = model.limits.iter().find(|limit| limit.name == name)?.clone();
    Some((Some(model), limit))
}

fn own(now: &Now, name: &str) -> Option<Limit> {
    let set = buckets::limits(now).into_iter().find(|limit| limit.name == name);
    set.or_else(|| {
        Some(buckets::dynamic(now, name)).filter(|limit| name.contains(':') && limit.rule.is_some())
    })
}

fn key(now: &Now, limit: &Limit) -> String {
    format!("weir:{}:{}", now.tag, limit.name)
}

fn page(service: &str, now: &Now, model: Option<&Model>, limit: &Limit) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<10}{}", clean(value, 400));
    };
    let of = model.map_or(String::new(), |model| format!("{}/", model.name));
    line("limit", &format!("{service} {of}{}", limit.name));
    line("rule", &limit.rule_text());
    let scope = match (model, limit.name.split_once(':')) {
        (Some(model), _) => format!("every call of the model {} ({})", model.name, model.told()),
        (None, Some((family, _))) => format!("calls of this {family}"),
        (None, None) => limit.scope().map_or("every call of the service".into(), |scope| {
            match scope.strip_prefix("of ") {
                Some("some calls") => "the calls that the provider counts so".into(),
                other => format!("the calls of {}", other.unwrap_or_default()),
            }
        }),
    };
    line("for", &scope);
    if limit.shadow {
        line("shadow", "only counted, never in the way");
    }
    if let (Some(rule), Some(reading)) = (limit.rule, &limit.reading) {
        for (name, value) in state(unit(&limit.name), rule, reading) {
            line(name, &value);
        }
        if limit.shadow || reading.over > 0.0 {
            line(
                "over",
                &format!("{:.0} calls would have waited in shadow", reading.over),
            );
        }
    }
    line("key", &key(now, limit));
    line(
        "said by",
        &format!("worker {}, {}", now.worker, moment::since(now.at)),
    );
    if let Some(why) = &now.refused {
        line("refused", &format!("the last change: {why}"));
    }
    text
}

/// What a limit counts.
fn unit(name: &str) -> &'static str {
    if name.ends_with("tokens") { "token" } else { "call" }
}

/// A bucket's state in words.
fn state(unit: &str, rule: Rule, reading: &Reading) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let plural = if reading.free as u64 == 1 { "" } else { "s" };
    lines.push(match reading.why(rule) {
        Some(why) => ("now", why),
        None => (
            "now",
            format!("{:.0} {unit}{plural} could start at once", reading.free),
        ),
    });
    let of = match rule {
        Rule::Paced(_) => "of what the last period allows (to within half of it)",
        Rule::Window { .. } => "of this window",
        Rule::AtOnce(_) => "of the places",
    };
    lines.push(("used", format!("{} {of}", percent(reading.used))));
    if let Some(rate) = rate(rule) {
        lines.push(("rate", per(rate).replace("call", unit)));
    }
    if let Bucket::Paced { interval, slack, .. } = Bucket::from(rule)
        && slack > 0.0
        && reading.free > 0.0
    {
        let credit = (reading.free - 1.0) * interval;
        lines.push((
            "credit",
            format!(
                "{} of at most {} that calls may come before their turn, from idleness",
                moment::span(credit / 1e6).replace("now", "0s"),
                moment::span(slack / 1e6).replace("now", "0s")
            ),
        ));
    }
    if let Some((left, reset)) = reading.told {
        lines.push((
            "provider",
            format!("says {left:.0} are left until {}", moment::until(reset)),
        ));
    }
    if let Some(blocked) = reading.blocked {
        lines.push((
            "refused",
            format!("by the provider until {}", moment::until(blocked)),
        ));
    }
    if reading.push > 0.0 {
        lines.push((
            "pushed",
            format!(
                "by {} in all, for calls that arrived late",
                moment::span(reading.push)
            ),
        ));
    }
    lines.push((
        "granted",
        if reading.known {
            format!("{:.0} in all since the bucket was made", reading.granted)
        } else {
            "nothing within its period".to_owned()
        },
    ));
    lines
}

/// Calls a second, a minute or an hour, whatever reads best.
pub(crate) fn per(rate: f64) -> String {
    let (number, unit) = match rate {
        r if r >= 1.0 => (r, "second"),
        r if r * 60.0 >= 1.0 => (r * 60.0, "minute"),
        r if r * 3600.0 >= 1.0 => (r * 3600.0, "hour"),
        r => (r * 86_400.0, "day"),
    };
    let digits = usize::from(number < 99.95);
    let a = if unit == "hour" { "an" } else { "a" };
    format!("{number:.digits$} calls {a} {unit}")
}
