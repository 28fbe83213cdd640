//! Each kind with several signatures or secrets: what it believes and what it refuses, line by line.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ed25519_dalek::{Signer, SigningKey};

use super::*;

const NOW: u64 = 1_800_000_000;
const BODY: &str = r#"{"type":"contact.created"}"#;
/// What a secret of Standard Webhooks says in base64, after `whsec_`.
const KEY: &[u8] = b"a key of thirty-two bytes, or so";

fn mac(secret: &[u8], parts: &[&str]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    for part in parts {
        mac.update(part.as_bytes());
    }
    mac.finalize().into_bytes().to_vec()
}

fn whsec(key: &[u8]) -> String {
    format!("whsec_{}", BASE64_STANDARD.encode(key))
}

fn v1(key: &[u8], id: &str, time: &str, body: &str) -> String {
    format!(
        "v1,{}",
        BASE64_STANDARD.encode(mac(key, &[id, ".", time, ".", body]))
    )
}

fn said(scheme: &Scheme, pairs: &[(&str, &str)], body: &str, now: u64) -> Result<(), Code> {
    said_at(scheme, pairs, body, Duration::from_secs(now))
}

fn said_at(scheme: &Scheme, pairs: &[(&str, &str)], body: &str, now: Duration) -> Result<(), Code> {
    let headers = headers(pairs.iter().copied());
    verify(scheme, &headers, Bytes::copy_from_slice(body.as_bytes()), now)
        .map(drop)
        .map_err(|refusal| refusal.code)
}

#[test]
fn stripe() {
    let scheme = |secrets: &[&str]| Scheme::Stripe(Keys::new(secrets));
    let time = NOW.to_string();
    let hex = |secret: &str, time: &str| hex::encode(mac(secret.as_bytes(), &[time, ".", BODY]));
    let (right, old) = (hex("whsec_right", &time), hex("whsec_old", &time));
    let zeros = "0".repeat(64);
    let many = |n: usize| format!("t={time},{}v1={right}", format!("v1={zeros},").repeat(n - 1));
    let (earlier, later) = ((NOW - 301).to_string(), (NOW + 301).to_string());
    for (header, expected) in [
        (format!("t={time},v1={right}"), Ok(())),
        (format!("t={time},v1={right},v0={zeros}"), Ok(())),
        (format!("v0={zeros},v1={right},t={time}"), Ok(())),
        (format!("t={time},v1={zeros},v1={right}"), Ok(())),
        (format!("t={time},v1=zz,junk,v1={right},"), Ok(())),
        (format!("t={time},v1={}", right.to_uppercase()), Ok(())),
        (many(MAX_SIGNATURES), Ok(())),
        (many(MAX_SIGNATURES + 1), Err(Code::SignatureWrong)),
        (format!("t={time},v1={old}"), Err(Code::SignatureWrong)),
        (format!("t={time},v0={right}"), Err(Code::SignatureWrong)),
        (format!("t={time},v1={}", &right[1..]), Err(Code::SignatureWrong)),
        (format!("t={time}, v1={right}"), Err(Code::SignatureWrong)),
        (format!("t={time}"), Err(Code::SignatureWrong)),
        (format!("t={},v1={right}", NOW + 1), Err(Code::SignatureWrong)),
        (
            format!("t={earlier},v1={}", hex("whsec_right", &earlier)),
            Err(Code::TimestampStale),
        ),
        (
            format!("t={later},v1={}", hex("whsec_right", &later)),
            Err(Code::TimestampStale),
        ),
        (
            format!("t=0{time},v1={}", hex("whsec_right", &format!("0{time}"))),
            Err(Code::TimestampInvalid),
        ),
        (
            format!("t={time},t={time},v1={right}"),
            Err(Code::TimestampInvalid),
        ),
        (format!("t=,v1={right}"), Err(Code::TimestampInvalid)),
        (format!("v1={right}"), Err(Code::TimestampInvalid)),
        (String::new(), Err(Code::TimestampInvalid)),
    ] {
        let sent = [("stripe-signature", header.as_str())];
        assert_eq!(
            said(&scheme(&["whsec_right"]), &sent, BODY, NOW),
            expected,
            "{header}"
        );
    }
    let sent = format!("t={time},v1={old}");
    let sent = [("stripe-signature", sent.as_str())];
    assert_eq!(
        said(&scheme(&["whsec_old", "whsec_right"]), &sent, BODY, NOW),
        Ok(())
    );
    assert_eq!(
        said(&scheme(&["whsec_old"]), &sent, "{}", NOW),
        Err(Code::SignatureWrong)
    );
    assert_eq!(
        said(&scheme(&["whsec_old"]), &[], BODY, NOW),
        Err(Code::SignatureMissing)
    );
}

