//! What is shown when everything runs: where it is, and what to do next.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use super::calls::calls;
use super::short;
use crate::fleet::{DATA, FleetFile};
use crate::tables::Columns;

/// The table and lines ready to paste. `data` is the data folder, `worker` what a worker has in effect.
pub(super) fn page(fleet: &FleetFile, data: &Path, worker: &BTreeMap<String, String>) -> String {
    let mut columns = Columns::new(&["part", "url", "#pid", "log"]);
    for part in &fleet.parts {
        columns.row([
            part.name.clone(),
            part.url.clone(),
            part.pid.map_or("given".to_owned(), |pid| pid.to_string()),
            part.log
                .as_deref()
                .map(short)
                .map(|log| log.display().to_string())
                .unwrap_or_default(),
        ]);
    }
    let mut text = format!("\n{}\n", columns.text());
    let calls = calls(&fleet.services, worker);
    if !calls.is_empty() {
        let _ = writeln!(text, "\nCalls go to:\n  {}", calls.join("\n  "));
    }
    let service = fleet.services.first().map_or("github", String::as_str);
    // What a handler of this name can do without a credential of the reader's.
    let (kind, example) = if service == "github" {
        ("call", "{\"path\":\"/zen\"}")
    } else {
        ("hello", "{\"text\":\"hello\"}")
    };
    match (&fleet.ingest_url, fleet.token_file.as_deref().map(short)) {
        (Some(url), Some(file)) => {
            let _ = write!(
                text,
                "\nSend an event over HTTP:\n  curl -sS {url}/v1/events/{service} \\\n    \
                 -H \"Authorization: Bearer $(cat {})\" \\\n    \
                 -H 'Content-Type: application/json' \\\n    \
                 -d '{{\"v\":1,\"type\":\"{kind}\",\"data\":{example}}}'\n\nOr over NATS",
                quoted(&file)
            );
        }
        (Some(url), None) => {
            let _ = write!(
                text,
                "\nSend events over HTTP with your token: POST {url}/v1/events/SERVICE\n\nOr one over NATS"
            );
        }
        (None, _) => text.push_str("\nSend an event over NATS"),
    }
    let weir = program();
    let here = env::current_dir().unwrap_or_default().join(DATA);
    let place = if fs::canonicalize(here).is_ok_and(|usual| usual == data) {
        String::new()
    } else {
        format!(" --fleet {}", quoted(&short(data)))
    };
    let _ = write!(
        text,
        ", and see what became of it:\n  {weir} publish {service}{place} --type {kind} --data '{example}'\n  \
         {weir} status{place}\n\nCtrl-C stops everything."
    );
    text
}

/// How to call this program from here: by its name only where the shell finds this very file.
fn program() -> String {
    let Ok(running) = env::current_exe() else {
        return "weir".to_owned();
    };
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .map(|dir| dir.join("weir"))
        .find_map(|file| fs::canonicalize(file).ok());
    if found.is_some() && found == fs::canonicalize(&running).ok() {
        return "weir".to_owned();
    }
    let path = short(&running);
    let text = quoted(&path).into_owned();
    if path.components().count() == 1 {
        format!("./{text}")
    } else {
        text
    }
}

/// A path as a shell reads it.
fn quoted(path: &Path) -> Cow<'_, str> {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%:,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''")).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(token: bool) -> FleetFile {
        FleetFile {
            pid: 1,
            ready_at: String::new(),
            services: vec!["github".into(), "billing".into()],
            nats_url: "nats://127.0.0.1:20001".into(),
            redis_url: String::new(),
            postgres_url: String::new(),
            ingest_url: Some("http://127.0.0.1:8080".into()),
            scheduler_url: None,
            worker_urls: Vec::new(),
            token_file: token.then(|| env::current_dir().unwrap().join(".weir/token")),
            parts: Vec::new(),
        }
    }

    fn shown(token: bool) -> String {
        let worker = [
            ("WEIR_SERVICE_GITHUB_URL", "https://api.github.com"),
            ("WEIR_SERVICE_GITHUB_TOKEN", ""),
            ("WEIR_SERVICE_BILLING_URL", "http://127.0.0.1:9"),
        ];
        let worker = worker
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        page(&fleet(token), Path::new("/srv/my data"), &worker)
    }

    #[test]
    fn its_lines_fit_and_can_be_pasted_here() {
        let text = shown(true);
        assert!(
            text.contains("  curl -sS http://127.0.0.1:8080/v1/events/github \\\n"),
            "{text}"
        );
        assert!(text.contains("Bearer $(cat .weir/token)\" \\\n"), "{text}");
        assert!(text.contains("status --fleet '/srv/my data'\n"), "{text}");
        assert!(
            text.contains(
                "  github -> https://api.github.com (no token)\n  billing -> http://127.0.0.1:9 (no token)\n"
            ),
            "{text}"
        );
        // The test program is not the `weir` of PATH.
        assert!(!text.contains("\n  weir "), "{text}");
        let http = text.split("\n\nOr").next().unwrap();
        assert!(http.lines().all(|line| line.chars().count() <= 100), "{text}");
    }

    #[test]
    fn a_token_of_the_callers_may_not_reach_every_service() {
        let text = shown(false);
        assert!(
            text.contains("with your token: POST http://127.0.0.1:8080/v1/events/SERVICE\n"),
            "{text}"
        );
    }
}
