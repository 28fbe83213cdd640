use serde_json::json;

use super::super::ask::{Json, Message, Role};
use super::*;

mod refusals;

fn request() -> Request {
    Request {
        system: Some("Be brief.".into()),
        messages: vec![Message {
            role: Role::User,
            content: "Why?".into(),
        }],
        temperature: Some(1.5),
        max_tokens: 99,
        json: None,
        stop: vec!["END".into()],
        stream: false,
        enough: None,
    }
}

const ALL: [Protocol; 4] = [
    Protocol::Openai,
    Protocol::Compatible,
    Protocol::Anthropic,
    Protocol::Xai,
];

/// Answers as the makers' documents show them, each as it is recorded and as it must be read.
mod recorded {
    pub(super) const OPENAI: &str = r#"{"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion","created":1741569952,
        "model":"gpt-4.1-2025-04-14","choices":[{"index":0,"message":{"role":"assistant","content":"Hello!","refusal":null,
        "annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":19,"completion_tokens":10,
        "total_tokens":29,"prompt_tokens_details":{"cached_tokens":4,"audio_tokens":0},"completion_tokens_details":
        {"reasoning_tokens":0}},"service_tier":"default"}"#;
    pub(super) const XAI: &str = r#"{"id":"0daf962f-a275-4a3c-839a-047854645532","object":"chat.completion","created":1739301120,
        "model":"grok-4-0709","choices":[{"index":0,"message":{"role":"assistant","content":"Hello!","reasoning_content":"Hm.",
        "refusal":null},"finish_reason":"stop"}],"usage":{"prompt_tokens":32,"completion_tokens":9,"total_tokens":135,
        "completion_tokens_details":{"reasoning_tokens":94}},"system_fingerprint":"fp_84ff176447"}"#;
    pub(super) const ANTHROPIC: &str = r#"{"id":"msg_013Zva2CMHLNnXjNJJKqJ2EF","type":"message","role":"assistant",
        "model":"claude-x","content":[{"type":"thinking","thinking":"Hm.","signature":"x"},{"type":"text","text":"Hello!"}],
        "stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":11,"cache_creation_input_tokens":8,
        "cache_read_input_tokens":4,"output_tokens":6}}"#;
    pub(super) const OPENAI_STREAM: &[&str] = &[
        r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"gpt-x","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}"#,
        r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"gpt-x","choices":[{"index":0,"delta":{"content":"Hel"},"finish_reason":null}],"usage":null}"#,
        r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"gpt-x","choices":[{"index":0,"delta":{"content":"lo!"},"finish_reason":null}],"usage":null}"#,
        r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"gpt-x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}"#,
        r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"gpt-x","choices":[],"usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29}}"#,
        "[DONE]",
    ];
    pub(super) const ANTHROPIC_STREAM: &[&str] = &[
        r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","content":[],"model":"claude-x","stop_reason":null,"usage":{"input_tokens":19,"output_tokens":1}}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
        r#"{"type":"ping"}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hel"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"lo!"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"something_new","index":0}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":10}}"#,
        r#"{"type":"message_stop"}"#,
    ];
}

fn whole(protocol: Protocol, body: &[u8]) -> Result<Gather, Trouble> {
    let mut gather = Gather::default();
    protocol.whole(&mut gather, body).map(|()| gather)
}

fn streamed(protocol: Protocol, events: &[&str]) -> Result<Gather, Trouble> {
    let mut gather = Gather::default();
    for data in events {
        let event = sse::Event {
            name: String::new(),
            data: (*data).into(),
        };
        protocol.event(&mut gather, &event)?;
    }
    Ok(gather)
}

fn usage(input: u64, cached: u64, output: u64) -> Usage {
    Usage {
        input,
        cached,
        output,
        estimated: false,
    }
}

