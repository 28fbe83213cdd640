//! Bodies of several parts (RFC 2046) with an HTTP message in each, as Google's batch endpoint has them.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::wish::Call;
use crate::outbound::Answer;

/// Most parts that are read.
const MAX_PARTS: usize = 1000;
/// Longest name of a boundary.
const MAX_BOUNDARY: usize = 200;
/// How the names of parts begin.
const NAME: &str = "item-";

/// A boundary that nothing else holds.
pub(super) fn boundary() -> String {
    format!("weir-{:032x}", rand::random::<u128>())
}

/// A batch of calls, each with the tag of the answer that is known already.
pub(super) fn write(calls: &[(&Call, Option<&str>)], boundary: &str) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for (at, (call, etag)) in calls.iter().enumerate() {
        let _ = write!(
            text,
            "--{boundary}\r\nContent-Type: application/http\r\nContent-ID: <{NAME}{at}>\r\n\r\n{} {} HTTP/1.1\r\n",
            call.method,
            call.full_path()
        );
        if let Some(etag) = etag.filter(|etag| HeaderValue::from_str(etag).is_ok()) {
            let _ = write!(text, "If-None-Match: {etag}\r\n");
        }
        if let Some(body) = &call.body {
            let body = body.to_string();
            let _ = write!(
                text,
                "Content-Type: application/json; charset=UTF-8\r\nContent-Length: {}\r\n\r\n{body}\r\n",
                body.len()
            );
        } else {
            text += "\r\n";
        }
    }
    text + &format!("--{boundary}--\r\n")
}

/// The answers to so many calls, by their names; `None` for those that are missing or cannot be read. `None` for all
/// when the answer is no such body.
pub(super) fn read(answer: &Answer, calls: usize) -> Option<Vec<Option<Answer>>> {
    let kind = answer.headers.get(http::header::CONTENT_TYPE)?.to_str().ok()?;
    if !kind.to_ascii_lowercase().starts_with("multipart/") {
        return None;
    }
    let boundary = kind.split(';').find_map(|part| {
        let (name, value) = part.trim().split_once('=')?;
        name.eq_ignore_ascii_case("boundary")
            .then(|| value.trim_matches('"'))
    })?;
    if !(1..=MAX_BOUNDARY).contains(&boundary.len()) {
        return None;
    }
    let mut answers: Vec<Option<Answer>> = (0..calls).map(|_| None).collect();
    for part in parts(&answer.body, format!("--{boundary}").as_bytes()) {
        let Some((at, inner)) = message(&answer.body, part) else {
            continue;
        };
        if let Some(place) = answers.get_mut(at).filter(|place| place.is_none()) {
            *place = Some(inner);
        }
    }
    Some(answers)
}

type Range = std::ops::Range<usize>;

/// What lies between the delimiters.
fn parts(body: &[u8], delimiter: &[u8]) -> Vec<Range> {
    let mut found = Vec::new();
    let (mut at, mut open) = (0, None);
    while let Some(start) = find(body, delimiter, at) {
        at = start + delimiter.len();
        if start > 0 && body[start - 1] != b'\n' {
            continue;
        }
        if let Some(from) = open {
            found.push(from..start);
        }
        open = Some(at);
        if body[at..].starts_with(b"--") || found.len() > MAX_PARTS {
            break;
        }
    }
    found
}

