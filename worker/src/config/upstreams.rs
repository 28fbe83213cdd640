//! Where a service's calls go, and what takes one of its upstreams out of service.

use reqwest::Url;
use shared::breaker::Rule;
use shared::breaker::record::MAX_UPSTREAMS;
use shared::config::Reader;
use shared::config::reader::without_password;
use shared::config::value::list;

use crate::handler::Kind;
use crate::handler::kind::NO_URL;

/// Reads `_URL` and `_BREAKER`.
pub(super) fn read(reader: &mut Reader<'_>, prefix: &str, kind: &Kind) -> (Vec<String>, Option<Rule>) {
    if kind.url == NO_URL {
        return (vec![NO_URL.to_owned()], None);
    }
    let name = format!("{prefix}_URL");
    let default: Vec<_> = list(kind.url);
    let urls = reader.with(&name, default, urls, |urls| {
        let shown: Vec<_> = urls.iter().map(|url| without_password(url)).collect();
        shown.join(",")
    });
    if urls.is_empty() && !reader.has_problem(&name) {
        reader.problem(&name, "is missing: where events of this service are delivered");
    }
    let breaker = format!("{prefix}_BREAKER");
    let rule = reader.with(
        &breaker,
        Some(Rule::default()),
        |text| match text {
            "off" => Ok(None),
            rule => rule.parse().map(Some),
        },
        |rule| rule.map_or("off".into(), |rule| rule.to_string()),
    );
    if rule.is_none() && urls.len() > 1 {
        reader.problem(
            &breaker,
            format!("is off, but {name} names several: only a breaker leads from one to the next"),
        );
    }
    (urls, rule)
}

fn urls(text: &str) -> Result<Vec<String>, String> {
    let mut urls: Vec<String> = Vec::new();
    for part in list(text) {
        let shown = without_password(&part);
        if !part.starts_with("http://") && !part.starts_with("https://") {
            return Err(format!("{shown:?} must begin with http:// or https://"));
        }
        Url::parse(&part).map_err(|error| format!("{shown:?} is no URL: {error}"))?;
        let url = part.trim_end_matches('/').to_owned();
        if urls.contains(&url) {
            return Err(format!("{shown:?} is named twice"));
        }
        urls.push(url);
    }
    match urls.len() {
        0 => Err("names no URL".into()),
        n if n > MAX_UPSTREAMS as usize => Err(format!("names {n} URLs, more than {MAX_UPSTREAMS}")),
        _ => Ok(urls),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]

    use std::collections::BTreeMap;

    use shared::config::Problems;

    use super::*;

    fn github(settings: &[(&str, &str)]) -> Result<(Vec<String>, Option<Rule>), Problems> {
        let named =
            |(name, value): &(&str, &str)| (format!("WEIR_SERVICE_GITHUB_{name}"), (*value).to_owned());
        let environment: BTreeMap<_, _> = settings.iter().map(named).collect();
        let mut reader = Reader::new(&environment);
        let value = read(&mut reader, "WEIR_SERVICE_GITHUB", &crate::handler::github::KIND);
        reader.finish(&[], value).map(|(value, _)| value)
    }

    #[test]
    fn several_upstreams_need_a_breaker() {
        let several = ("URL", "https://a.example/, https://b.example");
        let (urls, breaker) = github(&[several]).unwrap();
        assert_eq!(urls, ["https://a.example", "https://b.example"]);
        assert_eq!(breaker, Some(Rule::default()));
        let (urls, breaker) = github(&[("BREAKER", "off")]).unwrap();
        assert_eq!((urls.len(), breaker), (1, None));
        let Problems(lines) = github(&[several, ("BREAKER", "off")]).unwrap_err();
        assert!(
            lines[0].contains("WEIR_SERVICE_GITHUB_BREAKER is off, but"),
            "{lines:?}"
        );
    }

    #[test]
    fn one_or_several_in_order() {
        assert_eq!(urls("https://a.example/").unwrap(), ["https://a.example"]);
        let several = "https://a.example/x, http://me:hunter2@b.example";
        assert_eq!(
            urls(several).unwrap(),
            ["https://a.example/x", "http://me:hunter2@b.example"]
        );
        let many: Vec<_> = (0..17).map(|n| format!("http://h{n}")).collect();
        for (bad, why) in [
            (",", "names no URL"),
            ("ftp://x", "must begin with http:// or https://"),
            ("http://a, b", "must begin with"),
            ("http://", "is no URL"),
            ("http://me:hunter2@a:99999", "is no URL"),
            ("http://a, http://a/", "is named twice"),
            (&many.join(","), "more than 16"),
        ] {
            let said = urls(bad).unwrap_err();
            assert!(said.contains(why) && !said.contains("hunter2"), "{bad}: {said}");
        }
    }
}
