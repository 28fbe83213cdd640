//! What is shown when everything runs: where it is, and what to do next.

use std::fmt::Write as _;

use super::short;
use crate::fleet::FleetFile;
use crate::tables::Columns;

/// The table and lines ready to paste.
pub(super) fn page(fleet: &FleetFile) -> String {
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
    let service = fleet.services.first().map_or("github", String::as_str);
    // What a handler of this name can do without a credential of the reader's.
    let (kind, data) = if service == "github" {
        ("call", "{\"path\":\"/zen\"}")
    } else {
        ("hello", "{\"text\":\"hello\"}")
    };
    if let Some(url) = &fleet.ingest_url {
        let token = fleet.token_file.as_deref().map(short);
        let token = token.map_or("<one of WEIR_TOKENS>".to_owned(), |file| {
            format!("$(cat {})", file.display())
        });
        let _ = write!(
            text,
            "\nSend an event over HTTP:\n  curl -sS {url}/v1/events/{service} -H \"Authorization: Bearer {token}\" \
             -H 'Content-Type: application/json' -d '{{\"v\":1,\"type\":\"{kind}\",\"data\":{data}}}'\n"
        );
    }
    let _ = write!(
        text,
        "\nOr over NATS, and see what became of it:\n  weir publish {service} --type {kind} --data '{data}'\n  \
         weir status\n\nCtrl-C stops everything."
    );
    text
}
