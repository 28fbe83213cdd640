//! Where a scenario plays: private servers, proxies before them, a simulated provider, a fleet of processes, a client.

use std::time::Duration;

use async_nats::jetstream;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};
use shared::servers::Servers;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::account::{self, Told};
use super::client::{ALL, Client, Manner, Traffic};
use super::probe::{Probe, Probed};
use super::{Order, Trouble, until};
use crate::fault::proxy::Proxy;
use crate::fleet::{Fleet, Member};
use crate::provider::{Provider, ProviderConfig, Window};

/// How long a member may take to end.
const END_WITHIN: Duration = Duration::from_secs(90);

/// Everything that a scenario needs.
pub(super) struct Scene {
    pub(super) order: Order,
    /// Decides moments.
    pub(super) random: StdRng,
    pub(super) fleet: Fleet,
    /// What workers find the servers behind.
    pub(super) nats: Proxy,
    pub(super) redis: Proxy,
    pub(super) postgres: Proxy,
    pub(super) provider: Provider,
    /// Past the proxies, for the account.
    pub(super) js: jetstream::Context,
    pub(super) database: PgPool,
    pub(super) ingest: Vec<Member>,
    pub(super) workers: Vec<Member>,
    pub(super) schedulers: Vec<Member>,
    client: Option<Client>,
    token: String,
    /// Where ingest was started last.
    door: watch::Sender<String>,
    /// The event that tells how long the fleet took to recover.
    probe: Option<JoinHandle<Result<Probed, Trouble>>>,
    /// What the client was told, and how long the fleet took to recover, once that is known.
    ended: Option<(Traffic, Option<Duration>)>,
    /// Effects may take place more than once: they are told, and no problem.
    pub(super) at_least_once: bool,
    pub(super) notes: Vec<String>,
    pub(super) problems: Vec<String>,
}

/// How often an event is tried, so that it outlives the fault.
const RETRIES: &str = "200ms, 500ms, 1s, 1s, 2s, 2s, 3s, 3s, 5s, 5s, 10s, 10s";

impl Scene {
    /// Servers of its own.
    pub(super) async fn open(order: Order, settings: &[(&str, &str)]) -> Result<Self, Trouble> {
        let servers = Servers::start_scratch().await.map_err(Trouble::at("servers"))?;
        Self::on(order, servers, settings, ProviderConfig::default()).await
    }

    /// On these servers, with settings for every member.
    pub(super) async fn on(
        order: Order,
        servers: Servers,
        settings: &[(&str, &str)],
        provider: ProviderConfig,
    ) -> Result<Self, Trouble> {
        shared::lifecycle::install_tls();
        let mut limits = ProviderConfig {
            seed: order.seed,
            ..provider
        };
        let many = Window::per_second(1_000_000);
        (limits.github.core, limits.github.writes) = (many, many);
        limits.github.concurrent = 100_000;
        (limits.slack.method, limits.slack.channel) = (many, many);
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.map_err(Trouble::at("the provider"))?;
        let provider = Provider::start(limits, listener).map_err(Trouble::at("the provider"))?;
        let token = uuid::Uuid::now_v7().to_string();
        let tokens = format!("test:{}:*", hex::encode(Sha256::digest(&token)));
        let (github, slack, hooks) = (
            provider.url(),
            format!("{}/api", provider.url()),
            format!("{}/hooks/test", provider.url()),
        );
        let free = "method:chat.postMessage: 100000 per second, burst 1000; \
                    method:conversations.history: 100000 per second, burst 1000; channel: none";
        let mut all = vec![
            ("WEIR_SERVICES", "github,slack,http"),
            ("WEIR_TOKENS", tokens.as_str()),
            ("WEIR_INGEST_PATIENCE", "3s"),
            ("WEIR_SERVICE_GITHUB_URL", github.as_str()),
            ("WEIR_SERVICE_GITHUB_TOKEN", "test-github"),
            ("WEIR_SERVICE_GITHUB_LIMIT", "none"),
            ("WEIR_SERVICE_GITHUB_LIMITS", "none"),
            ("WEIR_SERVICE_SLACK_URL", slack.as_str()),
            ("WEIR_SERVICE_SLACK_TOKEN", "test-slack"),
            ("WEIR_SERVICE_SLACK_LIMIT", "none"),
            ("WEIR_SERVICE_SLACK_LIMITS", free),
            ("WEIR_SERVICE_HTTP_URL", hooks.as_str()),
            ("WEIR_SERVICE_GITHUB_RETRIES", RETRIES),
            ("WEIR_SERVICE_SLACK_RETRIES", RETRIES),
            ("WEIR_SERVICE_HTTP_RETRIES", RETRIES),
            ("WEIR_SERVICE_GITHUB_TIMEOUT", "2s"),
            ("WEIR_SERVICE_SLACK_TIMEOUT", "2s"),
            ("WEIR_SERVICE_HTTP_TIMEOUT", "2s"),
            ("WEIR_STREAM_ACK_WAIT", "2s"),
            ("WEIR_LIMITS_START", "full"),
        ];
        // Those given win: the last of a name counts.
        all.extend_from_slice(settings);
        let fleet = Fleet::on(servers, &all).await.map_err(Trouble::at("the fleet"))?;
        let nats_url = fleet.settings.get("WEIR_NATS_URL").cloned().unwrap_or_default();
        let urls: Vec<&str> = nats_url.split(',').collect();
        let nats = async_nats::ConnectOptions::new().connect(urls).await;
        let js = jetstream::new(nats.map_err(Trouble::at("NATS"))?);
        let database = PgPoolOptions::new()
            .acquire_timeout(Duration::from_secs(5))
            .connect(&fleet.servers.postgres.url("weir"))
            .await
            .map_err(Trouble::at("Postgres"))?;
        let proxy = async |port| Proxy::start(port).await.map_err(Trouble::at("a proxy"));
        Ok(Self {
            order,
            random: StdRng::seed_from_u64(order.seed),
            nats: proxy(fleet.servers.nats.port()).await?,
            redis: proxy(fleet.servers.redis.port()).await?,
            postgres: proxy(fleet.servers.postgres.port()).await?,
            fleet,
            provider,
            js,
            database,
            ingest: Vec::new(),
            workers: Vec::new(),
            schedulers: Vec::new(),
            client: None,
            token,
            door: watch::Sender::new(String::new()),
            probe: None,
            ended: None,
            at_least_once: false,
            notes: Vec::new(),
            problems: Vec::new(),
        })
    }

