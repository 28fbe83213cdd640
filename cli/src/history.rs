//! `weir history`: what became of events, page by page; all that is known of one; how many ended hour by hour.

mod show;

use std::time::Duration;

use serde_json::json;
use shared::config::Reader;
use shared::store::history::{self, Entry, HistoryError};
use shared::store::metrics::Metrics;
use shared::store::reads::Reads;
use shared::store::report::report;
use shared::store::settings::{Settings, Size};

use crate::args::{History, Of, Where};
use crate::failure::Failure;
use crate::fleet::{self, Overlay};
use crate::terminal;

pub(crate) use show::line;

/// How long Postgres may take to give a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

pub(crate) async fn run(history: History) -> Result<(), Failure> {
    let reads = reads(&history.of.fleet, history.of.postgres_url.as_deref()).await?;
    if let Some(id) = &history.event {
        let services: Vec<String> = history.of.service.iter().map(ToString::to_string).collect();
        let story = history::story(&reads, id.as_str(), &services)
            .await
            .map_err(failed)?;
        if story.ends.is_empty() && story.failed.is_empty() {
            in_vain(&history.of).await;
            return Err(Failure::Failed(format!(
                "nothing is recorded of {id}: `weir explain {id}` looks where it is"
            )));
        }
        if history.json {
            terminal::out(json!(story));
        } else {
            show::story(&story);
        }
        return Ok(());
    }
    if let Some(hours) = history.hours {
        let lines = report(&reads, hours, &history.of.service).await.map_err(failed)?;
        if history.json {
            terminal::out(json!({ "hours": hours, "lines": lines }));
        } else {
            terminal::out(show::hours(&lines).text());
        }
        if lines.is_empty() {
            in_vain(&history.of).await;
        }
        return Ok(());
    }
    let mut filter = history.of.filter();
    (filter.from_us, filter.to_us, filter.attempts) = (history.since, history.until, history.attempts);
    if let (Some(since), Some(until)) = (history.since, history.until)
        && since >= until
    {
        return Err(Failure::usage("--since is not before --until"));
    }
    let page = history::page(&reads, &filter, history.page.as_deref(), history.limit);
    let page = page.await.map_err(failed)?;
    if page.events.is_empty() {
        in_vain(&history.of).await;
    }
    if history.json {
        terminal::out(json!(page));
        return Ok(());
    }
    if page.events.is_empty() {
        terminal::note("nothing is recorded that fits");
        return Ok(());
    }
    terminal::out(
        show::table(page.events.iter().map(Entry::clone))
            .cut_last()
            .text(),
    );
    if let Some(next) = page.next {
        terminal::note(format_args!("more with the same arguments and --page {next}"));
    }
    Ok(())
}

/// Says of services of which nothing was found that the fleet does not have them, if that is known.
pub(crate) async fn in_vain(of: &Of) {
    let told = fleet::strangers(&of.fleet, of.postgres_url.as_deref(), &of.service).await;
    if let Some(told) = told {
        terminal::note(told);
    }
}

/// Where the fleet's past is.
pub(crate) async fn reads(place: &Where, postgres_url: Option<&str>) -> Result<Reads, Failure> {
    let fleet = fleet::settings(place, postgres_url)?;
    let Some(url) = fleet.postgres_url.filter(|url| url != "none") else {
        let none = place.folder.as_deref().map(fleet::none_runs);
        let none = none.map_or_else(String::new, |none| format!("{none}, and "));
        return Err(Failure::Usage(format!(
            "{none}no Postgres is known: start a fleet with `weir up`, or give --postgres-url or WEIR_POSTGRES_URL"
        )));
    };
    let mut environment = Overlay::default();
    environment.set("WEIR_POSTGRES_URL", &url);
    if postgres_url.is_some() {
        // What the variables name is a replica of another one.
        environment.set("WEIR_POSTGRES_READ_URL", "none");
    }
    let mut reader = Reader::new(&environment);
    let settings = Settings::read(&mut reader, None);
    let (settings, _) = reader.finish(&[], settings).map_err(Failure::usage)?;
    let settings = Settings {
        acquire_timeout: settings.acquire_timeout.min(CONNECT_WITHIN),
        ..settings
    };
    let reads = Reads::open(&url, &settings, Size::COMMAND, "weir", Metrics::default());
    let reads = reads.map_err(Failure::at("WEIR_POSTGRES_URL"))?;
    reads.look().await;
    Ok(reads)
}

/// A cursor that does not fit is a wrong argument.
pub(crate) fn failed(error: HistoryError) -> Failure {
    match error {
        HistoryError::Cursor(error) => Failure::Usage(format!("--page: {error}")),
        error => Failure::failed(error),
    }
}
