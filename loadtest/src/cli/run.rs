//! `weir-loadtest run`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_nats::jetstream;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use loadtest::{
    conservation::{self, Conservation},
    generator::{
        Closed, Latency, LoadResult, Open, Phase, run, saturate,
        target::{Events, Publish, Target, Template, Webhook, WireFormat, http_client, payloads},
    },
    provider::Stats,
    report::{Report, memory},
};
use serde_json::json;
use shared::{config::value::duration, subject::Service};
use tokio_util::sync::CancellationToken;

use super::{CliError, say};

/// Longest wait for an answer of a server that is only asked (statistics, connecting).
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends a load, waits until the fleet has worked it off, and accounts for every accepted event.
///
/// Ends with a table. Exit code 1 when an accepted event was lost, an effect doubled, nothing accepted, or when the
/// provider counted a call over a limit.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// What to send.
    #[arg(long, value_enum)]
    to: To,
    /// Base URL of ingest, for webhooks and events.
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL")]
    ingest: String,
    /// Source that webhooks are sent to.
    #[arg(long, default_value = "github", value_name = "NAME")]
    source: String,
    /// File with the secret that webhooks are signed with.
    #[arg(long, value_name = "FILE", required_if_eq("to", "webhooks"))]
    secret_file: Option<PathBuf>,
    /// Webhook payloads: a folder of <event>/<name>.json, or one such file.
    #[arg(long, value_name = "PATH", required_if_eq("to", "webhooks"))]
    payloads: Option<PathBuf>,
    /// Service that events and NATS messages are for.
    #[arg(long, default_value = "http", value_name = "NAME", value_parser = service)]
    service: Service,
    /// File with the bearer token for the events API.
    #[arg(long, value_name = "FILE", required_if_eq("to", "events"))]
    token_file: Option<PathBuf>,
    /// JSON file with the event to send, without an id; a small one of its own without it.
    #[arg(long, value_name = "FILE")]
    event: Option<PathBuf>,
    /// How events are written.
    #[arg(long, value_enum, default_value_t = WireFormat::Msgpack)]
    format: WireFormat,
    /// Times each event is sent in a row, with the same id.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    repeat: u64,
    /// Rates one after another, e.g. --phase '50 for 5s' --phase '500 for 10s'.
    #[arg(long = "phase", default_value = "100 for 10s", value_name = "PHASE")]
    phases: Vec<Phase>,
    /// Send as much as goes through over so many connections instead, for as long as all phases last.
    #[arg(long, value_name = "CONNECTIONS", value_parser = clap::value_parser!(u16).range(1..))]
    saturate: Option<u16>,
    /// Most requests in all.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    max_requests: u64,
    /// Most requests without an answer at a time.
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max_in_flight: u32,
    /// Longest wait for one answer.
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = duration)]
    timeout: Duration,
    /// NATS, for publishing and for the account.
    #[arg(
        long,
        env = "WEIR_NATS_URL",
        default_value = "nats://127.0.0.1:4222",
        value_name = "URL",
        hide_env_values = true
    )]
    nats: String,
    /// Postgres with the fleet's results; without it no account is drawn up.
    #[arg(long, env = "WEIR_POSTGRES_URL", value_name = "URL", hide_env_values = true)]
    postgres: Option<String>,
    /// File with ids, one a line, of events that others have published and that are accounted for as well.
    #[arg(long, value_name = "FILE", requires = "postgres")]
    published: Option<PathBuf>,
    /// Services whose events are accounted for.
    #[arg(long, value_delimiter = ',', default_value = "github,slack,http", value_name = "NAMES", value_parser = service)]
    services: Vec<Service>,
    /// Longest wait until the streams are empty before the account; what is left then counts as waiting.
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = duration)]
    settle: Duration,
    /// URL of a simulated provider whose figures are shown.
    #[arg(long, value_name = "URL")]
    provider: Option<String>,
    /// Processes whose memory is shown, e.g. --process worker-1=4711.
    #[arg(long = "process", value_name = "NAME=PID", value_parser = process)]
    processes: Vec<(String, u32)>,
    /// Print the figures as one JSON line instead of the table.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum To {
    /// Signed GitHub webhooks to ingest.
    Webhooks,
    /// Events to ingest's HTTP API.
    Events,
    /// Messages to NATS, as any client would publish them.
    Nats,
}

impl RunArgs {
    /// True when something was accepted, nothing lost, nothing doubled and no call made over a limit.
    pub(super) async fn run(self, stop: &CancellationToken) -> Result<bool, CliError> {
        let mut accepted = self.published()?;
        let load = self.send(stop).await?;
        accepted.extend(load.accepted_ids.iter().cloned());
        let (conservation, accept_to_done) = self.account(&accepted).await?.unzip();
        let report = Report {
            conservation,
            accept_to_done: accept_to_done.unwrap_or_default(),
            provider: self.provider_stats().await?,
            memory: memory(&self.processes),
            load: Some(load),
        };
        if self.json {
            say(&json!({"ended": "run", "holds": report.holds(), "report": report}))?;
        } else {
            say(&report.table(io::stdout().is_terminal()))?;
        }
        Ok(report.holds())
    }

