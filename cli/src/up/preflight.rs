//! The services' own word on their settings, asked before any server is started.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use shared::config::{Environment as _, Problems};
use tokio::process::Command;

use super::part::{Binaries, NOT_FOR_SERVICES};
use crate::args::Up;
use crate::failure::Failure;
use crate::fleet::Overlay;
use crate::terminal;

/// How long a program may take to read its settings.
const WITHIN: Duration = Duration::from_secs(10);
/// A private database has no URL yet, and a worker refuses to be without one.
const SOME_DATABASE: &str = "postgres://127.0.0.1/weir";

/// What the services say of the settings that they would get.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// A line each; services that read the same setting say the same.
    problems: Vec<String>,
    /// What a worker has in effect, secrets hidden.
    pub(super) worker: BTreeMap<String, String>,
}

/// Runs each program that this start needs with `--print-config`.
pub(super) async fn ask(up: &Up, flags: &Overlay, binaries: &Binaries) -> Result<Verdict, Failure> {
    let mut told = flags.clone();
    told.fallback("WEIR_POSTGRES_URL", SOME_DATABASE);
    for (name, flag) in [
        ("WEIR_INGEST_LISTEN", up.ingest_listen),
        ("WEIR_SCHEDULER_LISTEN", up.scheduler_listen),
    ] {
        if let Some(address) = flag {
            told.set(name, address.to_string());
        }
    }
    // Each worker gets a port of its own, whatever is said here.
    told.set("WEIR_WORKER_LISTEN", "127.0.0.1:8081");
    let mut verdict = Verdict::default();
    for (program, is_worker) in [
        (&binaries.ingest, false),
        (&binaries.worker, true),
        (&binaries.scheduler, false),
    ] {
        let Some(program) = program else { continue };
        let output = print_config(program, &told).await?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        let stderr = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            if is_worker {
                let pairs = stdout.lines().filter_map(|line| line.split_once('='));
                verdict.worker = pairs.map(|(name, value)| (name.into(), value.into())).collect();
            }
            continue;
        }
        let problems: Vec<_> = stderr
            .lines()
            .filter_map(|line| line.strip_prefix("  "))
            .collect();
        if problems.is_empty() {
            return Err(Failure::Failed(format!(
                "{} cannot read its settings: {}: {}",
                program.display(),
                output.status,
                terminal::clean(stderr.trim(), 400)
            )));
        }
        verdict.problems.extend(problems.into_iter().map(str::to_owned));
    }
    Ok(verdict)
}

async fn print_config(program: &Path, told: &Overlay) -> Result<Output, Failure> {
    let mut command = Command::new(program);
    command
        .arg("--print-config")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    for name in NOT_FOR_SERVICES {
        command.env_remove(name);
    }
    for name in told.changed() {
        command.env_remove(format!("{name}_FILE"));
        command.env(name, told.get(name).unwrap_or_default());
    }
    match tokio::time::timeout(WITHIN, command.output()).await {
        Ok(output) => output.map_err(Failure::at(program.display())),
        Err(_) => Err(Failure::Failed(format!(
            "{} did not read its settings within {} s",
            program.display(),
            WITHIN.as_secs()
        ))),
    }
}

impl Verdict {
    /// Fails with all that is wrong, `own` being what this program found itself.
    pub(super) fn finish<T>(&self, own: Result<T, Problems>) -> Result<T, Failure> {
        let (value, own) = match own {
            Ok(value) => (Some(value), Vec::new()),
            Err(Problems(lines)) => (None, lines),
        };
        match (value, merged(&own, &self.problems)) {
            (Some(value), lines) if lines.is_empty() => Ok(value),
            (_, lines) => Err(Failure::Usage(format!(
                "{}\n--help of weir-ingest, weir-worker and weir-scheduler lists the settings.",
                Problems(lines)
            ))),
        }
    }
}

/// Each problem once. Our words win over a service's for the same setting; of the lines about an unknown setting, of
/// which each program knows other neighbours, the one with the nearest neighbour stays.
fn merged(own: &[String], services: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in own.iter().chain(services) {
        if lines.contains(line) {
            continue;
        }
        let name = name(line);
        if is_unknown(line) {
            match lines
                .iter_mut()
                .find(|other| self::name(other) == name && is_unknown(other))
            {
                Some(other) if nearness(other) < nearness(line) => other.clone_from(line),
                Some(_) => {}
                None => lines.push(line.clone()),
            }
        } else if own.contains(line) || !own.iter().any(|other| self::name(other) == name) {
            lines.push(line.clone());
        }
    }
    lines
}

fn name(line: &str) -> &str {
    line.split(' ').next().unwrap_or_default()
}

fn is_unknown(line: &str) -> bool {
    line.contains(" is unknown")
}

/// How far the unknown name and the one suggested for it are the same.
fn nearness(line: &str) -> usize {
    let suggested = line.rsplit_once("did you mean ").map_or("", |(_, name)| name);
    name(line)
        .chars()
        .zip(suggested.chars())
        .take_while(|(a, b)| a == b)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_problem_is_told_once() {
        let lines = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let own = lines(&["WEIR_POSTGRES_URL must be ours", "WEIR_TOKEN is unknown"]);
        let services = lines(&[
            "WEIR_TOKEN is unknown: did you mean WEIR_TOKENS?",
            "WEIR_STREAM_REPLICAS is 2",
            "WEIR_TOKEN is unknown: did you mean WEIR_LOG?",
            "WEIR_POSTGRES_URL must be theirs",
            "WEIR_STREAM_REPLICAS is 2",
        ]);
        assert_eq!(
            merged(&own, &services),
            [
                "WEIR_POSTGRES_URL must be ours",
                "WEIR_TOKEN is unknown: did you mean WEIR_TOKENS?",
                "WEIR_STREAM_REPLICAS is 2",
            ]
        );
    }
}
