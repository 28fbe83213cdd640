//! Requests and answers as text: header lines, an empty line, the body. Bytes that begin like a payload are a body alone.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// A request or an answer.
#[derive(Debug, Default)]
pub struct Request {
    /// Its headers; those whose name begins with `x-check-` are for the check and are not here.
    pub headers: HeaderMap,
    /// What the check is told: header lines `x-check-<name>: <value>`.
    told: Vec<(String, Vec<u8>)>,
    /// Its body.
    pub body: Bytes,
}

impl Request {
    /// Reads one. Whatever the bytes are, they are one; lines that are no header are left out, as a server would refuse
    /// them before any of our code sees them.
    pub fn read(bytes: &[u8]) -> Self {
        let payload = matches!(bytes.first(), None | Some(b'{' | b'[' | 0x80..));
        let cut = bytes.windows(2).position(|pair| pair == b"\n\n");
        let (head, body) = match cut {
            Some(at) if !payload => (&bytes[..at], &bytes[at + 2..]),
            _ => (&[][..], bytes),
        };
        let mut request = Self {
            body: Bytes::copy_from_slice(body),
            ..Self::default()
        };
        for line in head.split(|b| *b == b'\n').take(100) {
            let Some(colon) = line.iter().position(|b| *b == b':') else {
                continue;
            };
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            let Ok(name) = HeaderName::from_bytes(name) else {
                continue;
            };
            if let Some(told) = name.as_str().strip_prefix("x-check-") {
                request.told.push((told.to_owned(), value.to_vec()));
            } else if let Ok(value) = HeaderValue::from_bytes(value) {
                request.headers.append(name, value);
            }
        }
        request
    }

    /// What the check is told under a name, as text.
    pub fn told(&self, name: &str) -> Option<&str> {
        let (_, value) = self.told.iter().find(|(known, _)| known == name)?;
        std::str::from_utf8(value).ok()
    }

    /// What the check is told under a name, as a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.told(name)?.parse().ok()
    }
}
