//! A child process that cannot outlive this one.
//!
//! The server is a child of a small shell that reads signal names from a pipe we hold. When we end, however we end,
//! the pipe closes and the shell ends the server. The shell is the server's parent, so the process id it signals
//! cannot have gone to somebody else. All of it runs in a process group of its own: a Ctrl-C in the terminal reaches
//! us only, and we stop the servers in order.
//!
//! The shell holds the lock on the server's log for as long as it lives, so a successor waits until the last server
//! on the same files has ended: not every server would notice the other.

use std::{
    ffi::OsString,
    fs::{File, TryLockError},
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::PathBuf,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep, timeout},
};

use super::ServerError;

/// Arguments: log file, signal for a soft end, the server's command line. The watcher gives the server 5 s
/// (50 tenths) to end softly after we are gone. Only shell builtins read and signal, so nothing else holds the pipe.
const SUPERVISOR: &str = r#"
log=$1 soft=$2
shift 2
exec 3<&0
"$@" </dev/null 3<&- >>"$log" 2>&1 &
server=$!
{
    while read -r signal; do kill -s "$signal" "$server"; done
    kill -s "$soft" "$server"
    left=50
    while [ "$left" -gt 0 ] && kill -0 "$server"; do
        sleep 0.1
        left=$((left - 1))
    done
    kill -s KILL "$server"
} <&3 >/dev/null 2>&1 &
watcher=$!
echo "$server"
wait "$server"
status=$?
kill "$watcher"
exit "$status"
"#;

/// How long a server may take to end after it was asked to.
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// How long the operating system may take to end a killed process.
const KILL_WITHIN: Duration = Duration::from_secs(10);

/// How long a predecessor whose parent was killed may take to end: its watcher kills it after 5 s.
const LOCK_WITHIN: Duration = Duration::from_secs(10);
/// Pause between two tries to get the lock.
const LOCK_EVERY: Duration = Duration::from_millis(20);

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Exit code; 128 plus the signal's number when a signal ended it.
    pub code: i32,
}

impl Exit {
    /// The signal that ended the server, if one did.
    pub fn signal(self) -> Option<i32> {
        (self.code > 128).then(|| self.code - 128)
    }
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        let code = status
            .code()
            .or_else(|| status.signal().map(|signal| 128 + signal));
        Self {
            code: code.unwrap_or(-1),
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.signal() {
            Some(signal) => write!(f, "ended by signal {signal}"),
            None => write!(f, "ended with code {}", self.code),
        }
    }
}

/// What to run and how to end it.
#[derive(Debug)]
pub struct CommandLine {
    /// Name of the server, for messages.
    pub server: &'static str,
    /// Program and arguments.
    pub argv: Vec<OsString>,
    /// File that gets standard output and error, appended.
    pub log: PathBuf,
    /// Signal (name without `SIG`) that lets it end in order.
    pub soft: &'static str,
    /// Signal that makes it end at once and leave nothing of itself behind.
    pub hard: &'static str,
}

/// A running server and the pipe that keeps it alive.
#[derive(Debug)]
pub(super) struct Process {
    server: &'static str,
    soft: &'static str,
    hard: &'static str,
    pid: u32,
    signals: Option<ChildStdin>,
    exit: watch::Receiver<Option<Exit>>,
    reaper: Option<JoinHandle<()>>,
}

impl Process {
    pub(super) async fn spawn(line: &CommandLine) -> Result<Self, ServerError> {
        let starting = || format!("starting {}", line.server);
        let log = locked_log(line).await?;
        let mut shell = Command::new("/bin/sh")
            .arg("-c")
            .arg(SUPERVISOR)
            .arg(line.server)
            .arg(&line.log)
            .arg(line.soft)
            .args(&line.argv)
            // Postgres, as another user, may not be able to stay in the current directory.
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0)
            .spawn()
            .map_err(ServerError::io(starting()))?;
        let signals = shell.stdin.take();
        let (pid_sender, pid) = oneshot::channel();
        let (exit_sender, exit) = watch::channel(None);
        // A thread, not a task: the server may be used from several runtimes, and Drop must be able to wait for it.
        let reaper = thread::Builder::new()
            .name(format!("{}-reaper", line.server))
            .spawn(move || reap(shell, pid_sender, &exit_sender))
            .map_err(ServerError::io(starting()))?;
        let pid = pid.await.map_err(|_| ServerError::Io {
            doing: starting(),
            source: std::io::Error::other("the shell that runs it ended"),
        })?;
        let (server, soft, hard) = (line.server, line.soft, line.hard);
        Ok(Self {
            server,
            soft,
            hard,
            pid,
            signals,
            exit,
            reaper: Some(reaper),
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn exit(&self) -> watch::Receiver<Option<Exit>> {
        self.exit.clone()
    }

    /// Ends it in order, or by force when it takes longer than [`STOP_WITHIN`].
    pub(super) async fn stop(&mut self) -> Result<Exit, ServerError> {
        self.signal(self.soft);
        match timeout(STOP_WITHIN, exited(self.exit())).await {
            Ok(exit) => Ok(exit),
            Err(_) => self.kill().await,
        }
    }

    /// SIGKILL.
    pub(super) async fn kill(&mut self) -> Result<Exit, ServerError> {
        self.signal("KILL");
        timeout(KILL_WITHIN, exited(self.exit()))
            .await
            .map_err(|_| ServerError::Unkillable {
                server: self.server,
                pid: self.pid,
            })
    }

    fn signal(&mut self, name: &str) {
        if let Some(pipe) = &mut self.signals {
            // Fails only when the shell is gone, and then so is the server, which the caller waits for next.
            let _ = pipe.write_all(format!("{name}\n").as_bytes());
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exit.borrow().is_none() {
            self.signal(self.hard);
        }
        self.signals = None;
        if let Some(reaper) = self.reaper.take() {
            let _ = reaper.join();
        }
    }
}

/// Opens the log, and waits for a server that still has it.
async fn locked_log(line: &CommandLine) -> Result<File, ServerError> {
    let opening = || format!("opening {}", line.log.display());
    let log = File::options()
        .create(true)
        .append(true)
        .open(&line.log)
        .map_err(ServerError::io(opening()))?;
    let deadline = Instant::now() + LOCK_WITHIN;
    loop {
        match log.try_lock() {
            Ok(()) => return Ok(log),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(LOCK_EVERY).await,
            Err(TryLockError::WouldBlock) => {
                return Err(ServerError::Busy {
                    server: line.server,
                    log: line.log.clone(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(ServerError::io(opening())(error)),
        }
    }
}

/// Waits until the server behind `exit` has ended.
pub(super) async fn exited(mut exit: watch::Receiver<Option<Exit>>) -> Exit {
    match exit.wait_for(Option::is_some).await {
        Ok(ended) => (*ended).unwrap_or(Exit { code: -1 }),
        Err(_) => Exit { code: -1 },
    }
}

fn reap(mut shell: Child, pid: oneshot::Sender<u32>, exit: &watch::Sender<Option<Exit>>) {
    let mut line = String::new();
    if let Some(stdout) = shell.stdout.take() {
        let _ = BufReader::new(stdout).read_line(&mut line);
    }
    if let Ok(number) = line.trim().parse() {
        let _ = pid.send(number);
    }
    let ended = shell.wait().map_or(Exit { code: -1 }, Exit::from);
    exit.send_replace(Some(ended));
}