#[test]
fn each_maker_is_asked_in_its_own_words() {
    let body = Protocol::Openai.body("gpt-x", &request());
    assert_eq!(
        body,
        json!({"model": "gpt-x", "max_completion_tokens": 99, "temperature": 1.5, "stop": ["END"], "messages": [
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]})
    );
    assert_eq!(Protocol::Compatible.body("x", &request())["max_tokens"], 99);
    let body = Protocol::Anthropic.body("claude-x", &request());
    assert_eq!(
        body,
        json!({"model": "claude-x", "max_tokens": 99, "temperature": 1.0, "stop_sequences": ["END"],
            "system": "Be brief.", "messages": [{"role": "user", "content": "Why?"}]})
    );
    let schema = json!({"type": "object"});
    let structured = Request {
        json: Some(Json::Schema(schema.clone())),
        stream: true,
        ..request()
    };
    let body = Protocol::Xai.body("grok-x", &structured);
    assert_eq!(body["response_format"]["json_schema"]["schema"], schema);
    assert_eq!(
        (&body["stream"], &body["stream_options"]["include_usage"]),
        (&json!(true), &json!(true))
    );
    let body = Protocol::Anthropic.body("claude-x", &structured);
    assert_eq!(
        body["output_config"]["format"],
        json!({"type": "json_schema", "schema": schema})
    );
    let any = Request {
        json: Some(Json::Any),
        system: None,
        ..request()
    };
    assert_eq!(
        Protocol::Openai.body("x", &any)["response_format"]["type"],
        "json_object"
    );
    assert!(
        Protocol::Anthropic.body("x", &any)["system"]
            .as_str()
            .unwrap()
            .contains("JSON")
    );
}

#[test]
fn whole_answers_are_read_with_what_they_used() {
    for (protocol, body, used, model) in [
        (
            Protocol::Openai,
            recorded::OPENAI,
            usage(15, 4, 10),
            "gpt-4.1-2025-04-14",
        ),
        (
            Protocol::Compatible,
            recorded::OPENAI,
            usage(15, 4, 10),
            "gpt-4.1-2025-04-14",
        ),
        // What it thought stands in the total only.
        (Protocol::Xai, recorded::XAI, usage(32, 0, 103), "grok-4-0709"),
        (
            Protocol::Anthropic,
            recorded::ANTHROPIC,
            usage(19, 4, 6),
            "claude-x",
        ),
    ] {
        let gather = whole(protocol, body.as_bytes()).unwrap();
        assert_eq!(
            (&*gather.text, &*gather.exact, gather.usage()),
            ("Hello!", model, Some(used)),
            "{protocol:?}"
        );
        assert_eq!(gather.finish(), Ok(Finish::Stop));
    }
}

