use serde_json::json;
use shared::event::{Data, EventId};

use super::*;

fn ask(data: &Value) -> Result<Ask, String> {
    let event = Event {
        data: Data::json(data.to_string()),
        ..Event::new(EventId::generate(), "ask")
    };
    read(&event).map_err(|failure| {
        assert_eq!(failure.class(), "permanent");
        failure.to_string()
    })
}

#[test]
fn a_prompt_is_enough() {
    let read = ask(&json!({"prompt": "Why?"})).unwrap();
    assert_eq!(
        (read.mode, read.rounds, read.request.max_tokens),
        (Mode::One, 1, 1_024)
    );
    assert_eq!(read.request.messages[0].role, Role::User);
    assert!(!read.request.stream && read.models.is_empty() && read.cache.is_none());
    let read = ask(&json!({
        "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
            {"role": "user", "content": "c"}],
        "mode": "all", "models": ["x", "y"], "join": {"model": "z"}, "need": 1, "stop": ["END"]
    }));
    let read = read.unwrap();
    assert!(read.request.stream, "to stop early it must be read early");
    assert!(matches!(read.join, Join::By { model: Some(name), .. } if name == "z"));
}

#[test]
fn whatever_is_wrong_is_named() {
    let with = |field: &str, value: Value| {
        let mut data = json!({"prompt": "Why?"});
        data[field] = value;
        data
    };
    let many: Vec<_> = (0..9).map(|n| format!("m{n}")).collect();
    for (data, named) in [
        (json!({}), "neither prompt nor messages"),
        (json!([]), "invalid"),
        (json!({"prompt": "  "}), "blank"),
        (json!({"prompt": 7}), "invalid type"),
        (json!({"messages": []}), "messages must be 1"),
        (
            json!({"messages": [{"role": "system", "content": "x"}]}),
            "unknown variant",
        ),
        (
            json!({"messages": [{"role": "assistant", "content": "x"}]}),
            "end with one of the user",
        ),
        (with("messages", json!([])), "both"),
        (with("promt", json!("x")), "unknown field `promt`"),
        (with("mode", json!("many")), "unknown variant `many`"),
        (with("rounds", json!(2)), "rounds is there"),
        (
            json!({"prompt": "x", "mode": "refine", "rounds": 6}),
            "rounds must be 1 to 5",
        ),
        (with("temperature", json!(2.5)), "temperature"),
        (with("max_tokens", json!(0)), "max_tokens"),
        (with("max_tokens", json!(-1)), "invalid value"),
        (with("stop", json!(["a", "b", "c", "d", "e"])), "stop must be"),
        (with("stop", json!([""])), "stop must be"),
        (with("json", json!("yes")), "json must be"),
        (
            json!({"prompt": "x", "json": true, "enough": 5}),
            "json goes with neither",
        ),
        (
            json!({"prompt": "x", "stream": false, "enough": 5}),
            "enough needs stream",
        ),
        (with("models", json!(many)), "models must be at most 8"),
        (with("models", json!(["a", "a"])), "twice"),
        (json!({"prompt": "x", "model": "a", "models": ["b"]}), "both"),
        (with("join", json!("list")), "join is there"),
        (
            json!({"prompt": "x", "mode": "all", "join": "vote"}),
            "join must be",
        ),
        (with("need", json!(1)), "need is there"),
        (with("prompt_version", json!("v".repeat(65))), "prompt_version"),
        (json!({"prompt": "x".repeat(MAX_TEXT)}), "bytes together"),
    ] {
        let said = ask(&data).unwrap_err();
        assert!(said.contains(named), "{named}: {said}");
    }
}
