//! The settings of a service of models: which, where, at what price, under which limits and budgets.

mod token;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::Url;
use sha2::{Digest, Sha256};
use shared::config::Reader;
use shared::config::reader::without_password;
use tokio::sync::Semaphore;

use super::ask::MAX_MODELS;
use super::budget::{Bounds, Budget, Over};
use super::cache::Cache;
use super::health::Health;
use super::kept::{Shelf, WAITS};
use super::model::{APART, Model};
use super::money::{Nano, Price, dollars, show};
use super::protocol::Protocol;
use super::{Agent, ORCHESTRATIONS};
use crate::config::ServiceConfig;
use crate::config::limits as limits_config;
use crate::handler::{Handler, Make, Parts};
use crate::limits::{Limits, Table};
use crate::quota;
use token::{Token, host};

/// Longest time that answers are shared.
const LONGEST_CACHE: Duration = Duration::from_secs(30 * 86_400);

/// What a service of models is set to.
pub(super) struct Settings {
    models: Vec<ModelSettings>,
    parallel: usize,
    lasts: Duration,
    bytes: u64,
    bounds: Bounds,
    /// Where its calls go unless a model says otherwise; filled in by [`ModelSettings::base`].
    prefix: String,
}

#[derive(Clone)]
struct ModelSettings {
    name: String,
    protocol: Protocol,
    id: String,
    url: Option<String>,
    token: Token,
    price: Option<Price>,
    limits: Table,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.models.iter().map(|model| &model.name).collect();
        f.debug_struct("Settings")
            .field("models", &names)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Reads them.
    pub(super) fn read(reader: &mut Reader<'_>, prefix: &str) -> Arc<dyn Make> {
        let name = |suffix: &str| format!("{prefix}_{suffix}");
        let models = name("MODELS");
        let names = reader.list(&models, "", |model| {
            let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            let begins = model.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
            if begins && model.len() <= 32 && model.bytes().all(fits) {
                Ok(model.to_owned())
            } else {
                Err("is no name of a model: lower-case letters, digits and - make one".into())
            }
        });
        if names.is_empty() && !reader.has_problem(&models) {
            reader.problem(
                &models,
                "is missing: the names of its models, in the order in which they are asked",
            );
        }
        if names.len() > MAX_MODELS {
            reader.problem(
                &models,
                format!("names {} models, more than {MAX_MODELS}", names.len()),
            );
        }
        let bounds = Bounds {
            event: sum(reader, &name("BUDGET_EVENT")),
            tenant: sum(reader, &name("BUDGET_TENANT")),
            day: sum(reader, &name("BUDGET_DAY")),
            over: reader.with(&name("BUDGET_OVER"), Over::default(), over, |over| {
                if *over == Over::Wait { "wait" } else { "refuse" }.into()
            }),
        };
        let bounded = bounds.event.or(bounds.tenant).or(bounds.day).is_some();
        let settings = Self {
            models: names
                .into_iter()
                .map(|model| ModelSettings::read(reader, prefix, model, bounded))
                .collect(),
            parallel: reader.number(&name("PARALLEL"), 10, 1..=1_000) as usize,
            lasts: reader.duration(
                &name("CACHE_TTL"),
                Duration::from_secs(6 * 3_600),
                Duration::ZERO..=LONGEST_CACHE,
            ),
            bytes: reader.bytes(&name("CACHE_BYTES"), 256 << 20, 0..=1 << 40),
            bounds,
            prefix: prefix.to_owned(),
        };
        for (i, model) in settings.models.iter().enumerate() {
            let same = |other: &&ModelSettings| {
                (other.protocol, &other.id, &other.url, &other.token)
                    == (model.protocol, &model.id, &model.url, &model.token)
            };
            if let Some(twin) = settings.models[..i].iter().find(same) {
                let what = format!(
                    "is {} once more: two names would have the limits of one twice",
                    twin.name
                );
                reader.problem(&model_prefix(prefix, &model.name), what);
            }
        }
        Arc::new(settings)
    }
}

fn model_prefix(prefix: &str, model: &str) -> String {
    format!("{prefix}_MODEL_{}", model.to_ascii_uppercase().replace('-', "_"))
}

