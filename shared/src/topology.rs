//! Streams and consumers: made at start, compared with what is there, drift told and never repaired by force.
//!
//! A service's stream is a WorkQueue (an acked event is gone, so what is in the stream is what is left to do, and its
//! caps bound the backlog), file-backed, and refuses new events when it is full instead of dropping old ones. Three
//! durable consumers, one a lane. Retries wait in one stream for all services, because a stream that discards new
//! messages cannot hold schedules; each service's stream sources the due ones back. `docs/decisions/` has the reasons.

mod buckets;

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::{self, AckPolicy};
use async_nats::jetstream::context::CreateStreamErrorKind;
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, RetentionPolicy, Source, StorageType, SubjectTransform,
};

use crate::config::fleet::Streams;
use crate::subject::{
    BODIES_CHUNKS, BODIES_META, BODIES_STREAM, CLAIMS_MOVED, CLAIMS_STREAM, DEAD, DEAD_STREAM, EVENTS,
    EXHAUSTED_ADVISORY, EXHAUSTED_CONSUMER, EXHAUSTED_STREAM, Lane, RETRY_DUE, RETRY_SCHEDULED, RETRY_STREAM,
    Service,
};

pub use buckets::{breakers_bucket, cache_bucket, leader_bucket, limits_bucket, warm_bucket};

/// Version of the topology, kept in the streams' metadata under [`SCHEMA_KEY`].
pub const SCHEMA: &str = "1";
/// Metadata key of the topology's version.
pub const SCHEMA_KEY: &str = "weir.schema";
/// Most messages that the workers of a lane may hold unacked together.
pub const MAX_ACK_PENDING: i64 = 20_000;
/// Leadership not renewed for this long is free again.
pub const LEADER_TTL: Duration = Duration::from_secs(10);
/// How long it is remembered that a reference to a body was moved: twice the longest grace that bodies can be given
/// before they are looked at, see [`crate::claim`].
pub const MOVED_MAX_AGE: Duration = Duration::from_secs(86_400);
/// How long advisories wait for the backstop.
const EXHAUSTED_MAX_AGE: Duration = Duration::from_secs(7 * 86_400);

/// Topology could not be made or compared.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct TopologyError {
    what: String,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl TopologyError {
    fn of<E: std::error::Error + Send + Sync + 'static>(what: String) -> impl FnOnce(E) -> Self {
        |source| Self {
            what,
            source: Box::new(source),
        }
    }
}

/// One setting of a stream or consumer that is not as this configuration would make it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// Stream, or stream and consumer.
    pub object: String,
    /// The setting.
    pub setting: &'static str,
    /// What it is.
    pub is: String,
    /// What this configuration says.
    pub should: String,
}

