//! Slack's deliveries in all their forms.

use serde_json::Value;
use shared::event::Tenant;

use super::kinds::{fixtures, whose};
use super::*;

const JSON: &str = "application/json";

#[test]
fn every_slack_fixture_is_read() {
    let fixtures = fixtures("slack");
    assert!(fixtures.len() >= 20);
    for (name, body) in fixtures {
        let json: Value = serde_json::from_slice(&body).unwrap();
        let interaction = !name.starts_with("event_callback") && !name.starts_with("url_");
        let accepted = if interaction {
            let payload = std::str::from_utf8(&body).unwrap();
            let mut form = form_urlencoded::Serializer::new(String::new());
            let form = form.append_pair("payload", payload).finish();
            deliver(&slack(), headers(&[("content-type", FORM)]), form.as_bytes())
        } else {
            deliver(&slack(), headers(&[("content-type", JSON)]), &body)
        };
        if name.starts_with("url_") {
            assert!(matches!(accepted, Ok(Accepted::Answer(_))), "{name}");
            continue;
        }
        let got = event(accepted);
        let what = json["event"]["type"].as_str().or(json["type"].as_str());
        assert_eq!(Some(got.kind.as_str()), what, "{name}");
        let id = json["event_id"].as_str().or(json["trigger_id"].as_str());
        assert!(
            id.is_none_or(|id| got.id.as_str() == format!("slack:{id}")),
            "{name}"
        );
        let (tenant, key) = whose(&got);
        let team = json["team_id"].as_str().or(json["team"]["id"].as_str());
        let team = team.or(json["enterprise_id"].as_str());
        assert_eq!(tenant, team, "{name}");
        let channel = &json["event"]["channel"];
        let channel = channel.as_str().or(json["event"]["item"]["channel"].as_str());
        let channel = channel.or(json["channel"]["id"].as_str());
        let expected = channel.map_or(team.map(str::to_owned), |c| {
            Some(format!("{}/{c}", team.unwrap()))
        });
        assert_eq!(key.map(str::to_owned), expected, "{name}");
    }
}

#[test]
fn slack_in_all_its_forms() {
    let json = |body: &str| {
        deliver(
            &slack(),
            headers(&[("content-type", "application/json")]),
            body.as_bytes(),
        )
    };
    let form = |body: &str| deliver(&slack(), headers(&[("content-type", FORM)]), body.as_bytes());

    let got = event(json(include_str!(
        "../../../tests/fixtures/slack/event_callback.app_mention.1.json"
    )));
    assert_eq!(
        (got.id.as_str(), got.kind.as_str()),
        ("slack:Ev111", "app_mention")
    );
    assert_eq!(whose(&got), (Some("T111"), Some("T111/C111")));
    assert_eq!(got.time_ms, Some(1_595_926_230_000));

    match json(include_str!(
        "../../../tests/fixtures/slack/url_verification.1.json"
    ))
    .unwrap()
    {
        Accepted::Answer(answer) => {
            assert_eq!(
                answer,
                r#"{"challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"}"#
            );
        }
        Accepted::Event(event) => panic!("{event:?}"),
    }

    let limited =
        r#"{"type":"app_rate_limited","team_id":"T1","minute_rate_limited":1518467820,"api_app_id":"A1"}"#;
    let got = event(json(limited));
    assert_eq!(
        got.id.as_str(),
        format!("slack:{}", hex::encode(Sha256::digest(limited)))
    );
    assert_eq!(got.kind, "app_rate_limited");

    let payload = |text: &str| {
        form_urlencoded::Serializer::new(String::new())
            .append_pair("payload", text)
            .finish()
    };
    let got = event(form(&payload(include_str!(
        "../../../tests/fixtures/slack/shortcut.1.json"
    ))));
    assert_eq!(
        (got.id.as_str(), got.kind.as_str()),
        ("slack:111.222.xxx", "shortcut")
    );
    assert_eq!(got.tenant, Some(Tenant::new("T111").unwrap()));
    let got = event(form(&payload(include_str!(
        "../../../tests/fixtures/slack/dialog_submission.1.json"
    ))));
    assert_eq!(
        (got.id.as_str().len(), got.kind.as_str()),
        ("slack:".len() + 64, "dialog_submission")
    );

    let command =
        "token=x&team_id=T1DC2JH3J&command=%2Fdeploy&text=&trigger_id=398738663015.47445629121.803a";
    let got = event(form(command));
    assert_eq!(
        (got.id.as_str(), got.kind.as_str()),
        ("slack:398738663015.47445629121.803a", "slash_command")
    );
    assert_eq!(got.tenant, Some(Tenant::new("T1DC2JH3J").unwrap()));
    assert_eq!(
        got.data,
        Data::Blob {
            content_type: FORM.into(),
            bytes: command.into()
        }
    );

    let org_wide = r#"{"type":"event_callback","team_id":null,"event_id":"Ev1","event":{"type":"x","channel":{"id":"C"}}}"#;
    assert_eq!(event(json(org_wide)).tenant, None);

    let sent = "token=x&team_id=T1&enterprise_id=E1&channel_id=C7&command=%2Fdeploy&text=a+b";
    let got = event(form(sent));
    assert_eq!(whose(&got), (Some("T1"), Some("T1/C7")));
    assert_eq!(got.id.as_str(), format!("slack:{}", digest_id(sent.as_bytes())));

    let bare = event(form(
        "command=%2Fx&team_id=&enterprise_id=&channel_id=&trigger_id=",
    ));
    assert_eq!(whose(&bare), (None, None));

    let clicked =
        r#"{"type":"block_actions","trigger_id":"1.2","team":{"id":"T1"},"container":{"channel_id":"C8"}}"#;
    assert_eq!(
        whose(&event(form(&payload(clicked)))),
        (Some("T1"), Some("T1/C8"))
    );

    // Asked to show its certificate, and nothing else.
    match form("ssl_check=1&token=x").unwrap() {
        Accepted::Answer(answer) => assert_eq!(answer, "{}"),
        Accepted::Event(event) => panic!("{event:?}"),
    }
    for body in [r#"{"token":"x"}"#, "[]", "7", r#"{"type":"url_verification"}"#] {
        assert_eq!(json(body).unwrap_err().code, Code::Malformed, "{body}");
    }
    // What asks for an echo is JSON.
    let asked = event(form(&payload(r#"{"type":"url_verification","challenge":"x"}"#)));
    assert_eq!(asked.kind, "url_verification");
}