#[test]
fn streams_are_read_with_what_they_used() {
    let streams = [
        (Protocol::Openai, recorded::OPENAI_STREAM),
        (Protocol::Compatible, recorded::OPENAI_STREAM),
        (Protocol::Xai, recorded::OPENAI_STREAM),
        (Protocol::Anthropic, recorded::ANTHROPIC_STREAM),
    ];
    for (protocol, events) in streams {
        let gather = streamed(protocol, events).unwrap();
        assert!(gather.is_closed());
        assert_eq!(
            (&*gather.text, gather.usage()),
            ("Hello!", Some(usage(19, 0, 10))),
            "{protocol:?}"
        );
        assert_eq!(gather.finish(), Ok(Finish::Stop));
        // Cut anywhere before its end it is no answer, and costs what was written all the same.
        let ends = |text: &str| text.contains(r#""stop""#) || text.contains("end_turn");
        let end = events.iter().position(|text| ends(text)).unwrap();
        for cut in 0..end {
            let gather = streamed(protocol, &events[..cut]).unwrap();
            let failure = gather.finish().unwrap_err();
            assert_eq!(
                (failure.class(), &*failure.reason().code),
                ("transient", "cut_answer"),
                "{protocol:?} {cut}"
            );
            assert_eq!(gather.usage(), None, "{protocol:?} {cut}");
            let most = Usage {
                estimated: true,
                ..usage(90, 0, 70)
            };
            let input = gather.input.unwrap_or(90);
            assert_eq!(gather.reckoned(most, false), Usage { input, ..most });
            let written = gather.text.len() as u64;
            assert!(gather.reckoned(most, true).output >= written);
        }
    }
}

/// What stood in a figure's place before is of an answer that was not written yet.
#[test]
fn a_figure_that_cannot_be_read_does_not_leave_an_older_one_standing() {
    for bad in ["\"10\"", "10.5", "-1", "null"] {
        let last = recorded::ANTHROPIC_STREAM[7]
            .replace("\"output_tokens\":10", &format!("\"output_tokens\":{bad}"));
        let mut events = recorded::ANTHROPIC_STREAM.to_vec();
        events[7] = &last;
        let gather = streamed(Protocol::Anthropic, &events).unwrap();
        assert_eq!(
            (gather.usage(), gather.finish()),
            (None, Ok(Finish::Stop)),
            "{bad}"
        );
    }
}

#[test]
fn ends_that_are_none_and_refusals() {
    let openai = |reason: &str| {
        recorded::OPENAI.replace(
            r#""finish_reason":"stop""#,
            &format!(r#""finish_reason":"{reason}""#),
        )
    };
    let anthropic = |reason: &str| recorded::ANTHROPIC.replace("end_turn", reason);
    let of = |protocol, body: String| {
        let finish = whole(protocol, body.as_bytes()).unwrap().finish();
        finish.map_err(|failure| (failure.class(), failure.reason().code.to_string()))
    };
    let refused = || Err(("permanent", POLICY.to_owned()));
    let unfinished = || Err(("transient", "unfinished".to_owned()));
    assert_eq!(of(Protocol::Openai, openai("length")), Ok(Finish::Length));
    assert_eq!(of(Protocol::Openai, openai("content_filter")), refused());
    assert_eq!(of(Protocol::Openai, openai("tool_calls")), unfinished());
    assert_eq!(
        of(
            Protocol::Openai,
            recorded::OPENAI.replace(r#""refusal":null"#, r#""refusal":"I cannot.""#)
        ),
        refused()
    );
    assert_eq!(
        of(Protocol::Anthropic, anthropic("stop_sequence")),
        Ok(Finish::Stop)
    );
    assert_eq!(
        of(Protocol::Anthropic, anthropic("max_tokens")),
        Ok(Finish::Length)
    );
    assert_eq!(of(Protocol::Anthropic, anthropic("refusal")), refused());
    assert_eq!(of(Protocol::Anthropic, anthropic("pause_turn")), unfinished());
}

#[test]
fn answers_that_are_none() {
    for protocol in ALL {
        let recorded = match protocol {
            Protocol::Anthropic => recorded::ANTHROPIC,
            Protocol::Xai => recorded::XAI,
            Protocol::Openai | Protocol::Compatible => recorded::OPENAI,
        };
        let truncated = &recorded.as_bytes()[..recorded.len() / 2];
        let huge = recorded.replace("Hello!", &"x".repeat(MAX_TEXT + 1));
        assert_eq!(whole(protocol, huge.as_bytes()).unwrap_err(), Trouble::TooLong);
        for bad in [
            truncated,
            b"",
            b"<html>",
            b"{}",
            b"[]",
            b"\xff\xfe",
            b"{\"choices\":[],\"content\":7}",
        ] {
            assert!(
                matches!(whole(protocol, bad), Err(Trouble::Malformed(_))),
                "{protocol:?} {bad:?}"
            );
        }
        // A figure that cannot be read was not told; the answer is one.
        for bad in ["-1", "1.5", "10.0", "1e40", "\"9\"", "null"] {
            let field = if protocol == Protocol::Anthropic {
                "input_tokens\":11"
            } else {
                "prompt_tokens\":"
            };
            let at = recorded.find(field).unwrap();
            let end = at + field.len() + if field.ends_with(':') { 2 } else { 0 };
            let name = field.split('"').next().unwrap();
            let body = format!("{}{name}\":{bad}{}", &recorded[..at], &recorded[end..]);
            let gather = whole(protocol, body.as_bytes()).unwrap();
            assert_eq!((&*gather.text, gather.usage()), ("Hello!", None), "{body}");
        }
        assert!(matches!(
            streamed(protocol, &["{\"choices\": ["]),
            Err(Trouble::Malformed(_))
        ));
        assert!(matches!(
            streamed(protocol, &["garbage"]),
            Err(Trouble::Malformed(_))
        ));
    }
    assert!(matches!(
        streamed(Protocol::Anthropic, &["{}"]),
        Err(Trouble::Malformed(_))
    ));
}

#[test]
fn early_ends() {
    let gather = |text: &str| Gather {
        text: text.into(),
        ..Gather::default()
    };
    let early = |text: &str, stop: &[&str], enough| {
        let mut gather = gather(text);
        let stop: Vec<_> = stop.iter().map(|text| (*text).to_owned()).collect();
        let ended = gather.early(&stop, enough);
        (gather.text, ended)
    };
    assert_eq!(early("one END two", &["END", "two"], None), ("one ".into(), true));
    assert_eq!(early("ääää", &[], Some(2)), ("ää".into(), true));
    assert_eq!(early("ää", &["x"], Some(2)), ("ää".into(), false));
    // In any pieces.
    let mut pieces = Gather::default();
    for (piece, ended) in [("öE", false), ("N", false), ("Dx", true)] {
        pieces.text.push_str(piece);
        assert_eq!(pieces.early(&["END".into()], None), ended, "{piece}");
    }
    assert_eq!(pieces.text, "ö");
}
