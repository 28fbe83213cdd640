//! Several calls in one body, and their answers.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use crate::provider::exchange::{Ask, Reply};

const BOUNDARY: &str = "batch_simulated";

/// The calls of a batch with their names; `None` when it is none.
pub(super) fn parts(ask: &Ask) -> Option<Vec<(String, Ask)>> {
    let kind = ask.header("content-type")?;
    let boundary = kind
        .strip_prefix("multipart/mixed")?
        .split("boundary=")
        .nth(1)?
        .trim_matches('"');
    let text = std::str::from_utf8(&ask.body).ok()?;
    let (body, _) = text.split_once(&format!("--{boundary}--"))?;
    let delimiter = format!("--{boundary}\r\n");
    let parts = body.split(&delimiter).filter(|part| !part.is_empty());
    parts.map(|part| one(part, ask)).collect()
}

fn one(part: &str, outer: &Ask) -> Option<(String, Ask)> {
    let (head, rest) = part.split_once("\r\n\r\n")?;
    let name = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-ID: <"))?
        .strip_suffix('>')?;
    let (request, body) = rest.split_once("\r\n\r\n").unwrap_or((rest.trim_end(), ""));
    let mut lines = request.lines();
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?.parse::<Method>().ok()?, words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers: HeaderMap = lines
        .filter_map(|line| {
            let (name, value) = line.split_once(": ")?;
            Some((
                name.parse::<HeaderName>().ok()?,
                HeaderValue::from_str(value).ok()?,
            ))
        })
        .collect();
    if let Some(credential) = outer.headers.get(header::AUTHORIZATION) {
        headers.insert(header::AUTHORIZATION, credential.clone());
    }
    let ask = Ask {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body: Bytes::copy_from_slice(body.trim_end().as_bytes()),
    };
    Some((name.to_owned(), ask))
}

/// The answers as one.
pub(super) fn answer(answers: &[(String, Reply)]) -> Reply {
    let mut body = Vec::new();
    for (name, reply) in answers {
        let head = format!(
            "--{BOUNDARY}\r\nContent-Type: application/http\r\nContent-ID: <response-{name}>\r\n\r\nHTTP/1.1 {}\r\n",
            reply.status
        );
        body.extend_from_slice(head.as_bytes());
        for (name, value) in &reply.headers {
            body.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        body.extend_from_slice(&[b"\r\n", &reply.body[..], b"\r\n"].concat());
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    let mut reply = Reply::empty(StatusCode::OK);
    reply.body = body.into();
    reply.with("content-type", format!("multipart/mixed; boundary={BOUNDARY}"))
}
