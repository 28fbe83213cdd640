//! Fields taken from elsewhere than the kind of source says, and what becomes of values that do not fit.

use shared::event::{MAX_KEY, Tenant};

use super::place::{Field, Places};
use super::*;

const JSON: (&str, &str) = ("content-type", "application/json");

/// The source with these overrides.
fn with(mut source: Source, overrides: &[(Field, &str)]) -> Source {
    let mut places = Field::ALL.map(Places::own);
    for (field, text) in overrides {
        places[*field as usize] = Places::read(text, *field).unwrap();
    }
    source.overrides = Overrides::new(places);
    source
}

#[test]
fn every_field_comes_from_where_the_settings_say() {
    let overrides = [
        (Field::Type, "body:/kind"),
        (Field::Id, "body:/meta/id"),
        (Field::Tenant, "header:x-customer"),
        (Field::Key, "body:/order"),
        (Field::Priority, "body:/urgency|3"),
    ];
    let body =
        br#"{"kind":"order.paid","meta":{"id":"o-1"},"order":4711,"urgency":9,"type":"x","id":"evt_1"}"#;
    for kind in ["github", "gitlab", "linear", "slack", "stripe", "standard"] {
        // Linear's time is in its body.
        let body = if kind == "linear" {
            [&br#"{"webhookTimestamp":1700000000000,"#[..], &body[1..]].concat()
        } else {
            body.to_vec()
        };
        let source = with(of_kind(kind), &overrides);
        // Nothing of what GitHub always sends is asked for when it is taken from elsewhere.
        let got = event(deliver(&source, headers(&[JSON, ("x-customer", "acme")]), &body));
        assert_eq!(got.kind, "order.paid", "{kind}");
        assert_eq!(got.id.as_str(), format!("{kind}:o-1"));
        assert_eq!(got.tenant.as_ref().map(Tenant::as_str), Some("acme"));
        assert_eq!(got.key.as_ref().map(Key::as_str), Some("4711"));
        assert_eq!(got.priority.get(), 9);
    }
    let source = with(generic(None, None), &overrides);
    let got = event(deliver(&source, headers(&[JSON]), body));
    assert_eq!((got.id.as_str(), got.kind.as_str()), ("acme:o-1", "order.paid"));
    let got = event(deliver(&source, headers(&[JSON]), b"{}"));
    assert_eq!((got.kind.as_str(), got.priority.get()), (KIND, 3));
    assert_eq!((got.tenant, got.key), (None, None));
    assert_eq!(got.id.as_str(), format!("acme:{}", digest_id(b"{}")));
}

#[test]
fn what_is_missing_or_unusable_falls_back() {
    let sent = [
        JSON,
        ("x-github-event", "issues"),
        ("x-github-delivery", "72d3"),
        ("x-other", "a b"),
        ("x-empty", ""),
    ];
    let body = br#"{"action":"opened","repository":{"full_name":"o/r"},"installation":{"id":5},"n":null}"#;
    let own = ("github:72d3", "issues.opened", Some("5"), Some("o/r"), 5);
    let long = "x".repeat(129);
    let long_header = [("x-long", long.as_str())];
    let sent: Vec<_> = sent.iter().chain(&long_header).copied().collect();
    let digest = format!("github:{}", digest_id(body));
    for (field, text, expected) in [
        (Field::Id, "body:/nowhere", own),
        (Field::Id, "header:x-other|header:x-empty", own),
        (
            Field::Id,
            "header:x-long",
            (&*format!("github:{long}"), own.1, own.2, own.3, own.4),
        ),
        (Field::Id, "none", (&*digest, own.1, own.2, own.3, own.4)),
        (
            Field::Id,
            "body:/nowhere|none",
            (&*digest, own.1, own.2, own.3, own.4),
        ),
        (Field::Type, "header:x-long|body:/n", own),
        (
            Field::Type,
            "header:x-long|push",
            (own.0, "push", own.2, own.3, own.4),
        ),
        (Field::Tenant, "body:/repository", own),
        (
            Field::Tenant,
            "body:/nowhere|none",
            (own.0, own.1, None, own.3, own.4),
        ),
        (Field::Key, "body:/n|header:x-empty", own),
        (Field::Key, "none", (own.0, own.1, own.2, None, own.4)),
        (
            Field::Key,
            "header:x-github-event",
            (own.0, own.1, own.2, Some("issues"), own.4),
        ),
        (Field::Priority, "header:x-other|body:/installation/id|1", own),
        (
            Field::Priority,
            "header:x-other|2",
            (own.0, own.1, own.2, own.3, 2),
        ),
        (Field::Priority, "header:x-other", own),
    ] {
        let got = event(deliver(&with(github(), &[(field, text)]), headers(&sent), body));
        let is = (
            got.id.as_str(),
            got.kind.as_str(),
            got.tenant.as_ref().map(Tenant::as_str),
            got.key.as_ref().map(Key::as_str),
            got.priority.get(),
        );
        assert_eq!(is, expected, "{field:?} {text}");
    }
}

#[test]
fn tenants_and_keys_are_made_to_fit_and_stay_apart() {
    for (name, expected) in [
        ("acme", "acme".to_owned()),
        ("acme.co", format!("acme_co-{}", &digest_id(b"acme.co")[..16])),
        ("acme_co", "acme_co".into()),
        (
            "Größe/2 ",
            format!("Gr__e_2_-{}", &digest_id("Größe/2 ".as_bytes())[..16]),
        ),
        (&"x".repeat(64), "x".repeat(64)),
        (
            &"x".repeat(65),
            format!(
                "{}-{}",
                "x".repeat(47),
                &digest_id("x".repeat(65).as_bytes())[..16]
            ),
        ),
    ] {
        assert_eq!(tenant(name.to_owned()), expected);
        assert!(Tenant::new(expected).is_ok(), "{name}");
    }
    for (text, expected) in [
        ("o/r", "o/r".to_owned()),
        ("a\nb", digest_id(b"a\nb")),
        (&"k".repeat(MAX_KEY), "k".repeat(MAX_KEY)),
        (
            &"k".repeat(MAX_KEY + 1),
            digest_id("k".repeat(MAX_KEY + 1).as_bytes()),
        ),
    ] {
        assert_eq!(key(text.to_owned()), expected);
    }
}

proptest! {
    #[test]
    fn any_value_fits_its_field(value in "\\PC{1,300}|[\\x00-\\x7f]{1,300}") {
        prop_assert!(Tenant::new(tenant(value.clone())).is_ok());
        prop_assert!(Key::new(key(value.clone())).is_ok());
        let overrides = [Field::Type, Field::Id, Field::Tenant, Field::Key].map(|field| (field, "body:/v"));
        let body = serde_json::json!({ "v": value }).to_string();
        let got = event(deliver(&with(generic(None, None), &overrides), headers(&[JSON]), body.as_bytes()));
        prop_assert!(got.tenant.is_some() && got.key.is_some());
    }
}
