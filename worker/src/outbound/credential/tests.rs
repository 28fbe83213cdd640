use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::sync::Mutex as Sync;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::response::IntoResponse;
use http::{HeaderMap, StatusCode, Uri};
use rsa::RsaPrivateKey;
use rsa::pkcs1::{EncodeRsaPrivateKey, LineEnding};
use rsa::pkcs8::EncodePrivateKey;
use rsa::rand_core::OsRng;
use serde_json::{Value, json};
use shared::config::{Problems, Reader};

use super::super::egress::Egress;
use super::*;

static KEY: LazyLock<RsaPrivateKey> = LazyLock::new(|| RsaPrivateKey::new(&mut OsRng, 2048).unwrap());
/// A key made for this run.
pub(crate) static KEY_PKCS1: LazyLock<String> =
    LazyLock::new(|| KEY.to_pkcs1_pem(LineEnding::LF).unwrap().to_string());
/// The same key.
pub(crate) static KEY_PKCS8: LazyLock<String> =
    LazyLock::new(|| KEY.to_pkcs8_pem(LineEnding::LF).unwrap().to_string());

/// Gives tokens as a function of how many it has given.
async fn giver(
    answer: impl Fn(usize, &Uri, &HeaderMap, &str) -> (u16, Value) + Send + std::marker::Sync + Clone + 'static,
) -> (String, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let app = Router::new().fallback(move |uri: Uri, headers: HeaderMap, body: Bytes| {
        let n = counted.fetch_add(1, Ordering::SeqCst) + 1;
        let (status, body) = answer(n, &uri, &headers, &String::from_utf8_lossy(&body));
        async move {
            // So that others come while one asks.
            tokio::task::yield_now().await;
            (StatusCode::from_u16(status).unwrap(), body.to_string()).into_response()
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (url, asked)
}

fn outbound(url: &str) -> Outbound {
    shared::lifecycle::install_tls();
    Outbound::new(4, false, Egress::new(&[], [url])).unwrap()
}

/// Reads settings of a service `X`.
fn read<T>(pairs: &[(&str, &str)], with: impl FnOnce(&mut Reader<'_>) -> T) -> Result<T, Problems> {
    let named = |(name, value): &(&str, &str)| (format!("X_{name}"), (*value).to_owned());
    let environment: BTreeMap<_, _> = pairs.iter().map(named).collect();
    let mut reader = Reader::new(&environment);
    let value = with(&mut reader);
    reader.finish(&["X_"], value).map(|(value, _)| value)
}

fn an_app() -> Arc<Mint> {
    let pairs = [
        ("APP_ID", "7"),
        ("APP_INSTALLATION", "42"),
        ("APP_KEY", KEY_PKCS1.as_str()),
    ];
    read(&pairs, |reader| app(reader, "X")).unwrap().unwrap().into()
}

fn an_account(token_uri: &str) -> Arc<Mint> {
    let file = json!({
        "type": "service_account", "private_key": KEY_PKCS8.as_str(), "private_key_id": "k1",
        "client_email": "weir@example.iam.gserviceaccount.com", "token_uri": token_uri, "universe_domain": "x",
    });
    let file = file.to_string();
    let pairs = [("ACCOUNT", file.as_str()), ("SUBJECT", "someone@example.com")];
    read(&pairs, |reader| service_account(reader, "X", "scope-a"))
        .unwrap()
        .unwrap()
        .into()
}

fn claims(token: &str) -> Value {
    use base64::Engine;
    let part = token.split('.').nth(1).unwrap();
    let bytes = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(part).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn in_an_hour() -> String {
    let at = time::OffsetDateTime::now_utc() + time::Duration::hours(1);
    at.format(&time::format_description::well_known::Rfc3339).unwrap()
}

#[tokio::test]
async fn many_at_a_time_ask_for_one_token_of_an_app() {
    let seen = Arc::new(Sync::new(Vec::new()));
    let (url, asked) = giver({
        let seen = Arc::clone(&seen);
        move |n, uri, headers, _| {
            let bearer = headers["authorization"].to_str().unwrap().to_owned();
            seen.lock().unwrap().push((uri.path().to_owned(), bearer));
            (
                201,
                json!({"token": format!("ghs_{n}"), "expires_at": in_an_hour()}),
            )
        }
    })
    .await;
    let (credential, outbound) = (Credential::minted(an_app()), outbound(&url));
    let ask = || async { credential.token(&outbound, &url).await.unwrap().unwrap() };
    let tokens = futures_util::future::join_all((0..50).map(|_| ask())).await;
    assert!(tokens.iter().all(|token| &**token == "ghs_1"));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let (path, bearer) = seen.lock().unwrap()[0].clone();
    assert_eq!(path, "/app/installations/42/access_tokens");
    let claims = claims(bearer.strip_prefix("Bearer ").unwrap());
    assert_eq!(claims["iss"], "7");
    let life = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
    assert!(life <= 600, "GitHub takes no more than ten minutes");
    // Refused by the API: another is asked for, once.
    assert!(credential.refused("ghs_1").await && credential.refused("ghs_0").await);
    assert_eq!(&*ask().await, "ghs_2");
    assert_eq!(&*ask().await, "ghs_2");
}

#[tokio::test]
async fn a_service_account_asserts_who_it_is() {
    let seen = Arc::new(Sync::new(String::new()));
    let (url, _) = giver({
        let seen = Arc::clone(&seen);
        move |n, _, _, body| {
            body.clone_into(&mut seen.lock().unwrap());
            let token = format!("ya29.{n}");
            (
                200,
                json!({"access_token": token, "expires_in": 3599, "token_type": "Bearer"}),
            )
        }
    })
    .await;
    let token_uri = format!("{url}/token");
    let (credential, outbound) = (Credential::minted(an_account(&token_uri)), outbound(&url));
    let token = credential
        .token(&outbound, "http://unused.example")
        .await
        .unwrap();
    assert_eq!(token.as_deref(), Some("ya29.1"));
    let body = seen.lock().unwrap().clone();
    let form: BTreeMap<_, _> = url::form_urlencoded::parse(body.as_bytes())
        .into_owned()
        .collect();
    assert_eq!(form["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
    let claims = claims(&form["assertion"]);
    assert_eq!(claims["aud"], token_uri.as_str());
    assert_eq!(
        (&claims["scope"], &claims["sub"]),
        (&json!("scope-a"), &json!("someone@example.com"))
    );
}

#[tokio::test]
async fn a_token_is_not_used_in_its_last_minute() {
    for (seconds, asks) in [(59, 2), (60, 2), (3600, 1), (u64::MAX, 1)] {
        let (url, asked) =
            giver(move |_, _, _, _| (200, json!({"access_token": "t", "expires_in": seconds}))).await;
        let (credential, outbound) = (Credential::minted(an_account(&url)), outbound(&url));
        for _ in 0..2 {
            credential.token(&outbound, &url).await.unwrap();
        }
        assert_eq!(asked.load(Ordering::SeqCst), asks, "{seconds}");
    }
}

#[tokio::test]
async fn givers_that_give_nothing() {
    for (status, body, class) in [
        (401, json!({"message": "bad hunter2"}), "permanent"),
        (404, json!({}), "permanent"),
        (
            400,
            json!({"error": "invalid_grant", "assertion": "hunter2"}),
            "permanent",
        ),
        (429, json!({}), "throttled"),
        (500, json!({}), "transient"),
        (200, json!("hunter2"), "transient"),
        (200, json!({}), "transient"),
        (200, json!({"access_token": "hunter2"}), "transient"),
        (200, json!({"access_token": "", "expires_in": 9}), "transient"),
        (
            200,
            json!({"access_token": "hunter2\r\nx: y", "expires_in": 9}),
            "transient",
        ),
        (
            200,
            json!({"access_token": "hunter2", "expires_at": "soon"}),
            "transient",
        ),
    ] {
        let told = body.clone();
        let (url, asked) = giver(move |_, _, _, _| (status, told.clone())).await;
        let (credential, outbound) = (Credential::minted(an_app()), outbound(&url));
        let ask = || async { credential.token(&outbound, &url).await.unwrap_err() };
        let failures = futures_util::future::join_all((0..20).map(|_| ask())).await;
        for failure in failures {
            assert_eq!(failure.class(), class, "{status} {body}");
            assert!(!failure.to_string().contains("hunter2"), "{failure}");
            assert!(!matches!(failure, Failure::Transient { unknown: true, .. }));
        }
        assert_eq!(
            asked.load(Ordering::SeqCst),
            1,
            "twenty that fail together ask once"
        );
    }
}

#[test]
fn every_wrong_setting_is_named_and_no_secret_shown() {
    let key = ("APP_KEY", KEY_PKCS1.as_str());
    for (pairs, says) in [
        (
            vec![("APP_ID", "7")],
            vec!["X_APP_INSTALLATION is missing", "X_APP_KEY is missing"],
        ),
        (
            vec![key],
            vec!["X_APP_ID is missing", "X_APP_INSTALLATION is missing"],
        ),
        (
            vec![("APP_ID", "7"), ("APP_INSTALLATION", "x/../y"), key],
            vec!["X_APP_INSTALLATION is no number"],
        ),
        (
            vec![("APP_ID", "7"), ("APP_INSTALLATION", "1"), ("APP_KEY", "hunter2")],
            vec!["X_APP_KEY is no private key in PEM"],
        ),
    ] {
        let Problems(lines) = read(&pairs, |reader| app(reader, "X")).unwrap_err();
        assert_eq!(lines.len(), says.len(), "{lines:?}");
        for said in says {
            assert!(
                lines.iter().any(|line| line.starts_with(said)),
                "{said}: {lines:?}"
            );
        }
        assert!(!lines.concat().contains("hunter2"));
    }
    let with = |change: &dyn Fn(&mut Value)| {
        let mut file = json!({"type": "service_account", "private_key": KEY_PKCS8.as_str(),
            "client_email": "a@b", "token_uri": "https://oauth2.example/token"});
        change(&mut file);
        let file = file.to_string();
        read(&[("ACCOUNT", &file)], |reader| service_account(reader, "X", "s"))
    };
    assert!(with(&|_| ()).unwrap().is_some());
    for change in [
        &(|file: &mut Value| file["type"] = "authorized_user".into()) as &dyn Fn(&mut Value),
        &|file| file["private_key"] = "hunter2".into(),
        &|file| file["token_uri"] = "hunter2".into(),
        &|file| file["client_email"] = Value::Null,
        &|file| *file = "hunter2".into(),
    ] {
        let Problems(lines) = with(change).unwrap_err();
        assert!(
            lines.len() == 1 && lines[0].starts_with("X_ACCOUNT is no"),
            "{lines:?}"
        );
        assert!(!lines.concat().contains("hunter2"));
    }
}

#[test]
fn nothing_shows_a_secret_and_the_identity_stays() {
    let fixed = Credential::fixed(Some("hunter2".into()));
    let minted = Credential::minted(an_app());
    let shown = format!("{fixed:?} {minted:?} {:?}", an_account("https://t.example"));
    assert!(
        !shown.contains("hunter2") && !shown.contains("PRIVATE"),
        "{shown}"
    );
    assert_eq!(an_app().identity(), "app:7:42");
    assert_ne!(an_app().identity(), an_account("https://t.example").identity());
    assert_eq!(minted.lasting().map(str::len), Some(64));
}