#[test]
fn linear() {
    let scheme = |secrets: &[&str]| Scheme::Linear(Keys::new(secrets));
    let deliver = |body: &str, secret: &str, now: Duration| {
        let signature = hex::encode(mac(secret.as_bytes(), &[body]));
        let sent = [("linear-signature", signature.as_str())];
        said_at(&scheme(&["old", "new"]), &sent, body, now)
    };
    let sent = Duration::from_millis(1_800_000_000_123);
    let body = r#"{"action":"create","type":"Issue","webhookTimestamp":1800000000123}"#;
    let (minute, milli) = (Duration::from_mins(1), Duration::from_millis(1));
    for (now, secret, expected) in [
        (sent, "old", Ok(())),
        (sent, "new", Ok(())),
        (sent, "other", Err(Code::SignatureWrong)),
        (sent + minute, "new", Ok(())),
        (sent.saturating_sub(minute), "new", Ok(())),
        (sent + minute + milli, "new", Err(Code::TimestampStale)),
        (
            sent.saturating_sub(minute + milli),
            "new",
            Err(Code::TimestampStale),
        ),
        (Duration::ZERO, "new", Err(Code::TimestampStale)),
    ] {
        assert_eq!(deliver(body, secret, now), expected, "{now:?} {secret}");
    }
    for body in [
        "{}",
        "",
        "[]",
        "[1800000000123]",
        r#"{"webhookTimestamp":null}"#,
        r#"{"webhookTimestamp":"1800000000123"}"#,
        r#"{"webhookTimestamp":-1}"#,
        r#"{"webhookTimestamp":1800000000123"#,
        r#"{"data":{"webhookTimestamp":1800000000123}}"#,
        r#"{"webhookTimestamp":1800000000123,"webhookTimestamp":1800000000123}"#,
    ] {
        assert_eq!(deliver(body, "new", sent), Err(Code::TimestampInvalid), "{body}");
        // Nothing is said of a body that nobody vouches for.
        assert_eq!(deliver(body, "other", sent), Err(Code::SignatureWrong), "{body}");
    }
    let right = hex::encode(mac(b"new", &[body]));
    for (header, expected) in [
        (right.clone(), Ok(())),
        (format!("sha256={right}"), Err(Code::SignatureWrong)),
        (right[..62].to_owned(), Err(Code::SignatureWrong)),
        (String::new(), Err(Code::SignatureWrong)),
    ] {
        let given = [("linear-signature", header.as_str()), ("linear-timestamp", "1")];
        assert_eq!(
            said_at(&scheme(&["new"]), &given, body, sent),
            expected,
            "{header}"
        );
    }
    assert_eq!(
        said_at(&scheme(&["new"]), &[], body, sent),
        Err(Code::SignatureMissing)
    );
}