/// Makes what is missing and compares what is there. Safe from any number of processes at once.
///
/// Events' streams come before consumers and after the retry stream they source from, so that a crash in between
/// leaves nothing that a second call would not complete.
pub async fn ensure(
    js: &jetstream::Context,
    services: &[Service],
    streams: &Streams,
) -> Result<Vec<Drift>, TopologyError> {
    let mut drift = Vec::new();
    for config in [
        retry(streams),
        dead(streams),
        exhausted(streams),
        bodies(streams),
        claims(streams),
    ] {
        ensure_stream(js, config, &mut drift).await?;
    }
    for service in services {
        ensure_stream(js, work(service, streams), &mut drift).await?;
        for lane in Lane::ALL {
            ensure_consumer(js, &service.stream(), worker(service, lane, streams), &mut drift).await?;
        }
    }
    let backstop = consumer::pull::Config {
        durable_name: Some(EXHAUSTED_CONSUMER.into()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: streams.ack_wait,
        ..Default::default()
    };
    ensure_consumer(js, EXHAUSTED_STREAM, backstop, &mut drift).await?;
    Ok(drift)
}

fn base(name: String, streams: &Streams) -> Config {
    Config {
        name,
        storage: StorageType::File,
        num_replicas: streams.replicas,
        duplicate_window: streams.dedup_window,
        metadata: HashMap::from([(SCHEMA_KEY.to_owned(), SCHEMA.to_owned())]),
        max_messages: -1,
        max_bytes: -1,
        max_messages_per_subject: -1,
        max_message_size: -1,
        max_consumers: -1,
        ..Default::default()
    }
}

fn work(service: &Service, streams: &Streams) -> Config {
    // `retry.due.github.high.acme` comes home as `events.github.high.acme`.
    let home = |suffix: &str, dest: &str| SubjectTransform {
        source: format!("{RETRY_DUE}.{service}.{suffix}"),
        destination: format!("{EVENTS}.{service}.{dest}"),
    };
    Config {
        subjects: service.subjects(),
        retention: RetentionPolicy::WorkQueue,
        discard: DiscardPolicy::New,
        max_messages: streams.max_messages,
        max_bytes: streams.max_bytes,
        sources: Some(vec![Source {
            name: RETRY_STREAM.into(),
            subject_transforms: vec![
                home("*", "{{wildcard(1)}}"),
                home("*.*", "{{wildcard(1)}}.{{wildcard(2)}}"),
            ],
            ..Default::default()
        }]),
        description: Some(format!("Weir: events of {service}, gone when done")),
        ..base(service.stream(), streams)
    }
}

fn worker(service: &Service, lane: Lane, streams: &Streams) -> consumer::pull::Config {
    consumer::pull::Config {
        durable_name: Some(lane.as_str().into()),
        filter_subjects: service.lane_subjects(lane),
        ack_policy: AckPolicy::Explicit,
        ack_wait: streams.ack_wait,
        max_deliver: streams.max_deliver,
        max_ack_pending: MAX_ACK_PENDING,
        ..Default::default()
    }
}

fn retry(streams: &Streams) -> Config {
    Config {
        subjects: vec![format!("{RETRY_SCHEDULED}.>"), format!("{RETRY_DUE}.>")],
        retention: RetentionPolicy::WorkQueue,
        discard: DiscardPolicy::Old,
        allow_message_schedules: true,
        allow_message_ttl: true,
        description: Some("Weir: retries that wait for their time".into()),
        ..base(RETRY_STREAM.into(), streams)
    }
}

fn dead(streams: &Streams) -> Config {
    Config {
        subjects: vec![format!("{DEAD}.*")],
        retention: RetentionPolicy::Limits,
        max_age: streams.dead_max_age,
        allow_direct: true,
        description: Some("Weir: dead letters, bytes intact".into()),
        ..base(DEAD_STREAM.into(), streams)
    }
}

fn exhausted(streams: &Streams) -> Config {
    Config {
        subjects: vec![EXHAUSTED_ADVISORY.into()],
        retention: RetentionPolicy::WorkQueue,
        max_age: EXHAUSTED_MAX_AGE,
        description: Some("Weir: messages delivered too often".into()),
        ..base(EXHAUSTED_STREAM.into(), streams)
    }
}

/// The bucket of bodies, as the object store lays it out, so that its clients in any language read and write it. Nothing
/// in it grows old by itself: an event may wait for as long as it has to.
fn bodies(streams: &Streams) -> Config {
    Config {
        subjects: vec![format!("{BODIES_CHUNKS}.>"), format!("{BODIES_META}.>")],
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        max_bytes: streams.claims_max_bytes,
        allow_rollup: true,
        allow_direct: true,
        description: Some("Weir: bodies of large events, removed when done".into()),
        ..base(BODIES_STREAM.into(), streams)
    }
}

fn claims(streams: &Streams) -> Config {
    Config {
        subjects: vec![format!("{CLAIMS_MOVED}.>")],
        retention: RetentionPolicy::Limits,
        max_age: MOVED_MAX_AGE,
        max_messages_per_subject: 1,
        description: Some("Weir: references to bodies that were moved lately".into()),
        ..base(CLAIMS_STREAM.into(), streams)
    }
}

async fn ensure_stream(
    js: &jetstream::Context,
    config: Config,
    drift: &mut Vec<Drift>,
) -> Result<(), TopologyError> {
    let name = config.name.clone();
    let stream = js
        .get_or_create_stream(config.clone())
        .await
        .map_err(|error| {
            let full = matches!(error.kind(), CreateStreamErrorKind::JetStream(refused)
                if refused.error_code() == ErrorCode::STORAGE_RESOURCES_EXCEEDED);
            let hint = if full {
                ": the server reserves what every stream may hold, WEIR_STREAM_MAX_BYTES for each service; lower that or give \
                 it more storage"
            } else {
                ""
            };
            TopologyError::of(format!("stream {name}{hint}"))(error)
        })?;
    let is = &stream.cached_info().config;
    let mut compare = |setting, is: String, should: String| {
        if is != should {
            drift.push(Drift {
                object: name.clone(),
                setting,
                is,
                should,
            });
        }
    };
    let sorted = |subjects: &[String]| {
        let mut subjects = subjects.to_vec();
        subjects.sort();
        subjects.join(" ")
    };
    let sources = |config: &Config| {
        let mut lines: Vec<String> = Vec::new();
        for source in config.sources.iter().flatten() {
            for t in &source.subject_transforms {
                lines.push(format!("{} {} to {}", source.name, t.source, t.destination));
            }
        }
        sorted(&lines)
    };
    let schema = |config: &Config| config.metadata.get(SCHEMA_KEY).cloned().unwrap_or_default();
    compare("schema", schema(is), schema(&config));
    compare("subjects", sorted(&is.subjects), sorted(&config.subjects));
    compare("sources", sources(is), sources(&config));
    compare(
        "retention",
        format!("{:?}", is.retention),
        format!("{:?}", config.retention),
    );
    compare(
        "discard",
        format!("{:?}", is.discard),
        format!("{:?}", config.discard),
    );
    compare(
        "storage",
        format!("{:?}", is.storage),
        format!("{:?}", config.storage),
    );
    compare(
        "num_replicas",
        is.num_replicas.to_string(),
        config.num_replicas.to_string(),
    );
    compare(
        "max_messages",
        is.max_messages.to_string(),
        config.max_messages.to_string(),
    );
    compare(
        "max_bytes",
        is.max_bytes.to_string(),
        config.max_bytes.to_string(),
    );
    compare(
        "max_age",
        format!("{:?}", is.max_age),
        format!("{:?}", config.max_age),
    );
    compare(
        "duplicate_window",
        format!("{:?}", is.duplicate_window),
        format!("{:?}", config.duplicate_window),
    );
    compare(
        "allow_message_schedules",
        is.allow_message_schedules.to_string(),
        config.allow_message_schedules.to_string(),
    );
    Ok(())
}

async fn ensure_consumer(
    js: &jetstream::Context,
    stream: &str,
    config: consumer::pull::Config,
    drift: &mut Vec<Drift>,
) -> Result<(), TopologyError> {
    let name = config.durable_name.clone().unwrap_or_default();
    let object = format!("{stream}/{name}");
    let what = || format!("consumer {object}");
    let stream = js.get_stream(stream).await.map_err(TopologyError::of(what()))?;
    let consumer = stream
        .get_or_create_consumer(&name, config.clone())
        .await
        .map_err(TopologyError::of(what()))?;
    let is = &consumer.cached_info().config;
    let mut compare = |setting, is: String, should: String| {
        if is != should {
            drift.push(Drift {
                object: object.clone(),
                setting,
                is,
                should,
            });
        }
    };
    // The server moves a single filter into the other field.
    let filters = |many: &[String], one: &str| {
        let mut all: Vec<&str> = many
            .iter()
            .map(String::as_str)
            .chain([one])
            .filter(|f| !f.is_empty())
            .collect();
        all.sort_unstable();
        all.join(" ")
    };
    compare(
        "filter_subjects",
        filters(&is.filter_subjects, &is.filter_subject),
        filters(&config.filter_subjects, &config.filter_subject),
    );
    compare(
        "ack_wait",
        format!("{:?}", is.ack_wait),
        format!("{:?}", config.ack_wait),
    );
    if config.max_deliver != 0 {
        compare(
            "max_deliver",
            is.max_deliver.to_string(),
            config.max_deliver.to_string(),
        );
        compare(
            "max_ack_pending",
            is.max_ack_pending.to_string(),
            config.max_ack_pending.to_string(),
        );
    }
    Ok(())
}