    /// One ingest, two workers behind the proxies, one scheduler.
    pub(super) async fn people(&mut self) -> Result<(), Trouble> {
        let ingest = self.member("ingest", &[]).await?;
        self.ingest.push(ingest);
        for _ in 0..2 {
            let worker = self.member("worker", &[]).await?;
            self.workers.push(worker);
        }
        let scheduler = self.member("scheduler", &[]).await?;
        self.schedulers.push(scheduler);
        Ok(())
    }

    /// A member that is ready. Workers find the servers behind the proxies, unless NATS is a cluster.
    pub(super) async fn member(
        &mut self,
        service: &str,
        settings: &[(&str, &str)],
    ) -> Result<Member, Trouble> {
        let member = self.launch(service, settings)?;
        member.ready().await.map_err(Trouble::at(service))?;
        if service == "ingest" {
            self.door.send_replace(member.url.clone());
        }
        Ok(member)
    }

    /// A member that may not be ready yet.
    pub(super) fn launch(&mut self, service: &str, settings: &[(&str, &str)]) -> Result<Member, Trouble> {
        let alone = !self.fleet.settings["WEIR_NATS_URL"].contains(',');
        let mut own = Vec::new();
        if service == "worker" {
            own.push(("WEIR_REDIS_URL", format!("redis://{}", self.redis.address)));
            let postgres = format!("postgres://weir@{}/weir", self.postgres.address);
            own.push(("WEIR_POSTGRES_URL", postgres));
            if alone {
                own.push(("WEIR_NATS_URL", format!("nats://{}", self.nats.address)));
            }
        }
        let own = own.iter().map(|(name, value)| (*name, value.as_str()));
        let all: Vec<(&str, &str)> = own.chain(settings.iter().copied()).collect();
        self.fleet.launch(service, &all).map_err(Trouble::at(service))
    }

    /// Begins to send, all services, each event until it is acknowledged.
    pub(super) fn load(&mut self) {
        let rate = self.order.length.of(45, 90);
        self.load_like(Manner {
            rate,
            mix: ALL,
            again: true,
            copies: 1,
            balanced: false,
        });
    }

    /// Begins to send in this manner.
    pub(super) fn load_like(&mut self, manner: Manner) {
        let doors: Vec<String> = self.ingest.iter().map(|member| member.url.clone()).collect();
        self.load_at(manner, &doors);
    }

