//! Server-sent events as they come in pieces: pure, bounded.

/// Longest event, in bytes; makers' events are a few hundred.
const MAX_EVENT: usize = 1024 * 1024;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// Its name; empty where it has none.
    pub(super) name: String,
    /// Its data, lines joined.
    pub(super) data: String,
}

/// Why a stream cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Bad {
    /// An event without an end.
    #[error("an event of the stream is longer than {MAX_EVENT} bytes")]
    TooLong,
    /// Bytes that are no text.
    #[error("the stream is no UTF-8")]
    NotText,
}

/// Puts events together.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    line: Vec<u8>,
    /// The last byte was a carriage return: a line feed after it ends no other line.
    returned: bool,
    name: String,
    data: Option<String>,
}

impl Decoder {
    /// Takes the next bytes, and gives the events that they end.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, Bad> {
        let mut events = Vec::new();
        for &byte in bytes {
            let after_return = std::mem::replace(&mut self.returned, byte == b'\r');
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => events.extend(self.end_of_line()?),
                _ if self.line.len() + self.data.as_ref().map_or(0, String::len) >= MAX_EVENT => {
                    return Err(Bad::TooLong);
                }
                _ => self.line.push(byte),
            }
        }
        Ok(events)
    }

    fn end_of_line(&mut self) -> Result<Option<Event>, Bad> {
        let line = std::mem::take(&mut self.line);
        let line = std::str::from_utf8(&line).map_err(|_| Bad::NotText)?;
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            return Ok(self.data.take().map(|data| Event { name, data }));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field.trim_start_matches('\u{feff}') {
            "event" => value.clone_into(&mut self.name),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            // Comments, ids and what nobody knows.
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8], piece: usize) -> Result<Vec<(String, String)>, Bad> {
        let mut decoder = Decoder::default();
        let mut events = Vec::new();
        for bytes in bytes.chunks(piece) {
            events.extend(decoder.push(bytes)?);
        }
        Ok(events.into_iter().map(|event| (event.name, event.data)).collect())
    }

    fn pair(name: &str, data: &str) -> (String, String) {
        (name.into(), data.into())
    }

    #[test]
    fn events_in_any_pieces_and_with_any_line_ends() {
        let plain = ": hello\n\nevent: ping\ndata: {}\n\ndata:a\ndata:  b\nid: 7\n\nevent: lost\n\ndata\n\n";
        let expected = [pair("ping", "{}"), pair("", "a\n b"), pair("", "")];
        for ends in ["\n", "\r\n", "\r"] {
            let text = plain.replace('\n', ends);
            for piece in [1, 2, 3, 7, 4096] {
                assert_eq!(all(text.as_bytes(), piece).unwrap(), expected, "{ends:?} {piece}");
            }
        }
        assert_eq!(
            all("data: ä\n\ndata: cut".as_bytes(), 1).unwrap(),
            [pair("", "ä")]
        );
    }

    #[test]
    fn what_is_no_text_or_has_no_end_is_refused() {
        assert_eq!(all(b"data: \xff\n\n", 3), Err(Bad::NotText));
        assert_eq!(all(&vec![b'x'; MAX_EVENT + 1], 4096), Err(Bad::TooLong));
        let lines = "data: xxxxxxxxxxxxxxxx\n".repeat(MAX_EVENT / 16);
        assert_eq!(all(lines.as_bytes(), 4096), Err(Bad::TooLong));
    }
}
