//! What Slack refuses, told before it is asked: such a call would cost a turn and end the same. Pure. Source: Slack's
//! reference of blocks and block elements, `chat.postMessage`, truncating content.

use serde_json::Value;
use shared::failure::Failure;

/// Characters of a message's text.
const TEXT: usize = 40_000;
/// Blocks of a message; of a view twice as many.
const BLOCKS: usize = 50;
/// Attachments of a message.
const ATTACHMENTS: usize = 100;

/// A refusal in Slack's word for it.
fn refused(code: &'static str, what: String) -> Failure {
    Failure::permanent(code, what)
}

/// Whether Slack could take the arguments of a method.
pub(super) fn check(method: &str, args: &Value) -> Result<(), Failure> {
    if method.starts_with("views.") {
        return blocks(&args["view"]["blocks"], "view.blocks", 2 * BLOCKS);
    }
    if !method.starts_with("chat.") {
        return Ok(());
    }
    message(args)?;
    for name in ["thread_ts", "ts", "message_ts"] {
        match &args[name] {
            Value::Null => {}
            Value::String(ts) if is_ts(ts) => {}
            _ => {
                let what = format!("{name} must be a message's time like 1712345678.123456");
                return Err(refused("call", what));
            }
        }
    }
    Ok(())
}

/// Whether Slack could take a message.
pub(super) fn message(message: &Value) -> Result<(), Failure> {
    if message["text"].as_str().is_some_and(|text| longer(text, TEXT)) {
        let what = format!("text has more than {TEXT} characters");
        return Err(refused("msg_too_long", what));
    }
    blocks(&message["blocks"], "blocks", BLOCKS)?;
    let attachments = list(&message["attachments"], "attachments")?;
    if attachments.len() > ATTACHMENTS {
        let what = format!("there are {} of them, more than {ATTACHMENTS}", attachments.len());
        return Err(refused("too_many_attachments", what));
    }
    for (at, attachment) in attachments.iter().enumerate() {
        blocks(
            &attachment["blocks"],
            &format!("attachments[{at}].blocks"),
            BLOCKS,
        )?;
    }
    Ok(())
}

fn blocks(given: &Value, name: &str, most: usize) -> Result<(), Failure> {
    let blocks = list(given, name)?;
    if blocks.len() > most {
        let what = format!("{name} has {} entries, more than {most}", blocks.len());
        return Err(refused("invalid_blocks", what));
    }
    for (at, block) in blocks.iter().enumerate() {
        if let Err(what) = block_fits(block) {
            return Err(refused("invalid_blocks", format!("{name}[{at}]{what}")));
        }
    }
    Ok(())
}

/// A list, or the JSON text of one, as Slack takes both.
fn list(given: &Value, name: &str) -> Result<Vec<Value>, Failure> {
    let read = match given {
        Value::Null => Some(Vec::new()),
        Value::Array(list) => Some(list.clone()),
        Value::String(text) if text.is_empty() => Some(Vec::new()),
        Value::String(text) => serde_json::from_str(text).ok(),
        _ => None,
    };
    read.ok_or_else(|| refused("invalid_arguments", format!("{name} must be a list")))
}

fn block_fits(block: &Value) -> Result<(), String> {
    let kind = block["type"].as_str().ok_or(".type is missing")?;
    text_fits(block, "/block_id", 255)?;
    match kind {
        "section" => {
            if block["text"].is_null() && block["fields"].is_null() {
                return Err(" has neither text nor fields".into());
            }
            text_fits(block, "/text/text", 3000)?;
            count_fits(block, "fields", 10)?;
            for (at, field) in block["fields"].as_array().into_iter().flatten().enumerate() {
                text_fits(field, "/text", 2000).map_err(|what| format!(".fields[{at}]{what}"))?;
            }
        }
        "header" => text_fits(block, "/text/text", 150)?,
        "context" => count_fits(block, "elements", 10)?,
        "actions" => {
            count_fits(block, "elements", 25)?;
            for (at, element) in block["elements"].as_array().into_iter().flatten().enumerate() {
                element_fits(element).map_err(|what| format!(".elements[{at}]{what}"))?;
            }
        }
        "image" => {
            text_fits(block, "/image_url", 3000)?;
            text_fits(block, "/alt_text", 2000)?;
        }
        "markdown" => text_fits(block, "/text", 12_000)?,
        _ => {}
    }
    if block["accessory"].is_object() {
        element_fits(&block["accessory"]).map_err(|what| format!(".accessory{what}"))?;
    }
    Ok(())
}

fn element_fits(element: &Value) -> Result<(), String> {
    text_fits(element, "/action_id", 255)?;
    if element["type"] == "button" {
        text_fits(element, "/text/text", 75)?;
        text_fits(element, "/value", 2000)?;
        text_fits(element, "/url", 3000)?;
    }
    count_fits(element, "options", 100)
}

fn text_fits(value: &Value, pointer: &str, most: usize) -> Result<(), String> {
    let text = value.pointer(pointer).and_then(Value::as_str);
    match text {
        Some(text) if longer(text, most) => {
            let name = pointer.replace('/', ".");
            Err(format!("{name} has more than {most} characters"))
        }
        _ => Ok(()),
    }
}

