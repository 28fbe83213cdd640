//! Paths that events name: they stay within the API.

/// `None` for a path that might lead out of the API that it is appended to, or break the request.
pub(super) fn safe_path(path: &str) -> Option<()> {
    let rooted = path.starts_with('/') && !path.starts_with("//");
    let clean = path
        .chars()
        .all(|c| !c.is_control() && c != '\\' && c != ' ' && c != '#');
    // An encoded dot is a dot to whoever parses the URL.
    let inside =
        path.split(['/', '?']).all(|part| part != "..") && !path.to_ascii_lowercase().contains("%2e");
    (rooted && clean && inside).then_some(())
}