/// A part's place and its HTTP message.
fn message(body: &Bytes, part: Range) -> Option<(usize, Answer)> {
    let (headers, from) = head(body, part.start, part.end)?;
    let name = headers.get("content-id")?.to_str().ok()?;
    let at = name.rsplit_once(NAME)?.1.trim_end_matches('>').parse().ok()?;
    let line = line(body, from, part.end)?;
    let text = std::str::from_utf8(&body[from..line]).ok()?;
    let mut words = text.trim().split(' ');
    if !words.next()?.starts_with("HTTP/") {
        return None;
    }
    let status = words.next()?.parse::<u16>().ok()?;
    let (headers, from) = head(body, line, part.end)?;
    let mut end = part.end;
    for mark in [b'\n', b'\r'] {
        if end > from && body[end - 1] == mark {
            end -= 1;
        }
    }
    let inner = Answer {
        status: StatusCode::from_u16(status).ok()?,
        headers,
        body: body.slice(from..end),
        cut: false,
    };
    // A body that ends before its time is none.
    let told = inner.headers.get(http::header::CONTENT_LENGTH);
    let told = told.and_then(|told| told.to_str().ok()?.parse::<usize>().ok());
    told.is_none_or(|told| told <= inner.body.len())
        .then_some((at, inner))
}