    async fn send(&self, stop: &CancellationToken) -> Result<LoadResult, CliError> {
        match self.to {
            To::Webhooks => {
                let secret = required(self.secret_file.as_deref(), "--secret-file").and_then(secret)?;
                let found = payloads(required(self.payloads.as_deref(), "--payloads")?);
                let found = found.map_err(CliError::at("--payloads"))?;
                let client = self.client()?;
                let webhook = Webhook::new(client, &self.ingest, &self.source, &secret, found, self.repeat);
                Ok(self
                    .drive(webhook.map_err(CliError::at("--payloads"))?, stop)
                    .await)
            }
            To::Events => {
                let token = required(self.token_file.as_deref(), "--token-file").and_then(secret)?;
                let client = self.client()?;
                let target = Events::new(
                    client,
                    &self.ingest,
                    self.service.as_str(),
                    token,
                    self.template()?,
                );
                Ok(self.drive(target, stop).await)
            }
            To::Nats => {
                let js = self.jetstream().await?;
                Ok(self
                    .drive(
                        Publish::new(js, &self.service, self.template()?, self.timeout),
                        stop,
                    )
                    .await)
            }
        }
    }

    async fn drive<T: Target>(&self, target: T, stop: &CancellationToken) -> LoadResult {
        let bar = bar("sending", "{prefix:9} {wide_bar} {pos}/{len} {msg}");
        let target = Arc::new(target);
        let Some(connections) = self.saturate else {
            let open = Open {
                phases: self.phases.clone(),
                max_requests: self.max_requests,
                max_in_flight: self.max_in_flight,
            };
            return run(&open, target, &bar, stop).await;
        };
        let closed = Closed {
            connections: usize::from(connections),
            max_requests: self.max_requests,
            lasts: self.phases.iter().map(|phase| phase.lasts).sum(),
        };
        saturate(closed, target, &bar, stop).await
    }

    fn published(&self) -> Result<BTreeSet<String>, CliError> {
        let Some(path) = &self.published else {
            return Ok(BTreeSet::new());
        };
        let text = fs::read_to_string(path).map_err(CliError::at(path.display()))?;
        let ids = text.lines().map(str::trim).filter(|id| !id.is_empty());
        Ok(ids.map(str::to_owned).collect())
    }

    async fn account(
        &self,
        accepted: &BTreeSet<String>,
    ) -> Result<Option<(Conservation, BTreeMap<String, Latency>)>, CliError> {
        let Some(url) = &self.postgres else {
            return Ok(None);
        };
        let js = self.jetstream().await?;
        let pool = sqlx::postgres::PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(PATIENCE);
        let pool = pool.connect(url).await.map_err(CliError::at("--postgres"))?;
        let bar = bar("settling", "{prefix:9} {spinner} {msg}");
        let told = |left| {
            bar.set_message(format!("{left} messages wait"));
            bar.tick();
        };
        let account = conservation::audit(accepted, &js, &pool, &self.services, self.settle, told).await;
        bar.finish_and_clear();
        let account = account.map_err(CliError::at("account"))?;
        let took = conservation::accept_to_done(accepted, &pool, &self.services).await;
        let took = took.map_err(CliError::at("account"))?;
        pool.close().await;
        Ok(Some((account, took)))
    }

    async fn provider_stats(&self) -> Result<Option<Stats>, CliError> {
        let Some(url) = &self.provider else {
            return Ok(None);
        };
        let ask = async {
            let url = format!("{}/_sim/stats", url.trim_end_matches('/'));
            http_client(PATIENCE)?
                .get(url)
                .send()
                .await?
                .error_for_status()?
                .json()
                .await
        };
        ask.await
            .map(Some)
            .map_err(|error: reqwest::Error| CliError(format!("--provider: {error}")))
    }

    async fn jetstream(&self) -> Result<jetstream::Context, CliError> {
        let options = async_nats::ConnectOptions::new()
            .name("weir-loadtest")
            .connection_timeout(PATIENCE);
        let client = options
            .connect(&self.nats)
            .await
            .map_err(CliError::at("--nats"))?;
        Ok(jetstream::new(client))
    }

    fn client(&self) -> Result<reqwest::Client, CliError> {
        http_client(self.timeout).map_err(CliError::at("HTTP client"))
    }

    fn template(&self) -> Result<Template, CliError> {
        let fields = match &self.event {
            None => json!({"data": {"from": "weir-loadtest"}}),
            Some(path) => {
                let text = fs::read(path).map_err(CliError::at(path.display()))?;
                serde_json::from_slice(&text).map_err(CliError::at(path.display()))?
            }
        };
        Template::new(fields, self.format, self.repeat).map_err(CliError::at("--event"))
    }
}

/// A secret from a file, without the newline at its end.
pub(super) fn secret(path: &Path) -> Result<String, CliError> {
    let text = fs::read_to_string(path).map_err(CliError::at(path.display()))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        Err(CliError(format!("{}: is empty", path.display())))
    } else {
        Ok(text.to_owned())
    }
}

fn required<'a>(path: Option<&'a Path>, option: &str) -> Result<&'a Path, CliError> {
    path.ok_or_else(|| CliError(format!("{option} is missing")))
}

fn service(text: &str) -> Result<Service, String> {
    Service::new(text).map_err(|error| error.to_string())
}

fn process(text: &str) -> Result<(String, u32), String> {
    let told = text
        .split_once('=')
        .and_then(|(name, pid)| Some((name.to_owned(), pid.parse().ok()?)));
    told.ok_or_else(|| format!("{text:?} is no NAME=PID, e.g. worker-1=4711"))
}

fn bar(prefix: &'static str, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::no_length().with_style(style).with_prefix(prefix)
}