fn count_fits(value: &Value, name: &str, most: usize) -> Result<(), String> {
    match value[name].as_array() {
        Some(list) if list.len() > most => Err(format!(".{name} has more than {most} entries")),
        _ => Ok(()),
    }
}

fn longer(text: &str, most: usize) -> bool {
    text.len() > most && text.chars().nth(most).is_some()
}

fn is_ts(ts: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    ts.len() <= 32
        && ts
            .split_once('.')
            .is_some_and(|(seconds, rest)| digits(seconds) && digits(rest))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn post(args: &Value) -> Result<(), String> {
        check("chat.postMessage", args).map_err(|failure| failure.reason().code.to_string())
    }

    fn long(characters: usize) -> String {
        "ä".repeat(characters)
    }

    #[test]
    fn messages_that_slack_takes() {
        let section = |length| json!({"type": "section", "text": {"type": "mrkdwn", "text": long(length)}});
        for good in [
            json!({"channel": "C1", "text": long(TEXT)}),
            json!({"blocks": vec![json!({"type": "divider"}); 50]}),
            json!({"blocks": "[{\"type\": \"divider\"}]"}),
            json!({"blocks": [section(3000)], "attachments": [{"text": "old"}, {"blocks": [section(1)]}]}),
            json!({"text": "x", "thread_ts": "1712345678.123456"}),
            json!({"blocks": [{"type": "something_new", "x": long(9999)}]}),
            json!({"blocks": null, "attachments": ""}),
        ] {
            assert_eq!(post(&good), Ok(()), "{good}");
        }
        assert!(
            check(
                "views.open",
                &json!({"view": {"blocks": vec![json!({"type": "divider"}); 100]}})
            )
            .is_ok()
        );
        assert!(check("users.info", &json!({"blocks": 7})).is_ok(), "no message");
    }

    #[test]
    fn messages_that_slack_refuses() {
        let of = |block: Value| json!({"blocks": [block]});
        let text = |length| json!({"type": "plain_text", "text": long(length)});
        let button = |length| json!({"type": "button", "action_id": "a", "text": text(length)});
        for (code, bad) in [
            ("msg_too_long", json!({"text": long(TEXT + 1)})),
            (
                "invalid_blocks",
                json!({"blocks": vec![json!({"type": "divider"}); 51]}),
            ),
            ("invalid_arguments", json!({"blocks": 7})),
            ("invalid_arguments", json!({"blocks": "[{"})),
            ("invalid_arguments", json!({"blocks": "{}"})),
            ("invalid_arguments", json!({"attachments": {}})),
            (
                "too_many_attachments",
                json!({"attachments": vec![json!({}); 101]}),
            ),
            (
                "invalid_blocks",
                json!({"attachments": [{"blocks": [{"type": "section"}]}]}),
            ),
            ("invalid_blocks", of(json!({}))),
            ("invalid_blocks", of(json!("x"))),
            (
                "invalid_blocks",
                of(json!({"type": "section", "text": text(3001)})),
            ),
            (
                "invalid_blocks",
                of(json!({"type": "section", "fields": vec![text(1); 11]})),
            ),
            (
                "invalid_blocks",
                of(json!({"type": "section", "fields": [text(2001)]})),
            ),
            ("invalid_blocks", of(json!({"type": "header", "text": text(151)}))),
            (
                "invalid_blocks",
                of(json!({"type": "context", "elements": vec![text(1); 11]})),
            ),
            (
                "invalid_blocks",
                of(json!({"type": "actions", "elements": vec![button(1); 26]})),
            ),
            (
                "invalid_blocks",
                of(json!({"type": "actions", "elements": [button(76)]})),
            ),
            (
                "invalid_blocks",
                of(json!({"type": "section", "text": text(1), "accessory": button(76)})),
            ),
            (
                "invalid_blocks",
                of(json!({"type": "image", "image_url": "x", "alt_text": long(2001)})),
            ),
            (
                "invalid_blocks",
                of(json!({"type": "divider", "block_id": long(256)})),
            ),
            ("call", json!({"text": "x", "thread_ts": "yesterday"})),
            ("call", json!({"text": "x", "thread_ts": 1.5})),
            ("call", json!({"text": "x", "ts": "1712345678"})),
        ] {
            assert_eq!(
                post(&bad),
                Err(code.into()),
                "{}",
                bad.to_string().chars().take(120).collect::<String>()
            );
        }
        let views = json!({"view": {"blocks": vec![json!({"type": "divider"}); 101]}});
        assert!(check("views.publish", &views).is_err());
    }

    #[test]
    fn a_refusal_says_where() {
        let args = json!({"blocks": [{"type": "divider"}, {"type": "header", "text": {"text": long(151)}}]});
        let failure = check("chat.update", &args).unwrap_err();
        assert_eq!(
            failure.reason().detail,
            "blocks[1].text.text has more than 150 characters"
        );
    }
}