#[test]
fn standard_webhooks_and_svix() {
    let secret = whsec(KEY);
    let scheme = |secrets: &[&str]| Scheme::Standard(standard::Secrets::read(secrets).unwrap());
    let time = NOW.to_string();
    let (right, wrong) = (v1(KEY, "msg_1", &time, BODY), v1(b"other", "msg_1", &time, BODY));
    let many = |n: usize| format!("{}{right}", format!("{wrong} ").repeat(n - 1));
    for (header, expected) in [
        (right.clone(), Ok(())),
        (format!("{wrong} {right}"), Ok(())),
        (format!("v9,what v1a,{} junk {right}", &right[3..]), Ok(())),
        (many(MAX_SIGNATURES), Ok(())),
        (many(MAX_SIGNATURES + 1), Err(Code::SignatureWrong)),
        (wrong.clone(), Err(Code::SignatureWrong)),
        (right[3..].to_owned(), Err(Code::SignatureWrong)),
        (format!("v1a,{}", &right[3..]), Err(Code::SignatureWrong)),
        (right.trim_end_matches('=').to_owned(), Err(Code::SignatureWrong)),
        (right.replace(',', "="), Err(Code::SignatureWrong)),
        ("v1,".to_owned(), Err(Code::SignatureWrong)),
        (String::new(), Err(Code::SignatureWrong)),
    ] {
        for names in [
            ["webhook-id", "webhook-timestamp", "webhook-signature"],
            ["svix-id", "svix-timestamp", "svix-signature"],
        ] {
            let sent = [(names[0], "msg_1"), (names[1], &*time), (names[2], &*header)];
            assert_eq!(said(&scheme(&[&secret]), &sent, BODY, NOW), expected, "{header}");
            // Pasted without prefix and padding it is the same secret.
            let bare = secret.trim_start_matches("whsec_").trim_end_matches('=');
            assert_eq!(
                said(&scheme(&[OTHER, bare]), &sent, BODY, NOW),
                expected,
                "{header}"
            );
        }
    }
    let sent = |id: &'static str, time: &'static str, signature: &'static str| [id, time, signature];
    for (names, expected) in [
        (
            sent("svix-id", "webhook-timestamp", "webhook-signature"),
            Code::SignatureWrong,
        ),
        (
            sent("webhook-id", "svix-timestamp", "webhook-signature"),
            Code::TimestampInvalid,
        ),
        (
            sent("webhook-id", "webhook-timestamp", "svix-signature"),
            Code::TimestampInvalid,
        ),
        (
            sent("webhook-id", "webhook-timestamp", "x-signature"),
            Code::SignatureMissing,
        ),
    ] {
        let sent = [(names[0], "msg_1"), (names[1], &*time), (names[2], &*right)];
        assert_eq!(
            said(&scheme(&[&secret]), &sent, BODY, NOW),
            Err(expected),
            "{names:?}"
        );
    }
    let nameless = v1(KEY, "", &time, BODY);
    let sent = [
        ("webhook-id", ""),
        ("webhook-timestamp", &*time),
        ("webhook-signature", &*nameless),
    ];
    assert_eq!(
        said(&scheme(&[&secret]), &sent, BODY, NOW),
        Err(Code::SignatureWrong)
    );
}

#[test]
fn ed25519_of_standard_webhooks() {
    let key = SigningKey::from_bytes(&[7; 32]);
    let public = format!("whpk_{}", BASE64_STANDARD.encode(key.verifying_key().as_bytes()));
    let other = SigningKey::from_bytes(&[8; 32]);
    let other = format!(
        "whpk_{}",
        BASE64_STANDARD.encode(other.verifying_key().as_bytes())
    );
    let scheme = |secrets: &[&str]| Scheme::Standard(standard::Secrets::read(secrets).unwrap());
    let time = NOW.to_string();
    let signature = key.sign(format!("msg_1.{time}.{BODY}").as_bytes()).to_bytes();
    let header = format!("v1a,{}", BASE64_STANDARD.encode(signature));
    let sent = |header: &str, secrets: &[&str], body: &str| {
        let sent = [
            ("webhook-id", "msg_1"),
            ("webhook-timestamp", &*time),
            ("webhook-signature", header),
        ];
        said(&scheme(secrets), &sent, body, NOW)
    };
    let wrong = Err(Code::SignatureWrong);
    assert_eq!(sent(&header, &[&public], BODY), Ok(()));
    assert_eq!(sent(&header, &[&other, OTHER, &public], BODY), Ok(()));
    assert_eq!(
        sent(&format!("v1a,AAAA v1,AAAA {header}"), &[&public], BODY),
        Ok(())
    );
    assert_eq!(sent(&header, &[&other], BODY), wrong);
    assert_eq!(sent(&header, &[OTHER], BODY), wrong);
    assert_eq!(sent(&header, &[&public], "{}"), wrong);
    assert_eq!(sent(&header.replace("v1a", "v1"), &[&public], BODY), wrong);
    assert_eq!(sent(&header[..header.len() - 4], &[&public], BODY), wrong);
    for bit in 0..64 * 8 {
        let mut turned = signature;
        turned[bit / 8] ^= 1 << (bit % 8);
        let header = format!("v1a,{}", BASE64_STANDARD.encode(turned));
        assert_eq!(sent(&header, &[&public], BODY), wrong, "bit {bit}");
    }
}

