//! `http`: delivers events to an endpoint of the user, signed by the Standard Webhooks scheme, so that handlers can be
//! written in any language. The event's id is the `webhook-id`: an endpoint that remembers ids sees each event once.

use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hmac::{Hmac, KeyInit, Mac};
use http::header::CONTENT_TYPE;
use reqwest::Url;
use sha2::Sha256;
use shared::event::{Data, Event};
use shared::failure::Failure;
use shared::telemetry::propagation::millis;

use super::{Completion, Handler};
use crate::config::ServiceConfig;
use crate::outbound::{Outbound, classify};

/// Delivers to one endpoint.
#[derive(Debug)]
pub struct Http {
    url: Url,
    key: Option<Vec<u8>>,
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
    /// An endpoint from the service's `_URL` and `_SECRET`.
    pub fn new(config: &ServiceConfig, outbound: Outbound) -> Result<Self, String> {
        let url = Url::parse(&config.url).map_err(|e| format!("the URL {:?} is none: {e}", config.url))?;
        let key = config.secret.as_deref().map(key).transpose()?;
        Ok(Self { url, key, outbound })
    }

    async fn deliver(&self, event: &Event) -> Result<Completion, Failure> {
        let (content_type, body) = body(event)?;
        let id = event.id.as_str();
        let seconds = millis(SystemTime::now()) / 1000;
        let mut request = self
            .outbound
            .client()
            .post(self.url.clone())
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
        classify::by_status(&answer, SystemTime::now())?;
        Ok(Completion::new(format!("http_{}", answer.status.as_u16())))
    }
}

impl Handler for Http {
    fn handle<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<Completion, Failure>> {
        self.deliver(event).boxed()
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
