//! The makers' own libraries believe what is signed as ours expect it, and refuse what we refuse; we believe what they
//! sign. In Python standardwebhooks, slack_sdk and stripe, in Rust standardwebhooks.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests panic on failure")]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue};
use ingest::verify::{Keys, MAX_SIGNATURES, Scheme, standard, verify};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER_WHSEC: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
const OTHER: &str = "another secret";
const BODY: &str = r#"{"type":"contact.created","text":"Grüße"}"#;

#[derive(Serialize)]
struct Case {
    maker: &'static str,
    what: &'static str,
    secret: &'static str,
    headers: BTreeMap<&'static str, String>,
    body: String,
    #[serde(skip)]
    accepted: bool,
    /// We are stricter than the library, for a reason.
    #[serde(skip)]
    stricter: bool,
}

#[derive(Deserialize)]
struct Verdict {
    accepted: bool,
    why: String,
    signed: BTreeMap<String, String>,
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

fn mac(key: &[u8], parts: &[&str]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    for part in parts {
        mac.update(part.as_bytes());
    }
    mac.finalize().into_bytes().to_vec()
}

fn scheme(maker: &str, secret: &str) -> Scheme {
    match maker {
        "standard" => Scheme::Standard(standard::Secrets::read(&[secret]).unwrap()),
        "slack" => Scheme::Slack(Keys::new(&[secret])),
        _ => Scheme::Stripe(Keys::new(&[secret])),
    }
}

fn ours(maker: &str, secret: &str, headers: &HeaderMap, body: Vec<u8>) -> bool {
    verify(&scheme(maker, secret), headers, Bytes::from(body), now()).is_ok()
}

fn headers<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> HeaderMap {
    pairs
        .map(|(name, value)| {
            (
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            )
        })
        .collect()
}

/// The headers of a delivery of a maker, signed at `time`.
fn signed(maker: &str, secret: &str, time: &str, body: &str) -> BTreeMap<&'static str, String> {
    match maker {
        "standard" => {
            let key = BASE64_STANDARD
                .decode(secret.trim_start_matches("whsec_"))
                .unwrap();
            let mac = BASE64_STANDARD.encode(mac(&key, &["msg_1", ".", time, ".", body]));
            BTreeMap::from([
                ("webhook-id", "msg_1".to_owned()),
                ("webhook-timestamp", time.to_owned()),
                ("webhook-signature", format!("v1,{mac}")),
            ])
        }
        "slack" => {
            let mac = hex::encode(mac(secret.as_bytes(), &["v0:", time, ":", body]));
            BTreeMap::from([
                ("x-slack-request-timestamp", time.to_owned()),
                ("x-slack-signature", format!("v0={mac}")),
            ])
        }
        _ => {
            let mac = hex::encode(mac(secret.as_bytes(), &[time, ".", body]));
            BTreeMap::from([("stripe-signature", format!("t={time},v1={mac}"))])
        }
    }
}