/// Headers until an empty line, and where that ends.
fn head(body: &[u8], from: usize, end: usize) -> Option<(HeaderMap, usize)> {
    let mut headers = HeaderMap::new();
    // The rest of the line before.
    let mut at = line(body, from, end)?;
    if body[from..at].iter().any(|b| !b.is_ascii_whitespace()) {
        at = from;
    }
    loop {
        let next = line(body, at, end).unwrap_or(end);
        let text = &body[at..next];
        if text.iter().all(u8::is_ascii_whitespace) {
            return Some((headers, next));
        }
        if next == end {
            return None;
        }
        at = next;
        let Some(colon) = text.iter().position(|b| *b == b':') else {
            continue;
        };
        let name = HeaderName::from_bytes(text[..colon].trim_ascii());
        let value = HeaderValue::from_bytes(text[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            // No part has so many that they do not fit.
            headers.try_insert(name, value).ok()?;
        }
    }
}

/// Where the line ends that begins here, its end included.
fn line(body: &[u8], from: usize, end: usize) -> Option<usize> {
    let rest = body.get(from..end)?;
    rest.iter()
        .position(|b| *b == b'\n')
        .map(|length| from + length + 1)
}

fn find(body: &[u8], needle: &[u8], from: usize) -> Option<usize> {
    let rest = body.get(from..)?;
    let found = rest.windows(needle.len()).position(|window| window == needle);
    found.map(|at| from + at)
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn answer(kind: &str, body: &[u8]) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", kind.parse().unwrap());
        Answer {
            status: StatusCode::OK,
            headers,
            body: body.to_vec().into(),
            cut: false,
        }
    }

    /// As Google's documentation shows an answer.
    const BATCH: &str = "--batch_x\r\nContent-Type: application/http\r\nContent-ID: <response-item-1>\r\n\r\n\
        HTTP/1.1 404 Not Found\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{\r\n \"error\": {}\r\n}\r\n\
        --batch_x\r\nContent-Type: application/http\r\nContent-ID: <response-item-0>\r\n\r\n\
        HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 10\r\n\r\n{\"id\": \"a\"}\r\n\
        --batch_x\r\nContent-Type: application/http\r\nContent-ID: response-item-2\r\n\r\n\
        HTTP/1.1 204 No Content\r\n\r\n\r\n--batch_x--\r\n";

    #[test]
    fn a_part_with_headers_without_end_is_none() {
        let mut body = b"--b\r\nContent-ID: <response-item-0>\r\n\r\nHTTP/1.1 200 OK\r\n".to_vec();
        for n in 0..40_000 {
            body.extend_from_slice(format!("x-{n}: 1\r\n").as_bytes());
        }
        body.extend_from_slice(
            b"\r\n{}\r\n--b\r\nContent-ID: <response-item-1>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n\r\n--b--",
        );
        let read = read(&answer("multipart/mixed; boundary=b", &body), 2).unwrap();
        let statuses = read.iter().map(|part| part.as_ref().map(|part| part.status));
        assert_eq!(statuses.collect::<Vec<_>>(), [None, Some(StatusCode::NO_CONTENT)]);
    }

    #[test]
    fn each_answer_is_found_by_its_name() {
        for kind in [
            "multipart/mixed; boundary=batch_x",
            "Multipart/Mixed; Boundary=\"batch_x\"; charset=x",
        ] {
            let read = read(&answer(kind, BATCH.as_bytes()), 4).unwrap();
            let status = |at: usize| read[at].as_ref().map(|answer| answer.status.as_u16());
            assert_eq!([0, 1, 2, 3].map(status), [Some(200), Some(404), Some(204), None]);
            let first = read[0].as_ref().unwrap();
            assert_eq!(&first.body[..], b"{\"id\": \"a\"}");
            assert_eq!(first.headers["etag"], "\"e\"");
        }
        // With bare line feeds, too.
        let bare = BATCH.replace('\r', "").replace("Content-Length: 10\n", "");
        let read = read(&answer("multipart/mixed; boundary=batch_x", bare.as_bytes()), 3).unwrap();
        assert!(read.iter().all(Option::is_some));
    }

    #[test]
    fn answers_that_are_broken() {
        let kind = "multipart/mixed; boundary=batch_x";
        for none in [
            "application/json",
            "multipart/mixed",
            "multipart/mixed; boundary=",
            "multipart",
        ] {
            assert!(read(&answer(none, BATCH.as_bytes()), 3).is_none(), "{none}");
        }
        let ends: Vec<usize> = BATCH.match_indices("--batch_x").map(|(at, _)| at + 9).collect();
        for length in 0..BATCH.len() {
            let cut = read(&answer(kind, &BATCH.as_bytes()[..length]), 3).unwrap();
            // What is not there to its end is not there.
            let whole = ends[1..].iter().filter(|end| **end <= length).count();
            assert_eq!(cut.iter().flatten().count(), whole, "{length}");
        }
        for (what, with) in [
            ("HTTP/1.1 200 OK", "HTTP/1.1 9999 OK"),
            ("HTTP/1.1 200 OK", "200 OK"),
            ("HTTP/1.1 200 OK", "\u{fffd}"),
            ("<response-item-0>", "<response-item-7>"),
            ("<response-item-0>", "<response-item--1>"),
            ("<response-item-0>", "nonsense"),
            ("Content-Length: 10", "Content-Length: 11111"),
        ] {
            let body = BATCH.replace(what, with);
            let read = read(&answer(kind, body.as_bytes()), 3).unwrap();
            assert!(read[0].is_none() && read[1].is_some(), "{with}");
        }
        let twice = BATCH.replace("item-1", "item-0");
        assert_eq!(
            read(&answer(kind, twice.as_bytes()), 1).unwrap()[0]
                .as_ref()
                .unwrap()
                .status,
            404
        );
    }

    #[test]
    fn calls_are_written_one_after_the_other() {
        let get = Call {
            method: Method::GET,
            path: "/files/a?fields=id".into(),
            body: None,
            max_age: None,
        };
        let patch = Call {
            method: Method::PATCH,
            path: "/files/b".into(),
            body: Some(serde_json::json!({"name": "--x\r\n--x"})),
            max_age: None,
        };
        let text = write(&[(&get, Some("\"e\"")), (&patch, Some("bad\r\nvalue"))], "x");
        assert_eq!(
            text,
            "--x\r\nContent-Type: application/http\r\nContent-ID: <item-0>\r\n\r\n\
             GET /drive/v3/files/a?fields=id HTTP/1.1\r\nIf-None-Match: \"e\"\r\n\r\n\
             --x\r\nContent-Type: application/http\r\nContent-ID: <item-1>\r\n\r\n\
             PATCH /drive/v3/files/b HTTP/1.1\r\nContent-Type: application/json; charset=UTF-8\r\n\
             Content-Length: 21\r\n\r\n{\"name\":\"--x\\r\\n--x\"}\r\n--x--\r\n"
        );
    }
}
