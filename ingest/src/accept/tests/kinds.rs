//! What each kind of source says of its deliveries, over real payloads where there are any.

use serde_json::{Value, json};
use shared::event::Tenant;

use super::*;

const JSON: &str = "application/json";

pub(super) fn whose(event: &Event) -> (Option<&str>, Option<&str>) {
    (
        event.tenant.as_ref().map(Tenant::as_str),
        event.key.as_ref().map(Key::as_str),
    )
}

/// The event of a JSON delivery.
fn read(kind: &str, sent: &[(&str, &str)], body: &Value) -> Event {
    let mut all = vec![("content-type", JSON)];
    all.extend(sent);
    event(deliver(
        &of_kind(kind),
        headers(&all),
        body.to_string().as_bytes(),
    ))
}

fn digest(source: &str, body: &Value) -> String {
    format!("{source}:{}", digest_id(body.to_string().as_bytes()))
}

pub(super) fn fixtures(folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = format!("{}/tests/fixtures/{folder}", env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap());
    files
        .map(|file| {
            (
                file.file_name().into_string().unwrap(),
                std::fs::read(file.path()).unwrap(),
            )
        })
        .collect()
}

#[test]
fn github_apps_have_tenants() {
    let sent = [("x-github-event", "issues"), ("x-github-delivery", "1")];
    let body =
        json!({"action": "opened", "installation": {"id": 957_387}, "repository": {"full_name": "a/b"}});
    assert_eq!(
        whose(&read("github", &sent, &body)),
        (Some("957387"), Some("a/b"))
    );
    let body = json!({"action": {}, "installation": "x", "repository": []});
    let got = read("github", &sent, &body);
    assert_eq!((got.kind.as_str(), whose(&got)), ("issues", (None, None)));
}

#[test]
fn gitlab_names_project_and_group() {
    let project = json!({"path_with_namespace": "acme.co/web/shop", "namespace": "Web"});
    for (body, event, kind, tenant, key) in [
        (
            json!({"object_kind": "merge_request", "project": project, "object_attributes": {"action": "open"}}),
            "Merge Request Hook",
            "merge_request.open",
            Some("acme_co-"),
            Some("acme.co/web/shop"),
        ),
        (
            json!({"object_kind": "push", "event_name": "push", "project": {"path_with_namespace": "mike/diaspora"}}),
            "Push Hook",
            "push",
            Some("mike"),
            Some("mike/diaspora"),
        ),
        (
            json!({"object_kind": "release", "action": "create", "project": {"path_with_namespace": "a/b"}}),
            "Release Hook",
            "release.create",
            Some("a"),
            Some("a/b"),
        ),
        (
            json!({"event_name": "project_create", "path_with_namespace": "jsmith/storecloud"}),
            "System Hook",
            "project_create",
            Some("jsmith"),
            Some("jsmith/storecloud"),
        ),
        (
            json!({"event_name": "user_add_to_group", "group_path": "webhook-test"}),
            "Member Hook",
            "user_add_to_group",
            Some("webhook-test"),
            Some("webhook-test"),
        ),
        (
            json!({"object_kind": "build", "project": {"path_with_namespace": "/"}}),
            "Job Hook",
            "build",
            None,
            Some("/"),
        ),
        (json!({"odd": 1}), "Some Hook", "Some Hook", None, None),
        (json!([]), "", "webhook", None, None),
    ] {
        let sent = [("x-gitlab-event", event), ("idempotency-key", "f5e1")];
        let got = read("gitlab", &sent, &body);
        assert_eq!(
            (got.kind.as_str(), got.id.as_str()),
            (kind, "gitlab:f5e1"),
            "{body}"
        );
        assert_eq!(got.key.as_ref().map(Key::as_str), key, "{body}");
        let is = got.tenant.as_ref().map(Tenant::as_str);
        assert!(
            is == tenant
                || tenant.is_some_and(|tenant| tenant.ends_with('-') && is.unwrap().starts_with(tenant))
        );
    }
    let body = json!({"object_kind": "push"});
    let (key, hook, uuid) = (
        ("idempotency-key", "a"),
        ("webhook-id", "b"),
        ("x-gitlab-event-uuid", "c"),
    );
    for (sent, id) in [
        (vec![uuid, key, hook], "gitlab:b".to_owned()),
        (vec![uuid, key], "gitlab:a".into()),
        (vec![uuid], "gitlab:c".into()),
        (vec![("idempotency-key", "a b"), uuid], "gitlab:c".into()),
        (vec![("x-gitlab-webhook-uuid", "d")], digest("gitlab", &body)),
    ] {
        assert_eq!(read("gitlab", &sent, &body).id.as_str(), id, "{sent:?}");
    }
}

