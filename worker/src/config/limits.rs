//! The limits of a service as settings: what the provider allows, and what the user says instead.

use std::collections::BTreeSet;
use std::time::Duration;

use shared::config::Reader;
use shared::limiter::Rule;

use crate::limits::{Set, Table};
use crate::provider::{Provider, slack};

/// Limits of one service.
const MOST_LIMITS: usize = 64;

/// Reads `_LIMIT` and `_LIMITS` over the provider's own limits.
pub(crate) fn read(reader: &mut Reader<'_>, prefix: &str, provider: Provider, ahead: Duration) -> Table {
    let (limit, limits) = (format!("{prefix}_LIMIT"), format!("{prefix}_LIMITS"));
    let own: Table = preset(provider);
    let requests = own.get("requests").map(|set| set.rule);
    let requests = reader.with(
        &limit,
        requests,
        |text| match text {
            "none" => Ok(None),
            text => text.parse().map(Some),
        },
        |rule| rule.map_or("none".into(), |rule| rule.to_string()),
    );
    let mut rest = own;
    rest.remove("requests");
    let default = rest.clone();
    let mut table = reader.with(
        &limits,
        rest,
        |text| changed(&default, text),
        |table| show(&default, table),
    );
    if let Some(rule) = requests {
        let named = table.insert("requests".into(), set(rule));
        if named.is_some() {
            reader.problem(&limits, format!("says `requests`, which is {limit}"));
        }
    }
    if table.len() > MOST_LIMITS {
        reader.problem(
            &limits,
            format!("names {} limits: at most {MOST_LIMITS} are kept", table.len()),
        );
    }
    for (name, set) in &table {
        let setting = if name == "requests" { &limit } else { &limits };
        if let Err(what) = crate::live::check(name, set.rule, provider, ahead) {
            reader.problem(setting, what);
        }
    }
    table
}

fn set(rule: Rule) -> Set {
    Set { rule, shadow: false }
}

fn preset(provider: Provider) -> Table {
    let presets = provider
        .preset()
        .iter()
        .map(|preset| (preset.dimension, preset.rule));
    let channel = (provider == Provider::Slack).then_some(("channel", slack::CHANNEL));
    presets
        .chain(channel)
        .filter_map(|(name, rule)| Some((name.to_owned(), set(rule.parse().ok()?))))
        .collect()
}

/// `name: rule; name: rule`, where `none` for a rule takes the provider's own away, and `none` alone all of them.
fn changed(own: &Table, text: &str) -> Result<Table, String> {
    if text.trim() == "none" {
        return Ok(Table::new());
    }
    let mut table = own.clone();
    let mut seen = BTreeSet::new();
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, rule) = part
            .rsplit_once(": ")
            .ok_or_else(|| format!("{part:?} is no limit: write `name: 5000 per hour; name: 100 at once`"))?;
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
        if !(1..=64).contains(&name.len()) || !name.bytes().all(fits) {
            return Err(format!(
                "{name:?} is no name of a limit: letters, digits, - _ . and : make one"
            ));
        }
        if !seen.insert(name) {
            return Err(format!("names {name} twice"));
        }
        if rule.trim() == "none" {
            table.remove(name);
        } else {
            let rule = rule.parse().map_err(|what| format!("{name}: {what}"))?;
            table.insert(name.to_owned(), set(rule));
        }
    }
    Ok(table)
}

/// In the words that [`changed`] reads: those of the provider's own that are gone are told too.
fn show(own: &Table, table: &Table) -> String {
    if table.is_empty() {
        return "none".into();
    }
    let kept = table.iter().map(|(name, set)| format!("{name}: {}", set.rule));
    let gone = own.keys().filter(|name| !table.contains_key(*name));
    let parts: Vec<_> = kept.chain(gone.map(|name| format!("{name}: none"))).collect();
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_providers_own_limits_are_changed_by_name() {
        let own = preset(Provider::Github);
        assert_eq!(own["requests"].rule.to_string(), "5000 per hour, burst 100");
        assert_eq!(own["at-once"].rule, Rule::AtOnce(100));
        assert!(preset(Provider::Slack).contains_key("channel"));
        let table = changed(
            &own,
            "points: none; content: 20 per minute, burst 5; method:chat.update: 1 at once",
        )
        .unwrap();
        assert!(!table.contains_key("points"));
        assert_eq!(table["content"].rule.to_string(), "20 per minute, burst 5");
        assert_eq!(table["method:chat.update"].rule, Rule::AtOnce(1));
        assert_eq!(changed(&own, "none"), Ok(Table::new()));
        assert_eq!(changed(&own, &show(&own, &own)), Ok(own.clone()));
        assert_eq!(changed(&own, &show(&own, &table)), Ok(table));
        for bad in [
            "points",
            "points 5 per hour",
            "points: lots",
            "a b: 5 per hour",
            ": 5 per hour",
            "points: 0 per hour",
            "points: 5 per hour; points: 900 per minute, burst 5",
            "points: none; points: 5 per hour",
        ] {
            assert!(changed(&own, bad).is_err(), "{bad}");
        }
    }
}