/// Seconds well away from the edges of the windows, which are five minutes wide: the libraries look at the clock of the machine, which goes on meanwhile.
const WELL_WITHIN: u64 = 240;
const WELL_OUTSIDE: u64 = 360;

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let seconds = now().as_secs();
    for (maker, secret, other, signature) in [
        ("standard", WHSEC, OTHER_WHSEC, "webhook-signature"),
        ("slack", SECRET, OTHER, "x-slack-signature"),
        ("stripe", SECRET, OTHER, "stripe-signature"),
    ] {
        let mut case = |what, headers, body: &str, accepted, stricter| {
            cases.push(Case {
                maker,
                what,
                secret,
                headers,
                body: BASE64_STANDARD.encode(body),
                accepted,
                stricter,
            });
        };
        let at = |time: u64, secret: &str| signed(maker, secret, &time.to_string(), BODY);
        let with = |name: &'static str, value: String| {
            let mut headers = at(seconds, secret);
            headers.insert(name, value);
            headers
        };
        case("right", at(seconds, secret), BODY, true, false);
        case(
            "empty body",
            signed(maker, secret, &seconds.to_string(), ""),
            "",
            true,
            false,
        );
        case(
            "a while ago",
            at(seconds - WELL_WITHIN, secret),
            BODY,
            true,
            false,
        );
        case(
            "a clock ahead",
            at(seconds + WELL_WITHIN, secret),
            BODY,
            true,
            false,
        );
        case("replayed", at(seconds - WELL_OUTSIDE, secret), BODY, false, false);
        // Stripe's library takes any time to come: what was signed then could be replayed until then.
        let far = at(seconds + WELL_OUTSIDE, secret);
        case("far ahead", far, BODY, false, maker == "stripe");
        case("wrong secret", at(seconds, other), BODY, false, false);
        case("another body", at(seconds, secret), "{}", false, false);
        case(
            "body with a line more",
            at(seconds, secret),
            &format!("{BODY}\n"),
            false,
            false,
        );
        case("no signature", BTreeMap::new(), BODY, false, false);
        case(
            "empty signature",
            with(signature, String::new()),
            BODY,
            false,
            false,
        );
        case(
            "malformed signature",
            with(signature, "what is this".into()),
            BODY,
            false,
            false,
        );
        let right = at(seconds, secret)[signature].clone();
        let cut = right[..right.len() - 4].to_owned();
        case("cut signature", with(signature, cut), BODY, false, false);
        for time in ["", "yesterday", "-1", "99999999999999999999"] {
            let headers = signed(maker, secret, time, BODY);
            let future = maker == "stripe" && time.starts_with("999");
            case("a time that is none", headers, BODY, false, future);
        }
        // One time has one spelling here.
        let padded = signed(maker, secret, &format!("0{seconds}"), BODY);
        case("zeros before the time", padded, BODY, false, maker == "slack");
        if maker == "slack" {
            continue;
        }
        let (wrong, between) = (
            at(seconds, other)[signature].clone(),
            if maker == "stripe" { "," } else { " " },
        );
        let only = |header: &str| header.split(",v1=").last().unwrap().to_owned();
        let joined = |wrongs: usize| {
            if maker == "stripe" {
                let wrongs = format!(",v1={}", only(&wrong)).repeat(wrongs);
                format!("t={seconds}{wrongs},v1={}", only(&right))
            } else {
                format!("{}{right}", format!("{wrong}{between}").repeat(wrongs))
            }
        };
        case("two signatures", with(signature, joined(1)), BODY, true, false);
        case(
            "as many as may be",
            with(signature, joined(MAX_SIGNATURES - 1)),
            BODY,
            true,
            false,
        );
        // They have no bound.
        case(
            "too many",
            with(signature, joined(MAX_SIGNATURES)),
            BODY,
            false,
            true,
        );
        let version = if maker == "stripe" {
            ("v1=", "v0=")
        } else {
            ("v1,", "v2,")
        };
        let unknown = right.replace(version.0, version.1);
        case(
            "another version",
            with(signature, unknown.clone()),
            BODY,
            false,
            false,
        );
        let beside = format!(
            "{unknown}{between}{}",
            right.trim_start_matches(&*format!("t={seconds},"))
        );
        case(
            "another version beside",
            with(signature, beside),
            BODY,
            true,
            false,
        );
    }
    cases
}

#[test]
fn python_agrees() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let packages = root.join(".tools/webhooks");
    for package in ["standardwebhooks", "slack_sdk", "stripe"] {
        assert!(
            packages.join(package).is_dir(),
            "the Python package {package} is missing in {}: run `make setup`",
            packages.display()
        );
    }
    let cases = cases();
    let mut judge = Command::new("python3")
        .arg("-B")
        .arg(root.join("ingest/tests/makers/judge.py"))
        .env("PYTHONPATH", &packages)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 runs (if it is not installed: Weir's set-up needs Python 3)");
    let asked = serde_json::to_vec(&cases).unwrap();
    judge.stdin.take().unwrap().write_all(&asked).unwrap();
    let said = judge.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "{errors}");
    let verdicts: Vec<Verdict> = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(verdicts.len(), cases.len());
    for (case, verdict) in cases.iter().zip(verdicts) {
        let told = format!(
            "{} {}: {:?} ({})",
            case.maker, case.what, case.headers, verdict.why
        );
        let body = BASE64_STANDARD.decode(&case.body).unwrap();
        let given = headers(case.headers.iter().map(|(name, value)| (*name, &**value)));
        let believed = ours(case.maker, case.secret, &given, body.clone());
        assert_eq!(believed, case.accepted, "{told}");
        assert_eq!(verdict.accepted, believed || case.stricter, "{told}");
        let theirs = headers(verdict.signed.iter().map(|(name, value)| (&**name, &**value)));
        assert!(ours(case.maker, case.secret, &theirs, body), "{told}");
    }
}

#[test]
fn rust_agrees() {
    for case in cases().into_iter().filter(|case| case.maker == "standard") {
        let body = BASE64_STANDARD.decode(&case.body).unwrap();
        let given = headers(case.headers.iter().map(|(name, value)| (*name, &**value)));
        let library = standardwebhooks::Webhook::new(case.secret).unwrap();
        let verdict = library.verify(&body, &given);
        let told = format!("{}: {:?} {verdict:?}", case.what, case.headers);
        assert_eq!(
            ours("standard", case.secret, &given, body.clone()),
            case.accepted,
            "{told}"
        );
        assert_eq!(verdict.is_ok(), case.accepted || case.stricter, "{told}");
        let time = now().as_secs();
        let signature = library.sign("msg_2", time as i64, &body).unwrap();
        let time = time.to_string();
        let theirs = [
            ("webhook-id", "msg_2"),
            ("webhook-timestamp", &*time),
            ("webhook-signature", &*signature),
        ];
        assert!(
            ours("standard", case.secret, &headers(theirs.into_iter()), body),
            "{told}"
        );
    }
}