impl ModelSettings {
    fn read(reader: &mut Reader<'_>, prefix: &str, name: String, bounded: bool) -> Self {
        let own = model_prefix(prefix, &name);
        let setting = |suffix: &str| format!("{own}_{suffix}");
        let (protocol, id) = reader.with(
            &own,
            (Protocol::Compatible, String::new()),
            model,
            |(protocol, id)| format!("{}:{id}", protocol.as_str()),
        );
        if id.is_empty() && !reader.has_problem(&own) {
            reader.problem(
                &own,
                "is missing: whose model it is and its id, for example openai:gpt-5-mini",
            );
        }
        let url = reader.with(
            &setting("URL"),
            None,
            |text| base(text).map(Some),
            |url| {
                // Those of OpenAI's are at the service's URL.
                let theirs = protocol.url().filter(|_| protocol != Protocol::Openai);
                url.as_deref().or(theirs).unwrap_or_default().to_owned()
            },
        );
        if url.is_none() && protocol == Protocol::Compatible && !reader.has_problem(&own) && !id.is_empty() {
            reader.problem(
                &setting("URL"),
                "is missing: where it is, for example http://127.0.0.1:8000/v1",
            );
        }
        let price = setting("PRICE");
        let price_of = reader.with(
            &price,
            None,
            |text| text.parse().map(Some),
            |price: &Option<Price>| price.as_ref().map_or_else(String::new, ToString::to_string),
        );
        if price_of.is_none() && bounded && !reader.has_problem(&price) {
            reader.problem(
                &price,
                "is missing: a budget needs it, for example in 0.25, out 2, version 2026-11",
            );
        }
        Self {
            // Nothing is booked ahead: a call is long, and the time between two of them too.
            limits: limits_config::read(reader, &own, protocol.provider(), Duration::ZERO),
            token: reader.with(&setting("TOKEN"), Token::Service, Token::read, Token::show),
            price: price_of,
            name,
            protocol,
            id,
            url,
        }
    }

    /// Where its API is; `None` when nobody says.
    fn base(&self, config: Option<&ServiceConfig>) -> Option<String> {
        let default = config.and_then(|config| config.urls.first().cloned());
        match (&self.url, self.protocol) {
            (Some(url), _) => Some(url.clone()),
            (None, Protocol::Openai) => default.or_else(|| Protocol::Openai.url().map(Into::into)),
            (None, protocol) => protocol.url().map(Into::into),
        }
    }
}

fn model(text: &str) -> Result<(Protocol, String), String> {
    let wrong =
        || format!("{text:?} is no model: write whose it is and its id, for example openai:gpt-5-mini");
    let (protocol, id) = text.split_once(':').ok_or_else(wrong)?;
    let protocol = Protocol::named(protocol).ok_or_else(|| {
        format!(
            "{protocol:?} makes no models: must be one of {}",
            Protocol::names()
        )
    })?;
    if !(1..=128).contains(&id.len()) || !id.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(wrong());
    }
    Ok((protocol, id.to_owned()))
}

