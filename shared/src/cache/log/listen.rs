//! Hears the log: all that it holds, then what is new, and every half second that there was nothing more.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, push};
use async_nats::{StatusCode, header};
use futures_util::StreamExt;
use tokio::time::{sleep, timeout};

use super::Log;
use crate::cache::metrics::CacheMetrics;
use crate::config::fleet::Streams;
use crate::topology;

/// How often the server says that there is nothing new.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// After so long without a word the consumer is made anew.
const SILENCE: Duration = Duration::from_millis(1_600);
/// Longest that one step towards a consumer may take.
const STEP: Duration = Duration::from_secs(2);
/// Pause before it is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// Listens for ever.
pub(in crate::cache) async fn listen(
    log: Arc<Log>,
    client: async_nats::Client,
    js: jetstream::Context,
    streams: Streams,
    metrics: CacheMetrics,
) {
    let mut told = false;
    loop {
        let why = hear(&log, &client, &js, &streams, || {
            if std::mem::take(&mut told) {
                tracing::info!("invalidations of the cache are heard again");
            }
        })
        .await;
        metrics.log_interrupted();
        if !std::mem::replace(&mut told, true) {
            tracing::warn!(
                why,
                "invalidations of the cache are not heard: soon all is a miss"
            );
        }
        sleep(AGAIN).await;
    }
}

/// Listens until something is wrong, and says what.
async fn hear(
    log: &Log,
    client: &async_nats::Client,
    js: &jetstream::Context,
    streams: &Streams,
    mut in_step: impl FnMut(),
) -> String {
    let attached = timeout(STEP * 3, attach(log, client, js, streams)).await;
    let (mut news, pending) = match attached {
        Ok(Ok(attached)) => attached,
        Ok(Err(why)) => return why,
        Err(_) => return "NATS does not answer".into(),
    };
    let mut in_step = || {
        log.in_step();
        in_step();
    };
    if pending == 0 {
        in_step();
    }
    let mut got = 0;
    loop {
        let message = match timeout(SILENCE, news.next()).await {
            Ok(Some(message)) => message,
            Ok(None) => return "the subscription has ended".into(),
            Err(_) => return "nothing is heard".into(),
        };
        match message.status {
            Some(StatusCode::IDLE_HEARTBEAT) => {
                let headers = message.headers.as_ref();
                let last = headers.and_then(|headers| {
                    headers
                        .get_last(header::NATS_LAST_CONSUMER)?
                        .as_str()
                        .parse()
                        .ok()
                });
                if last != Some(got) {
                    return "something was missed".into();
                }
                in_step();
            }
            Some(status) => return format!("the server says {status}"),
            None => {
                let message = jetstream::Message {
                    message,
                    context: js.clone(),
                };
                let Ok(info) = message.info() else {
                    // Anybody can publish to the inbox; it says nothing of the log.
                    continue;
                };
                got += 1;
                if info.consumer_sequence != got {
                    return "something was missed".into();
                }
                log.take(info.stream_sequence, &message.payload);
                if info.pending == 0 {
                    in_step();
                }
            }
        }
    }
}

/// What is new, and how much of it there is already.
async fn attach(
    log: &Log,
    client: &async_nats::Client,
    js: &jetstream::Context,
    streams: &Streams,
) -> Result<(async_nats::Subscriber, u64), String> {
    let bucket = topology::cache_bucket(js, streams)
        .await
        .map_err(|error| error.to_string())?;
    let mut stream = bucket.stream;
    let info = stream.info().await.map_err(|error| error.to_string())?;
    let epoch = info.created.unix_timestamp_nanos() as u64;
    let from = log.attach(epoch.max(1), info.state.last_sequence);
    let inbox = client.new_inbox();
    let news = client
        .subscribe(inbox.clone())
        .await
        .map_err(|error| error.to_string())?;
    let consumer = stream
        .create_consumer(push::Config {
            deliver_subject: inbox,
            description: Some("Weir: a process with a cache".into()),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from },
            ack_policy: AckPolicy::None,
            idle_heartbeat: HEARTBEAT,
            inactive_threshold: Duration::from_secs(10),
            memory_storage: true,
            num_replicas: 1,
            ..Default::default()
        })
        .await
        .map_err(|error| error.to_string())?;
    Ok((news, consumer.cached_info().num_pending))
}
