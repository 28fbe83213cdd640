//! Paths that events name: they stay within the API.

/// `None` for a path that might lead out of the API that it is appended to, break the request, or be another name of a place.
pub(super) fn safe_path(path: &str) -> Option<()> {
    let rooted = path.starts_with('/') && !path.starts_with("//");
    let clean = path
        .chars()
        .all(|c| !c.is_control() && c != '\\' && c != ' ' && c != '#');
    let inside = path.split(['/', '?']).all(|part| part != "..");
    let place = path.split('?').next().unwrap_or_default();
    let one_name = place.split('/').all(|part| part != ".") && !escapes_plain(place);
    (rooted && clean && inside && one_name).then_some(())
}

/// Whether a letter, digit, `-`, `.`, `_` or `~` is percent-encoded. Whoever parses the URL takes it for itself: the same place
/// would have another name, and an encoded dot is a dot.
fn escapes_plain(place: &str) -> bool {
    let plain = |code: &str| {
        let code = u8::from_str_radix(code, 16).unwrap_or_default();
        code.is_ascii_alphanumeric() || b"-._~".contains(&code)
    };
    let mut parts = place.split('%').skip(1);
    parts.any(|part| part.get(..2).is_some_and(plain))
}