#[test]
fn gitlab() {
    let signing = whsec(KEY);
    let scheme = |secrets: &[&str]| Scheme::Gitlab(gitlab::Secrets::read(secrets).unwrap());
    let (token, both, signed) = (
        scheme(&["old", "new"]),
        scheme(&["new", &signing]),
        scheme(&[&signing]),
    );
    let time = NOW.to_string();
    let (right, wrong) = (v1(KEY, "1", &time, BODY), v1(b"other", "1", &time, BODY));
    let sent = |token: Option<&'static str>, signature: Option<&str>| {
        let mut sent = vec![
            ("webhook-id", "1".to_owned()),
            ("webhook-timestamp", time.clone()),
        ];
        sent.extend(token.map(|token| ("x-gitlab-token", token.to_owned())));
        sent.extend(signature.map(|signature| ("webhook-signature", signature.to_owned())));
        sent
    };
    let (fits, differs, missing) = (Ok(()), Err(Code::SignatureWrong), Err(Code::SignatureMissing));
    for (name, scheme, given, signature, expected) in [
        ("token", &token, Some("new"), None, fits),
        ("token", &token, Some("old"), None, fits),
        ("token", &token, Some("ne"), None, differs),
        ("token", &token, Some("newer"), None, differs),
        ("token", &token, Some(""), None, differs),
        ("token", &token, None, None, missing),
        ("token", &token, None, Some(&right), missing),
        // Hooks that sign with a token that we do not know may still send the one that we do.
        ("token", &token, Some("new"), Some(&wrong), fits),
        ("signed", &signed, None, Some(&right), fits),
        ("signed", &signed, Some("new"), Some(&right), fits),
        ("signed", &signed, None, Some(&wrong), differs),
        ("signed", &signed, Some("new"), None, missing),
        ("both", &both, Some("new"), None, fits),
        ("both", &both, None, Some(&right), fits),
        ("both", &both, Some("other"), Some(&right), fits),
        ("both", &both, Some("new"), Some(&wrong), differs),
        ("both", &both, None, None, missing),
    ] {
        let sent = sent(given, signature.map(String::as_str));
        let sent: Vec<_> = sent.iter().map(|(name, value)| (*name, &**value)).collect();
        assert_eq!(
            said(scheme, &sent, BODY, NOW),
            expected,
            "{name}: {given:?} {signature:?}"
        );
    }
    // Vouched for in the other way than the source knows: that is said, and nothing of the secrets.
    for (scheme, given, signature, hint) in [
        (&token, None, Some(&right), "has no signing token"),
        (&token, Some("other"), Some(&right), "has no signing token"),
        (&token, Some("other"), None, ""),
        (&signed, Some("new"), None, "has signing tokens (whsec_...) alone"),
        (
            &signed,
            Some("other"),
            None,
            "has signing tokens (whsec_...) alone",
        ),
        (&signed, None, None, ""),
        (&both, Some("other"), Some(&wrong), ""),
        (&both, Some("other"), None, ""),
    ] {
        let sent = sent(given, signature.map(String::as_str));
        let sent = headers(sent.iter().map(|(name, value)| (*name, &**value)));
        let body = Bytes::from_static(BODY.as_bytes());
        let told = verify(scheme, &sent, body, Duration::from_secs(NOW)).unwrap_err();
        assert!(told.detail.contains(hint), "{}", told.detail);
        assert_eq!(
            hint.is_empty(),
            !told.detail.contains("_SECRETS"),
            "{}",
            told.detail
        );
    }
    let sent = sent(None, Some(&right));
    let sent: Vec<_> = sent.iter().map(|(name, value)| (*name, &**value)).collect();
    assert_eq!(said(&both, &sent, BODY, NOW + 300), Ok(()));
    assert_eq!(said(&both, &sent, BODY, NOW + 301), Err(Code::TimestampStale));
    assert_eq!(said(&both, &sent, BODY, NOW - 301), Err(Code::TimestampStale));
    assert_eq!(said(&both, &sent, "{}", NOW), Err(Code::SignatureWrong));
    // Signed under the other names of Standard Webhooks, the id beside them would not be what is signed.
    let renamed = [
        ("svix-id", "1"),
        ("svix-timestamp", &time),
        ("svix-signature", &right),
        ("webhook-id", "2"),
    ];
    assert_eq!(said(&signed, &renamed, BODY, NOW), Err(Code::SignatureMissing));
    let shown = format!("{both:?}");
    assert!(
        !shown.contains("new") && !shown.contains(&signing[6..]),
        "{shown}"
    );
}
