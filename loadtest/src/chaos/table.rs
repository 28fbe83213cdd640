//! What came of the scenarios, as a table in a Markdown file.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::{Scenario, Told, Trouble};

/// Between these two lines a file has the table.
const MARKS: [&str; 2] = ["<!-- chaos: begin -->", "<!-- chaos: end -->"];

/// One scenario, played with some seeds.
#[derive(Debug)]
pub struct Played {
    /// What it is called.
    pub name: String,
    /// What happens.
    pub what: String,
    /// What came of it, by seed.
    pub runs: Vec<(u64, Result<Told, Trouble>)>,
}

impl Played {
    /// Not played yet.
    pub fn new(scenario: &Scenario) -> Self {
        Self {
            name: scenario.name.clone(),
            what: scenario.what.clone(),
            runs: Vec::new(),
        }
    }

    /// Whether everything was played and held.
    pub fn holds(&self) -> bool {
        self.runs
            .iter()
            .all(|(_, run)| run.as_ref().is_ok_and(Told::holds))
    }

    fn told(&self) -> impl Iterator<Item = &Told> {
        self.runs.iter().filter_map(|(_, run)| run.as_ref().ok())
    }

    fn row(&self) -> String {
        let sum = |of: fn(&Told) -> u64| self.told().map(of).sum::<u64>();
        let account = [
            sum(|told| told.account.accepted),
            sum(|told| told.account.done),
            sum(|told| told.account.dead),
            sum(|told| told.account.waiting),
            sum(|told| told.account.lost + told.account.doubled),
            sum(|told| told.effects_twice),
            sum(|told| told.effects_missing),
            sum(|told| told.delivered_again),
        ];
        let account: Vec<String> = account.iter().map(u64::to_string).collect();
        let mut times: Vec<Duration> = self.told().filter_map(|told| told.recovery).collect();
        times.sort_unstable();
        let back = match (times.first(), times.last()) {
            (Some(least), Some(most)) => format!("{:.1}–{:.1} s", least.as_secs_f64(), most.as_secs_f64()),
            _ => "–".to_owned(),
        };
        let holds = if self.holds() { "yes" } else { "**no**" };
        format!(
            "| `{}`: {} | {} | {} | {back} | {holds} |",
            self.name,
            self.what,
            self.runs.len(),
            account.join(" | ")
        )
    }
}

/// The table.
pub fn table(played: &[Played]) -> String {
    let mut lines = vec![
        "| scenario | runs | acknowledged | done | dead | waiting | lost or in two places | effects twice | done without effect | webhooks again | back after | holds |".to_owned(),
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|".to_owned(),
    ];
    lines.extend(played.iter().map(Played::row));
    for one in played.iter().filter(|one| !one.holds()) {
        lines.push(String::new());
        lines.push(format!("`{}` does not hold:", one.name));
        for (seed, run) in &one.runs {
            let why = match run {
                Ok(told) => told.problems.join("; "),
                Err(trouble) => trouble.to_string(),
            };
            if !why.is_empty() {
                lines.push(format!(
                    "- seed {seed}: {}",
                    why.lines().next().unwrap_or_default()
                ));
            }
        }
    }
    lines.join("\n") + "\n"
}

/// Puts the table into the file, in the place of the one that is there.
pub fn put(path: &Path, table: &str) -> io::Result<()> {
    let text = fs::read_to_string(path)?;
    let [begin, end] = MARKS;
    let missing = || io::Error::other(format!("{} has no lines {begin} and {end}", path.display()));
    let (before, rest) = text.split_once(begin).ok_or_else(missing)?;
    let (_, after) = rest.split_once(end).ok_or_else(missing)?;
    fs::write(path, format!("{before}{begin}\n{table}{end}{after}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]
    use super::*;

    #[test]
    fn a_table_takes_the_place_of_the_last_one() {
        let told = Told {
            recovery: Some(Duration::from_millis(1_500)),
            ..Told::default()
        };
        let bad = Told {
            problems: vec!["2 events are lost".into()],
            ..told.clone()
        };
        let played = |name: &str, runs| Played {
            name: name.into(),
            what: "it breaks".into(),
            runs,
        };
        let all = [
            played("good", vec![(1, Ok(told))]),
            played(
                "bad",
                vec![(1, Ok(bad)), (2, Err(Trouble::Failed("late".into())))],
            ),
        ];
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("doc.md");
        fs::write(
            &file,
            "before\n<!-- chaos: begin -->\nold\n<!-- chaos: end -->\nafter\n",
        )
        .unwrap();
        put(&file, &table(&all)).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert!(
            text.starts_with("before\n") && text.ends_with("-->\nafter\n"),
            "{text}"
        );
        assert!(!text.contains("old"), "{text}");
        assert!(
            text.contains("| `good`: it breaks | 1 | 0 |") && text.contains("1.5–1.5 s | yes |"),
            "{text}"
        );
        assert!(
            text.contains("- seed 1: 2 events are lost") && text.contains("- seed 2: late"),
            "{text}"
        );
        assert!(put(&file.with_extension("none"), "").is_err());
    }
}