#[test]
fn every_linear_fixture_is_read() {
    let fixtures = fixtures("linear");
    assert!(fixtures.len() >= 6);
    for (name, body) in fixtures {
        let mut body: Value = serde_json::from_slice(&body).unwrap();
        // What an envelope of 2021 lacks.
        body["organizationId"] = "1b2e5c9a-0d0e-4c8b-8e63-2f9b0c9d4a11".into();
        body["webhookId"] = "000042e3-d123-4980-b49f-8e140eef9329".into();
        body["webhookTimestamp"] = 1_676_056_940_508_u64.into();
        let got = read("linear", &[("linear-delivery", "234d1a4e")], &body);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        assert_eq!(got.id.as_str(), "linear:234d1a4e", "{name}");
        assert_eq!(
            got.kind,
            format!("{}.{}", text(&body["type"]), text(&body["action"])),
            "{name}"
        );
        let team = body["data"]["teamId"].as_str();
        let organization = body["organizationId"].as_str();
        assert_eq!(whose(&got), (organization, team.or(organization)), "{name}");
        let created = got.time_ms.unwrap();
        assert!(
            (1_610_000_000_000..1_640_000_000_000).contains(&created),
            "{name}"
        );
    }
    let timed = |mut body: Value| {
        body["webhookTimestamp"] = 1_676_056_940_508_u64.into();
        body
    };
    let body = timed(
        json!({"type": "Issue", "action": "update", "data": {"team": {"id": "t"}}, "createdAt": "soon"}),
    );
    let got = read("linear", &[], &body);
    assert_eq!(got.id.as_str(), digest("linear", &body));
    assert_eq!((whose(&got), got.time_ms), ((None, Some("t")), None));
    let body = timed(json!({"type": "Comment", "data": {"issue": {"teamId": "t"}}, "webhookId": "w"}));
    let got = read("linear", &[], &body);
    assert_eq!((got.kind.as_str(), whose(&got)), ("Comment", (None, Some("t"))));
    assert_eq!(read("linear", &[], &timed(json!({}))).kind, KIND);
}

#[test]
fn stripe_names_the_event_and_what_it_is_about() {
    let body = json!({
        "id": "evt_1", "object": "event", "type": "payment_intent.succeeded", "created": 1_686_089_970,
        "account": "acct_9", "data": {"object": {"id": "pi_3", "object": "payment_intent"}},
    });
    let got = read("stripe", &[], &body);
    assert_eq!(
        (got.id.as_str(), got.kind.as_str()),
        ("stripe:evt_1", "payment_intent.succeeded")
    );
    assert_eq!(
        (whose(&got), got.time_ms),
        ((Some("acct_9"), Some("pi_3")), Some(1_686_089_970_000))
    );
    let body = json!({
        "id": "evt_2", "object": "v2.core.event", "type": "v1.billing.meter.error_report_triggered",
        "created": "2024-09-26T17:46:22.134Z", "related_object": {"id": "mtr_1", "type": "billing.meter"},
    });
    let got = read("stripe", &[], &body);
    assert_eq!(
        (whose(&got), got.time_ms),
        ((None, Some("mtr_1")), Some(1_727_372_782_134))
    );
    let body = json!({"type": "balance.available", "account": "acct_9", "id": "a b", "created": u64::MAX});
    let got = read("stripe", &[], &body);
    assert_eq!(got.id.as_str(), digest("stripe", &body));
    assert_eq!(
        (whose(&got), got.time_ms),
        ((Some("acct_9"), Some("acct_9")), None)
    );
}

#[test]
fn standard_webhooks_need_not_be_json() {
    let body =
        json!({"type": "contact.created", "timestamp": "2022-11-03T20:26:10.344522Z", "data": {"id": 1}});
    let got = read("standard", &[], &body);
    assert_eq!(
        (got.id.as_str(), got.kind.as_str()),
        ("standard:msg_1", "contact.created")
    );
    assert_eq!(
        (whose(&got), got.time_ms),
        ((None, None), Some(1_667_507_170_344))
    );
    for body in [
        &b"\xff\x00"[..],
        b"",
        b"{",
        b"[]",
        br#"{"type":7,"timestamp":"never"}"#,
    ] {
        let got = event(deliver(&of_kind("standard"), HeaderMap::new(), body));
        assert_eq!((got.id.as_str(), got.time_ms), ("standard:msg_1", None));
        assert!(got.kind == KIND || got.kind == "7", "{}", got.kind);
        let is_json = serde_json::from_slice::<serde_json::Value>(body).is_ok();
        let media = if is_json {
            "application/json"
        } else {
            "application/octet-stream"
        };
        let Data::Blob { content_type, bytes } = got.data else {
            panic!("{:?}", got.data)
        };
        assert_eq!((content_type.as_str(), &bytes[..]), (media, body));
    }
}
