//! Signed bodies that are sent again with another media type, which nobody signs.

use super::place::{Field, Places};
use super::*;

const JSON: &str = "application/json";

/// What the event is, and as what its data is read.
fn read(source: &Source, media: &str, body: &str) -> (Event, serde_json::Value) {
    let sent = [
        ("content-type", media),
        ("x-github-event", "issues"),
        ("x-github-delivery", "1"),
    ];
    let event = event(deliver(source, headers(&sent), body.as_bytes()));
    let seen = event.data.to_json().unwrap().unwrap();
    (event, seen)
}

#[test]
fn json_is_never_a_form() {
    let inner =
        "&payload=%7B%22action%22%3A%22closed%22%7D&command=%2Fx&trigger_id=9&team_id=EVIL&tenant=EVIL&";
    let body = format!(
        r#"{{"action":"opened","type":"x","tenant":"right","webhookTimestamp":{NOW}000,"t":"{inner}"}}"#
    );
    let mut places = Field::ALL.map(Places::own);
    places[Field::Tenant as usize] = Places::read("body:/tenant", Field::Tenant).unwrap();
    let kinds = ["github", "gitlab", "linear", "slack", "stripe", "standard"];
    for source in kinds.map(of_kind).into_iter().chain([generic(None, None)]) {
        let own = read(&source, JSON, &body);
        let overridden = Source {
            overrides: Overrides::new(places.clone()),
            ..source.clone()
        };
        for blank in ["", " \r\n\t"] {
            let body = format!("{blank}{body}");
            // As a form, as anything.
            for media in [
                FORM,
                "Application/X-WWW-Form-Urlencoded ; charset=utf-8",
                "text/plain",
                "application/msgpack",
            ] {
                let (event, seen) = read(&source, media, &body);
                assert_eq!(event.kind, own.0.kind, "{} as {media}", source.name);
                assert_eq!(event.tenant, own.0.tenant, "{} as {media}", source.name);
                assert_eq!(seen, own.1, "{} as {media}", source.name);
                let (event, _) = read(&overridden, media, &body);
                assert_eq!(event.tenant, Some(Tenant::new("right").unwrap()));
            }
        }
    }
}

#[test]
fn a_form_is_a_form_whatever_it_is_called() {
    let github = "payload=%7B%22action%22%3A%22opened%22%7D";
    let slack = "token=x&team_id=T1&command=%2Fdeploy&text=a+b&trigger_id=1.2";
    let mut named = generic(None, None);
    let mut places = Field::ALL.map(Places::own);
    places[Field::Tenant as usize] = Places::read("body:/team_id", Field::Tenant).unwrap();
    named.overrides = Overrides::new(places);
    for media in [FORM, JSON, "text/plain", "application/octet-stream"] {
        let (event, seen) = read(&of_kind("github"), media, github);
        assert_eq!(
            (event.kind.as_str(), &seen["action"]),
            ("issues.opened", &"opened".into())
        );
        let (event, seen) = read(&of_kind("slack"), media, slack);
        assert_eq!(
            (event.kind.as_str(), &seen["text"]),
            ("slash_command", &"a b".into())
        );
        assert_eq!(event.id.as_str(), "slack:1.2");
        let got = super::event(deliver(
            &named,
            headers(&[("content-type", media)]),
            slack.as_bytes(),
        ));
        assert_eq!(got.tenant, Some(Tenant::new("T1").unwrap()), "{media}");
    }
}

#[test]
fn makers_that_send_no_forms_are_not_read_as_such() {
    let form = "payload=%7B%22object_kind%22%3A%22push%22%7D";
    for kind in ["gitlab", "stripe"] {
        let refused = deliver(
            &of_kind(kind),
            headers(&[("content-type", FORM)]),
            form.as_bytes(),
        );
        assert_eq!(refused.unwrap_err().code, Code::Malformed, "{kind}");
    }
}

#[test]
fn no_text_is_both() {
    for form in ["a=b", "a=", "payload=%7B%7D\r\n", "a[b]=1&c=(d)~e", "a=b=c"] {
        assert!(form::looks_so(form.as_bytes()), "{form:?}");
        assert!(
            serde_json::from_str::<serde_json::Value>(form).is_err(),
            "{form:?}"
        );
    }
    for other in [
        "",
        "{\"a\":\"=\"}",
        " {\"a\":\"=\"}",
        "[\"=\"]",
        "\"a=b\"",
        "[a=b]",
        "7",
        "null",
    ] {
        assert!(!form::looks_so(other.as_bytes()), "{other:?}");
    }
    for other in ["<a href=x>", "a=b c=d", "a=\u{e9}", "a=\0"] {
        assert!(!form::looks_so(other.as_bytes()), "{other:?}");
    }
}

#[test]
fn what_is_no_json_is_not_read_as_it() {
    for source in [of_kind("standard"), generic(None, None)] {
        for body in ["hello", "{hello", "\"", "[1,"] {
            for media in ["text/plain", JSON, FORM, "application/xml"] {
                let sent = headers(&[("content-type", media)]);
                let event = event(deliver(&source, sent, body.as_bytes()));
                let seen = event.data.to_json();
                assert_eq!(seen, Ok(None), "{} {body} as {media}", source.name);
            }
        }
    }
}
