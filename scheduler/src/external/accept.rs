//! In which form somebody wants the answer: the header `Accept`, as far as Kubernetes' clients use it.

use axum::http::{HeaderMap, header};

/// Most media types that are looked at.
const MOST: usize = 32;

/// A media type that is wanted: its parameters `g`, `v` and `as`, all `None` for plain JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted<'h> {
    /// API group of what it is wanted as.
    pub group: Option<&'h str>,
    /// Version of that.
    pub version: Option<&'h str>,
    /// Kind of that.
    pub kind: Option<&'h str>,
}

impl Wanted<'_> {
    /// JSON as it comes.
    pub const PLAIN: Self = Wanted {
        group: None,
        version: None,
        kind: None,
    };
}

/// What is wanted and is JSON, best first; those of equal weight as they stand. Plain JSON when the header says nothing.
pub fn wanted(headers: &HeaderMap) -> Vec<Wanted<'_>> {
    let lines = headers.get_all(header::ACCEPT).into_iter();
    let mut parts = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .take(MOST)
        .peekable();
    if parts.peek().is_none() {
        return vec![Wanted::PLAIN];
    }
    let mut read: Vec<_> = parts.filter_map(part).collect();
    read.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    read.into_iter().map(|(_, wanted)| wanted).collect()
}

fn part(part: &str) -> Option<(f32, Wanted<'_>)> {
    let mut pieces = part.split(';').map(str::trim);
    let media = pieces.next()?;
    let json = ["application/json", "application/*", "*/*"];
    if !json.iter().any(|known| media.eq_ignore_ascii_case(known)) {
        return None;
    }
    let (mut weight, mut wanted) = (1.0, Wanted::PLAIN);
    for piece in pieces {
        let (name, value) = piece.split_once('=')?;
        match name.trim() {
            "q" => weight = value.trim().parse().ok().filter(|q| (0.0..=1.0).contains(q))?,
            "g" => wanted.group = Some(value.trim()),
            "v" => wanted.version = Some(value.trim()),
            "as" => wanted.kind = Some(value.trim()),
            _ => {}
        }
    }
    (weight > 0.0).then_some((weight, wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(accept: &str) -> Vec<(Option<String>, Option<String>)> {
        let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
        let own = |text: Option<&str>| text.map(str::to_owned);
        wanted(&headers)
            .iter()
            .map(|w| (own(w.kind), own(w.version)))
            .collect()
    }

    #[test]
    fn the_best_that_is_json_comes_first() {
        assert_eq!(wanted(&HeaderMap::new()), [Wanted::PLAIN]);
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        let table = |version: &str| (Some("Table".to_owned()), Some(version.to_owned()));
        assert_eq!(read(kubectl), [table("v1"), table("v1beta1"), (None, None)]);
        assert_eq!(
            read("application/json;as=Table;v=v1;q=0.5, */*"),
            [(None, None), table("v1")]
        );
        assert_eq!(read("application/vnd.kubernetes.protobuf, */*"), [(None, None)]);
        for none in [
            "application/vnd.kubernetes.protobuf",
            "text/html",
            "application/json;q=0",
            "application/json;q=NaN",
            "*/*;q",
        ] {
            assert!(read(none).is_empty(), "{none}");
        }
    }
}
