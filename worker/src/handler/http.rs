//! `http`: delivers events to an endpoint of the user, signed by the Standard Webhooks scheme, so that handlers can be
//! written in any language. The event's id is the `webhook-id`: an endpoint that remembers ids sees each event once.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hmac::{Hmac, KeyInit, Mac};
use http::header::CONTENT_TYPE;
use sha2::Sha256;
use shared::config::Reader;
use shared::event::{Data, Event};
use shared::failure::Failure;
use shared::limiter::Charge;
use shared::telemetry::propagation::millis;

use super::{Completion, Handler, Kind, Make, Parts};
use crate::config::ServiceConfig;
use crate::effect::{Effect, Policy};
use crate::limits::Limits;
use crate::outbound::Outbound;
use crate::provider::Provider;
use crate::quota::Turn;

/// `http`, as workers know it. An endpoint knows an event by its id and cannot be asked for it.
pub const KIND: Kind = Kind {
    name: "http",
    url: "",
    types: &[],
    concurrency: 50,
    timeout: Duration::from_secs(30),
    provider: Provider::Other,
    unknown: Policy::Retry,
    charged_apart: &["tokens", "input-tokens", "output-tokens", "complexity"],
    own_endpoint: true,
    caches: false,
    read: Settings::read,
};

/// `_SECRET`: signs deliveries (`whsec_…`).
struct Settings {
    key: Option<Vec<u8>>,
    /// What the setting is called.
    name: String,
}

impl Settings {
    fn read(reader: &mut Reader<'_>, prefix: &str) -> Arc<dyn Make> {
        let name = format!("{prefix}_SECRET");
        let key = reader.secret(&name).map(|secret| key(&secret)).transpose();
        if let Err(what) = &key {
            reader.problem(&name, what);
        }
        Arc::new(Self {
            key: key.unwrap_or_default(),
            name,
        })
    }
}

impl Make for Settings {
    fn make(&self, config: &ServiceConfig, parts: Parts) -> Result<Arc<dyn Handler>, String> {
        if self.key.is_none() {
            let (service, setting) = (&config.service, &self.name);
            tracing::warn!(%service, "{setting} is missing: deliveries are not signed, and anybody could make them");
        }
        Ok(Arc::new(Http {
            key: self.key.clone(),
            provider: config.provider,
            outbound: parts.outbound,
        }))
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Settings")
    }
}

/// Delivers to one endpoint.
struct Http {
    key: Option<Vec<u8>>,
    provider: Provider,
    outbound: Outbound,
}

/// The key in a secret as the Standard Webhooks scheme writes it: base64 after `whsec_`, 24 to 64 bytes.
pub fn key(secret: &str) -> Result<Vec<u8>, &'static str> {
    let encoded = secret.strip_prefix("whsec_").ok_or("must begin with whsec_")?;
    let key = BASE64_STANDARD
        .decode(encoded)
        .map_err(|_| "must hold base64 after whsec_")?;
    if (24..=64).contains(&key.len()) {
        Ok(key)
    } else {
        Err("must hold 24 to 64 bytes after whsec_")
    }
}

/// `v1,<base64>` over `id.timestamp.body`.
pub fn signature(key: &[u8], id: &str, seconds: u64, body: &[u8]) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(format!("{id}.{seconds}.").as_bytes());
    mac.update(body);
    Some(format!(
        "v1,{}",
        BASE64_STANDARD.encode(mac.finalize().into_bytes())
    ))
}

impl Http {
    async fn deliver(&self, event: &Event, turn: &Turn) -> Result<Completion, Failure> {
        let (content_type, body) = body(event)?;
        let id = event.id.as_str();
        let seconds = millis(SystemTime::now()) / 1000;
        let mut request = self
            .outbound
            .client()
            .post(turn.upstream()?.url.clone())
            .header(CONTENT_TYPE, content_type)
            .header("webhook-id", id)
            .header("webhook-timestamp", seconds)
            .header("weir-event-type", ascii(&event.kind));
        if let Some(signature) = self
            .key
            .as_deref()
            .and_then(|key| signature(key, id, seconds, &body))
        {
            request = request.header("webhook-signature", signature);
        }
        let request = request
            .body(body)
            .build()
            .map_err(|e| Failure::permanent("request", e))?;
        let answer = self.outbound.call(request, "delivery").await?;
        let reading = turn.answered(&answer);
        self.provider.failure(&answer, &reading, SystemTime::now())?;
        Ok(Completion::new(format!("http_{}", answer.status.as_u16())))
    }
}

impl Handler for Http {
    /// What is measured in tokens or the like is known only afterwards: an estimate is reserved, and settled by what the
    /// endpoint says that it used.
    fn charges(&self, event: &Event, limits: &Limits) -> Vec<Charge> {
        let size = match &event.data {
            Data::Blob { bytes, .. } | Data::Inline(bytes) => bytes.len(),
            Data::None => 0,
        };
        // Four bytes a token is what OpenAI's documentation says of English text; a tenth more to be on the safe side.
        let text = (size as f64 / 4.0 * 1.1) as u32;
        [
            ("tokens", text),
            ("input-tokens", text),
            ("output-tokens", 256),
            ("complexity", 100),
        ]
        .into_iter()
        .filter_map(|(name, guess)| limits.charge(name, limits.estimate(name, guess)))
        .collect()
    }

    /// An endpoint that remembers ids does it once; whoever does not trust it sets another policy than `retry`.
    fn effect(&self, _: &Event) -> Effect {
        Effect::Once
    }

    fn handle<'a>(&'a self, event: &'a Event, turn: &'a Turn) -> BoxFuture<'a, Result<Completion, Failure>> {
        self.deliver(event, turn).boxed()
    }
}

/// Bytes go out as they came; a structured payload goes out as JSON; none as an empty object.
fn body(event: &Event) -> Result<(String, Bytes), Failure> {
    match &event.data {
        Data::Blob { content_type, bytes } => Ok((content_type.clone(), bytes.clone())),
        Data::None => Ok(("application/json".into(), Bytes::from_static(b"{}"))),
        Data::Inline(_) => {
            let value = event
                .data
                .to_json()
                .map_err(|e| Failure::permanent("data", format!("no JSON: {e}")))?;
            Ok((
                "application/json".into(),
                value.unwrap_or_default().to_string().into(),
            ))
        }
    }
}

/// Header values hold ASCII; everything else in an event's type becomes `?`.
fn ascii(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_as_the_published_vector() {
        let key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = signature(
            &key,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            b"{\"test\": 2432232314}",
        );
        assert_eq!(
            signature.unwrap(),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        for bad in ["", "hunter2", "whsec_", "whsec_!!", "whsec_c2hvcnQ="] {
            assert!(key(bad).is_err(), "{bad:?}");
        }
    }
}