    /// Begins to send to these addresses.
    pub(super) fn load_at(&mut self, manner: Manner, doors: &[String]) {
        self.client = Some(Client::start(manner, doors, &self.token, self.order.seed));
    }

    /// The client.
    pub(super) fn client(&self) -> Result<&Client, Trouble> {
        self.client
            .as_ref()
            .ok_or_else(|| Trouble::Failed("no client".to_owned()))
    }

    /// Tells the client where ingest is now.
    pub(super) fn doors(&self) -> Result<(), Trouble> {
        let doors: Vec<String> = self.ingest.iter().map(|member| member.url.clone()).collect();
        self.client()?.doors(&doors);
        Ok(())
    }

    /// Waits until the fleet is at work, and then for a moment that the seed decides.
    pub(super) async fn moment(&mut self) -> Result<(), Trouble> {
        let seen = self.provider.stats().total.calls;
        until("calls", END_WITHIN, async || {
            (self.provider.stats().total.calls > seen).then_some(())
        })
        .await?;
        let count = self.random.random_range(5..self.order.length.of(40, 200));
        self.client()?.more(count).await
    }

    /// The fault lasts for so long, in the short version and the long one. The length is the scenario's, not a wait for
    /// anything.
    pub(super) async fn lasting(&self, short: Duration, long: Duration) {
        tokio::time::sleep(self.order.length.of(short, long)).await;
    }

    /// The fault is over: from now on it counts how long the fleet takes to recover. The last time counts.
    pub(super) fn mended(&mut self) {
        let probe = Probe {
            door: self.door.subscribe(),
            token: self.token.clone(),
            database: self.database.clone(),
        };
        if let Some(former) = self.probe.replace(tokio::spawn(probe.send())) {
            former.abort();
        }
    }

    /// Waits until a member has died of itself.
    pub(super) async fn death(&self, member: &mut Member, of: &str) -> Result<(), Trouble> {
        match member.ended(END_WITHIN).await {
            Ok(None) => Ok(()),
            Ok(Some(code)) => Err(Trouble::Failed(format!(
                "{} ended with code {code} and not at {of}",
                member.name
            ))),
            Err(error) => Err(Trouble::Failed(format!("{of} was not reached: {error}"))),
        }
    }

    /// Sends on for a moment, measures how long an event takes that is sent after the fault, and draws up the account.
    pub(super) async fn close(self) -> Result<Told, Trouble> {
        self.close_adding(Vec::new()).await
    }

    /// The same, with events that the scenario has published itself.
    pub(super) async fn close_adding(mut self, published: Vec<String>) -> Result<Told, Trouble> {
        self.quiet().await?;
        let (mut traffic, recovery) = self.ended.take().unwrap_or_default();
        traffic.acknowledged.extend(published);
        let told = account::draw(&self, &traffic).await?;
        Ok(self.told(told, recovery, &traffic.examples))
    }

    /// Ends the client, once it was seen how long an event takes that is sent after the fault.
    pub(super) async fn quiet(&mut self) -> Result<(), Trouble> {
        if self.ended.is_some() {
            return Ok(());
        }
        let probed = self.probed().await?;
        let mut traffic = Traffic::default();
        if let Some(client) = self.client.take() {
            client.more(10).await?;
            traffic = client.finish().await?;
        }
        let (probe, recovery) = probed.unzip();
        traffic.acknowledged.extend(probe);
        self.ended = Some((traffic, recovery));
        Ok(())
    }

    async fn probed(&mut self) -> Result<Option<Probed>, Trouble> {
        match self.probe.take() {
            Some(probe) => probe.await.map_err(Trouble::at("the probe"))?.map(Some),
            None => Ok(None),
        }
    }

    /// The same without a client, for events that the scenario has published itself.
    pub(super) async fn close_with(
        self,
        published: impl IntoIterator<Item = String>,
        recovery: Option<Duration>,
    ) -> Result<Told, Trouble> {
        let traffic = Traffic {
            acknowledged: published.into_iter().collect(),
            ..Default::default()
        };
        let told = account::draw(&self, &traffic).await?;
        Ok(self.told(told, recovery, &[]))
    }

    fn told(self, mut told: Told, recovery: Option<Duration>, examples: &[String]) -> Told {
        told.recovery = recovery;
        told.notes.extend(self.notes);
        told.problems.extend(self.problems);
        if !told.holds() && !examples.is_empty() {
            told.notes.push(format!("answers to the client: {examples:#?}"));
        }
        told
    }
}
