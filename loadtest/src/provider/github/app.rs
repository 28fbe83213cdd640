//! Tokens of a GitHub App's installation: given to whoever signs, and all of them one credential.

use http::{Method, StatusCode};
use serde_json::json;
use time::format_description::well_known::Rfc3339;

use crate::provider::{
    clock::Moment,
    exchange::{Ask, Reply},
};

/// How tokens of installations begin; then comes the installation.
pub(in crate::provider) const TOKEN: &str = "ghs_";
/// How long a token is good. Source: GitHub, generating an installation access token for a GitHub App.
const LIFE: std::time::Duration = std::time::Duration::from_secs(3600);

/// The installation that a call asks a token for.
pub(super) fn installation(ask: &Ask) -> Option<&str> {
    let rest = ask.path.strip_prefix("/app/installations/")?;
    rest.strip_suffix("/access_tokens")
        .filter(|_| ask.method == Method::POST)
}

/// The token, or a refusal to who has not signed.
pub(super) fn serve(ask: &Ask, installation: &str, now: Moment) -> Reply {
    let signed = ask
        .credential()
        .is_some_and(|token| token.split('.').count() == 3);
    if !signed {
        let body = json!({"message": "A JSON web token could not be decoded", "status": "401"});
        return Reply::json(StatusCode::UNAUTHORIZED, &body).rejected();
    }
    let until = time::OffsetDateTime::from(now.wall + LIFE);
    let until = until
        .replace_nanosecond(0)
        .unwrap_or(until)
        .format(&Rfc3339)
        .unwrap_or_default();
    let token = format!("{TOKEN}{installation}_{}", uuid::Uuid::now_v7().simple());
    Reply::json(StatusCode::CREATED, &json!({"token": token, "expires_at": until}))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]
    use super::*;
    use crate::provider::{clock::Clock, exchange::ask};

    #[test]
    fn tokens_are_given_to_who_signs_and_are_one_credential() {
        let now = Clock::new(0).now();
        let path = "/app/installations/42/access_tokens";
        let asked = |key: &str| {
            let ask = ask(Method::POST, path, &[("authorization", key)], "");
            let reply = serve(&ask, installation(&ask).unwrap(), now);
            (
                reply.status.as_u16(),
                serde_json::from_slice::<serde_json::Value>(&reply.body).unwrap(),
            )
        };
        assert_eq!(asked("Bearer x").0, 401);
        let tokens = [asked("Bearer a.b.c"), asked("Bearer a.b.c")]
            .map(|(_, body)| body["token"].as_str().unwrap().to_owned());
        assert_ne!(tokens[0], tokens[1]);
        let scope = |token: &str| {
            ask(
                Method::GET,
                "/user",
                &[("authorization", &format!("Bearer {token}"))],
                "",
            )
            .scope()
        };
        assert_eq!(scope(&tokens[0]), scope(&tokens[1]));
        assert_ne!(scope(&tokens[0]), scope("ghs_43_x"));
    }
}
