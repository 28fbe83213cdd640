//! Keeps a service running: starts it, starts it again when it dies, stops it when told.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::child::Child;
use super::part::Part;
use super::ready;
use crate::fleet::PartRecord;
use crate::terminal;

/// First pause before a service that died is started again; it doubles up to [`LONGEST_PAUSE`].
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause before a service that died is started again.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Who ran for this long before dying begins with the first pause again.
pub(super) const STEADY: Duration = Duration::from_mins(1);
/// Who cannot listen on its port ends within this time; before, an answer may be that of whoever can.
const LISTENING_WITHIN: Duration = Duration::from_millis(300);
/// How long the operating system may take to end a killed process.
const KILL_WITHIN: Duration = Duration::from_secs(5);
/// How much of a log an error carries, in bytes.
const LOG_TAIL: u64 = 2048;

/// A service that is kept running.
pub(super) struct Keeper {
    record: PartRecord,
    /// Until when it may take to stop; set once.
    stop: watch::Sender<Option<Instant>>,
    task: JoinHandle<Result<(), String>>,
}

impl Keeper {
    /// Starts a service and waits until it is ready, or until `abort`. What goes wrong comes with the keeper of what
    /// may still be running.
    pub(super) async fn start(
        mut part: Part,
        abort: CancellationToken,
    ) -> Result<Self, (Option<Self>, String)> {
        let log_start = std::fs::metadata(&part.log).map_or(0, |meta| meta.len());
        let told = |part: &Part, why: &dyn std::fmt::Display| {
            let tail = log_tail(&part.log, log_start);
            format!("{why}; the end of {}:\n{tail}", part.log.display())
        };
        let (child, trouble) = loop {
            let mut child = spawn(&part).await.map_err(|why| (None, why))?;
            let url = part.url();
            let ready = async { tokio::join!(ready::wait(&url), tokio::time::sleep(LISTENING_WITHIN)).0 };
            tokio::select! {
                ready = ready => break (child, ready.err()),
                exit = child.ended() => if !part.moves() {
                    return Err((None, told(&part, &format_args!("{exit} before it was ready"))));
                },
                () = abort.cancelled() => break (child, None),
            }
        };
        let trouble = trouble.map(|why| told(&part, &why));
        let record = PartRecord {
            name: part.name.clone(),
            url: part.url(),
            pid: Some(child.pid()),
            log: Some(part.log.clone()),
        };
        let (stop, told) = watch::channel(None);
        let task = tokio::spawn(keep(part, child, told, abort));
        let keeper = Self { record, stop, task };
        match trouble {
            None => Ok(keeper),
            Some(why) => Err((Some(keeper), why)),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.record.name
    }

    /// What `fleet.json` says of it; the process is that of its first start.
    pub(super) fn record(&self) -> PartRecord {
        self.record.clone()
    }

    /// Asks it to stop and waits; kills it at `until`.
    pub(super) async fn stop(self, until: Instant) -> Result<(), String> {
        self.stop.send_replace(Some(until));
        match timeout_at(until + KILL_WITHIN, self.task).await {
            Ok(Ok(stopped)) => stopped,
            Ok(Err(error)) => Err(format!("was not looked after: {error}")),
            Err(_) => Err("did not end after SIGKILL".into()),
        }
    }
}

async fn spawn(part: &Part) -> Result<Child, String> {
    let child = Child::spawn(&part.program, part.environment(), &part.log).await;
    child.map_err(|error| format!("cannot be started from {}: {error}", part.program.display()))
}

async fn keep(
    part: Part,
    first: Child,
    mut told: watch::Receiver<Option<Instant>>,
    over: CancellationToken,
) -> Result<(), String> {
    let mut running = Some(first);
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(child) = &mut running {
            let started = Instant::now();
            let why = tokio::select! {
                exit = child.ended() => exit,
                until = stop_time(&mut told) => return end(child, until).await,
            };
            if over.is_cancelled() {
                // A signal to the whole group of processes reaches it as well.
                return if why.code == 0 {
                    Ok(())
                } else {
                    Err(why.to_string())
                };
            }
            if started.elapsed() > STEADY {
                pause = FIRST_PAUSE;
            }
            terminal::note(format_args!(
                "{} {why}: started again in {:.1} s; see {}",
                part.name,
                pause.as_secs_f64(),
                part.log.display()
            ));
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop_time(&mut told) => return Ok(()),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
        running = match spawn(&part).await {
            Ok(child) => {
                part.register.restarted(&part.name, child.pid());
                Some(child)
            }
            Err(why) => {
                terminal::note(format_args!("{} {why}", part.name));
                None
            }
        };
    }
}

/// Waits until it is to stop; a keeper that was dropped stops at once.
async fn stop_time(told: &mut watch::Receiver<Option<Instant>>) -> Instant {
    match told.wait_for(Option::is_some).await {
        Ok(until) => (*until).unwrap_or_else(Instant::now),
        Err(_) => Instant::now(),
    }
}

async fn end(child: &mut Child, until: Instant) -> Result<(), String> {
    child.terminate().await;
    match timeout_at(until, child.ended()).await {
        Ok(exit) if exit.code == 0 => Ok(()),
        Ok(exit) => Err(format!("{exit} while it was stopping")),
        Err(_) => {
            child.kill().await;
            child.ended().await;
            Err("did not stop in time and was killed".into())
        }
    }
}

/// The last lines that were written to a log since `start`.
fn log_tail(log: &Path, start: u64) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(start.max(end.saturating_sub(LOG_TAIL))))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL).read_to_end(&mut bytes)?;
        Ok(terminal::clean_lines(String::from_utf8_lossy(&bytes).trim_end()))
    };
    read().unwrap_or_else(|error| format!("(not readable: {error})"))
}
