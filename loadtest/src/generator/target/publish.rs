//! Events published with a plain NATS client, as any program would.

use std::time::Duration;

use async_nats::{HeaderMap, jetstream};
use shared::subject::{Lane, Service, headers};

use super::{Target, Template};
use crate::generator::tally::{Outcome, Sent};

/// Publishes to a service's subject and waits for JetStream's acknowledgement.
pub struct Publish {
    js: jetstream::Context,
    subject: String,
    template: Template,
    timeout: Duration,
}

impl Publish {
    /// To the normal lane of `service`, waiting at most `timeout` for each acknowledgement.
    pub fn new(js: jetstream::Context, service: &Service, template: Template, timeout: Duration) -> Self {
        Self {
            js,
            subject: service.subject(Lane::Normal, None),
            template,
            timeout,
        }
    }

    async fn publish(&self, id: &str) -> Result<(), jetstream::context::PublishError> {
        let mut map = HeaderMap::new();
        map.insert(headers::MESSAGE_ID, id);
        let sent = self
            .js
            .publish_with_headers(self.subject.clone(), map, self.template.bytes(id));
        sent.await?.await?;
        Ok(())
    }
}

impl Target for Publish {
    async fn send(&self, number: u64) -> Sent {
        let id = self.template.id(number);
        match tokio::time::timeout(self.timeout, self.publish(&id)).await {
            Ok(Ok(())) => Sent {
                outcome: Outcome::Accepted,
                id: Some(id),
            },
            Ok(Err(_)) => Sent {
                outcome: Outcome::Failed("not acknowledged"),
                id: None,
            },
            Err(_) => Sent {
                outcome: Outcome::Failed("timeout"),
                id: None,
            },
        }
    }
}
