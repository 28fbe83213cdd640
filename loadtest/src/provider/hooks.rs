//! A plain endpoint that checks Standard Webhooks signatures, as a receiver of events would.

use std::time::{Duration, SystemTime};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use http::StatusCode;
use serde_json::json;
use sha2::Sha256;

use super::{
    clock::Moment,
    exchange::{Ask, Reply},
    limits::{Admission, Demand, Shape},
    window::Window,
};

/// How far a signed time may be from ours, from the Standard Webhooks text.
const TOLERANCE: Duration = Duration::from_mins(5);

/// What the sink checks and allows.
#[derive(Clone, Default)]
pub struct HookRules {
    secret: Option<Vec<u8>>,
    /// Deliveries allowed to one path; `None` allows any number.
    pub limit: Option<Window>,
    /// How they are counted.
    pub shape: Shape,
}

/// The secret is not `whsec_` and base64 of some bytes.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the hook secret must be base64, optionally behind whsec_")]
pub struct BadSecret;

impl HookRules {
    /// Rules with a `whsec_` secret to check signatures against, none to accept everything. The limit is a sliding one.
    pub fn new(secret: Option<&str>, limit: Option<Window>) -> Result<Self, BadSecret> {
        let decode = |text: &str| {
            let key = STANDARD.decode(text.strip_prefix("whsec_").unwrap_or(text));
            key.ok().filter(|key| !key.is_empty()).ok_or(BadSecret)
        };
        Ok(Self {
            secret: secret.map(decode).transpose()?,
            limit,
            shape: Shape::Sliding,
        })
    }
}

impl std::fmt::Debug for HookRules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let signed = self.secret.is_some();
        f.debug_struct("HookRules")
            .field("signed", &signed)
            .field("limit", &self.limit)
            .field("shape", &self.shape)
            .finish()
    }
}

/// The answer to a delivery whose signature is wrong, `None` when it is right or not asked for.
pub fn refuse_wrong(rules: &HookRules, ask: &Ask, now: Moment) -> Option<Reply> {
    let secret = rules.secret.as_ref()?;
    let why = check(secret, ask, now.wall).err()?;
    Some(Reply::json(StatusCode::BAD_REQUEST, &json!({"error": why})).rejected())
}

/// The limits a delivery has to pass: one for each path.
pub fn demands(rules: &HookRules, ask: &Ask) -> Vec<Demand> {
    let scope = super::ledger::fingerprint(&ask.path);
    let demand = |window| Demand::new("hooks", scope, window, rules.shape);
    rules.limit.map(demand).into_iter().collect()
}

/// The answer to a delivery that was taken.
pub fn serve() -> Reply {
    Reply::empty(StatusCode::NO_CONTENT)
}

/// The answer to a delivery over the limit.
pub fn refuse(admission: &Admission, now: Moment) -> Reply {
    let wait = admission
        .standings
        .first()
        .map_or(1, |standing| now.seconds_until(standing.room_at));
    let body = json!({"error": "too many deliveries"});
    Reply::json(StatusCode::TOO_MANY_REQUESTS, &body)
        .with("retry-after", wait)
        .rejected()
}

fn check(secret: &[u8], ask: &Ask, wall: SystemTime) -> Result<(), &'static str> {
    let id = ask.header("webhook-id").ok_or("webhook-id is missing")?;
    let timestamp = ask
        .header("webhook-timestamp")
        .ok_or("webhook-timestamp is missing")?;
    let signatures = ask
        .header("webhook-signature")
        .ok_or("webhook-signature is missing")?;
    let at: u64 = timestamp
        .parse()
        .map_err(|_| "webhook-timestamp is no whole number")?;
    let now = wall
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    if now.abs_diff(at) > TOLERANCE.as_secs() {
        return Err("webhook-timestamp is too far from the time here");
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).map_err(|_| "the secret is no key")?;
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(&ask.body);
    let matches = |signature: &str| {
        let given = signature
            .strip_prefix("v1,")
            .and_then(|text| STANDARD.decode(text).ok());
        given.is_some_and(|given| mac.clone().verify_slice(&given).is_ok())
    };
    let matched = signatures.split(' ').any(matches);
    if matched {
        Ok(())
    } else {
        Err("webhook-signature does not match")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]
    use http::Method;

    use super::super::exchange::ask;
    use super::*;

    // The vector of the Standard Webhooks reference libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIMESTAMP: &str = "1614265330";
    const BODY: &str = r#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn delivery(signature: &str, body: &str) -> Ask {
        let headers = [
            ("webhook-id", ID),
            ("webhook-timestamp", TIMESTAMP),
            ("webhook-signature", signature),
        ];
        ask(Method::POST, "/hooks/a", &headers, body)
    }

    fn at(seconds: u64) -> Moment {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        Moment {
            since_start: Duration::ZERO,
            wall,
        }
    }

    #[test]
    fn checks_the_published_vector() {
        let rules = HookRules::new(Some(SECRET), None).unwrap();
        let verdict = |ask: &Ask, now| refuse_wrong(&rules, ask, now).map(|reply| reply.status);
        let bad = Some(StatusCode::BAD_REQUEST);
        assert_eq!(verdict(&delivery(SIGNATURE, BODY), at(1_614_265_330)), None);
        let several = format!("v1,AAAA v2,x {SIGNATURE}");
        assert_eq!(verdict(&delivery(&several, BODY), at(1_614_265_330)), None);
        assert_eq!(verdict(&delivery(SIGNATURE, "{}"), at(1_614_265_330)), bad);
        assert_eq!(verdict(&delivery(SIGNATURE, BODY), at(1_614_265_330 + 301)), bad);
        assert_eq!(verdict(&ask(Method::POST, "/hooks/a", &[], BODY), at(0)), bad);
    }

    #[test]
    fn without_a_secret_everything_is_taken_and_bad_secrets_are_told() {
        let open = HookRules::default();
        assert!(refuse_wrong(&open, &delivery("nonsense", ""), at(0)).is_none());
        assert_eq!(HookRules::new(Some("whsec_***"), None).unwrap_err(), BadSecret);
    }
}