fn base(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|e| format!("is no URL: {e}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must begin with http:// or https://".into());
    }
    if url.query().is_some()
        || url.fragment().is_some()
        || !url.username().is_empty()
        || url.password().is_some()
    {
        return Err("must be a plain base like https://api.openai.com/v1".into());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn over(text: &str) -> Result<Over, String> {
    match text {
        "wait" => Ok(Over::Wait),
        "refuse" => Ok(Over::Refuse),
        other => Err(format!("is {other:?}: must be wait or refuse")),
    }
}

/// A sum in dollars, or none.
fn sum(reader: &mut Reader<'_>, name: &str) -> Option<Nano> {
    reader.with(
        name,
        None,
        |text| dollars(text).map(Some),
        |sum| sum.map_or_else(String::new, show),
    )
}

impl Make for Settings {
    /// A service's token is for the host of the service's URL, and goes to no other.
    fn check(&self, config: &ServiceConfig, reader: &mut Reader<'_>) {
        let (Some(service), true) = (config.urls.first(), config.token.is_some()) else {
            return;
        };
        for model in self.models.iter().filter(|model| model.token == Token::Service) {
            let Some(base) = model.base(Some(config)) else {
                continue;
            };
            if host(&base) != host(service) {
                let prefix = &self.prefix;
                let what = format!(
                    "is missing: {prefix}_TOKEN is for {}, and {} is at {base}; none for no token",
                    without_password(service),
                    model.name
                );
                reader.problem(&format!("{}_TOKEN", model_prefix(prefix, &model.name)), what);
            }
        }
    }

    /// Each model has a URL of its own.
    fn calls_its_url(&self) -> bool {
        false
    }

    fn urls(&self) -> Vec<String> {
        self.models.iter().filter_map(|model| model.base(None)).collect()
    }

    fn make(&self, config: &ServiceConfig, parts: Parts) -> Result<Arc<dyn Handler>, String> {
        if config.urls.len() > 1 {
            return Err("has several URLs: what is asked when one fails is the order of its models".into());
        }
        let mut gates: HashMap<(Protocol, String), Arc<Semaphore>> = HashMap::new();
        let mut models = Vec::with_capacity(self.models.len());
        for set in &self.models {
            let own = model_prefix(&self.prefix, &set.name);
            let base = set
                .base(Some(config))
                .ok_or_else(|| format!("{own}_URL is missing: where the model {} is", set.name))?;
            let url = Url::parse(&format!("{base}{}", set.protocol.path()))
                .map_err(|e| format!("{own}_URL: {e}"))?;
            let gate = gates.entry((set.protocol, base.clone()));
            let parallel = Arc::clone(gate.or_insert_with(|| Arc::new(Semaphore::new(self.parallel))));
            let token = match &set.token {
                Token::Service => config.token.clone(),
                Token::None => None,
                Token::Own(own) => Some(own.clone()),
            };
            if token.is_none() && set.token != Token::None && set.protocol != Protocol::Compatible {
                tracing::warn!(service = %config.service, model = set.name, "no token: its maker refuses every call");
            }
            let limits = Arc::new(Limits::new(
                tag(config, &set.name, token.as_deref()),
                APART,
                set.limits.clone(),
            ));
            let quota = quota::Parts {
                limiter: parts.limiter.clone(),
                limits: Arc::clone(&limits),
                provider: set.protocol.provider(),
                away: config.away,
                ahead: Duration::ZERO,
                metrics: parts.metrics.quota(&format!("{}/{}", config.service, set.name)),
            };
            models.push(Arc::new(Model {
                name: set.name.clone(),
                protocol: set.protocol,
                id: set.id.clone(),
                base,
                url,
                token,
                price: set.price.clone().unwrap_or_default(),
                limits,
                quota: quota::Quota::start(&parts.background, quota),
                health: Health::new(config.breaker, Instant::now()),
                parallel,
                next: Mutex::default(),
                doubted: parts.metrics.agent.doubted(config.service.as_str(), &set.name),
            }));
        }
        let service = config.service.clone();
        if self.bounds.event.is_some() && parts.database.is_none() {
            tracing::warn!(%service, "what an event has spent is kept nowhere: its budget is one of each attempt");
        }
        Ok(Arc::new(Agent::new(super::desk::Desk {
            models,
            outbound: parts.outbound,
            shelf: Shelf {
                database: parts.database,
                service: service.clone(),
                lasts: parts.dead_max_age.saturating_add(WAITS),
            },
            cache: Cache {
                redis: parts.redis.clone(),
                service: service.clone(),
                lasts: self.lasts,
                bytes: self.bytes,
            },
            budget: Budget {
                redis: parts.redis,
                service: service.clone(),
                bounds: self.bounds,
            },
            metrics: parts.metrics.agent,
            longest: config.timeout,
            flights: Mutex::default(),
            tasks: parts.background,
            orchestrations: Semaphore::new(ORCHESTRATIONS),
            service,
        })))
    }
}

/// One model's buckets, on one node of a Redis cluster.
fn tag(config: &ServiceConfig, model: &str, token: Option<&str>) -> String {
    let credential = Sha256::digest(token.unwrap_or_default());
    format!("{{{}.{model}:{}}}", config.service, hex::encode(&credential[..4]))
}

#[cfg(test)]
mod tests;
