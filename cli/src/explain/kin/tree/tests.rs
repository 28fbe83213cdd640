use async_nats::HeaderMap;
use shared::event::EventId;
use shared::subject::{Service, headers};

use super::super::Told;
use super::*;

fn place(service: &str, id: &str) -> Place {
    Place {
        service: service.into(),
        id: id.into(),
    }
}

fn link(parent: (&str, &str), rule: &str, child: (&str, &str), total: i64) -> Link {
    Link {
        parent: place(parent.0, parent.1),
        rule: rule.into(),
        child_service: child.0.into(),
        child_id: child.1.into(),
        total,
    }
}

/// A chain that comes back to where it began, of which one event has more than is shown.
fn kin() -> Kin {
    let all = [
        link(("github", "g"), "a", ("http", "a:1"), 1),
        link(("http", "a:1"), "b", ("slack", "b:1"), 12),
        link(("http", "a:1"), "b", ("slack", "b:\u{1b}[2J"), 12),
        link(("slack", "b:1"), "c", ("github", "g"), 1),
    ];
    let mut kin = Kin {
        own: vec![place("http", "a:1")],
        roots: vec![place("github", "g")],
        parents: vec![all[0].clone()],
        standing: Some(vec![Standing {
            place: place("github", "g"),
            state: "done".into(),
            code: "http_200".into(),
            trace_id: "0af7651916cd43dd8448eb211c80319c".into(),
            finished_ms: 1_795_248_000_000,
        }]),
        ..Kin::default()
    };
    for link in all {
        kin.totals.insert(link.parent.clone(), link.total);
        kin.children.entry(link.parent.clone()).or_default().push(link);
    }
    kin
}

#[test]
fn a_tree_shows_each_event_once_and_says_what_it_leaves_out() {
    let lines = lines(&kin());
    assert_eq!(lines[0], "It follows from g of github, by rule a.");
    let expected = [
        ("  g                  github  done: http_200, ", " ago)"),
        ("  └─ a:1             http    not done yet  <- this event", ""),
        ("     ├─ b:1          slack   not done yet", ""),
        (
            "     │  └─ g         github  done: http_200, ",
            " ago) (see above)",
        ),
        ("     ├─ b:\\u{1b}[2J  slack   not done yet", ""),
        ("     └─ and 10 more", ""),
    ];
    for (line, (begins, ends)) in lines[3..].iter().zip(expected) {
        assert!(
            line.starts_with(begins) && line.ends_with(ends),
            "{line:?}\n{begins:?}"
        );
    }
    assert_eq!(
        lines.last().unwrap(),
        "All of it is one trace: 0af7651916cd43dd8448eb211c80319c"
    );
    let json = json(&kin());
    let a = &json["trees"][0]["follows"][0];
    assert_eq!(
        (&a["this"], &a["rule"], &a["not_shown"]),
        (&json!(true), &json!("a"), &json!(10))
    );
    let g = &a["follows"][0]["follows"][0];
    assert_eq!(
        (&g["shown_above"], &g["follows"], &g["state"]),
        (&json!(true), &json!([]), &json!("done"))
    );
}

#[test]
fn without_postgres_a_message_tells_what_it_follows_from() {
    let (http, id) = (Service::new("http").unwrap(), EventId::new("tell:1").unwrap());
    let told = |parent: &str| {
        let mut map = HeaderMap::new();
        map.insert(headers::PARENT, parent);
        map.insert(headers::CHAIN, "first,tell");
        Told::read(&http, &map)
    };
    for bad in ["", "github", "github/", "Git Hub/x", "github/a b"] {
        assert!(told(bad).is_none(), "{bad}");
    }
    let kin = Kin::of(&id, told("github/octo/1"));
    assert_eq!(
        lines(&kin),
        [
            "It follows from octo/1 of github, by rule tell.",
            "What followed from what, by rules:",
            "",
            "  octo/1     github  not known",
            "  └─ tell:1  http    not known  <- this event",
        ]
    );
    assert!(Kin::of(&id, None).is_empty());
    assert_eq!(json(&Kin::of(&id, None))["trees"], json!([]));
}
