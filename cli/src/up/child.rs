//! A service's process, which cannot outlive this one.
//!
//! It is the child of a small shell that reads signal names from a pipe held here. However this process ends, the
//! pipe closes, and the shell ends the service. Being its parent, the shell never signals a process id that has gone
//! to somebody else. All of it runs in a process group of its own: a Ctrl-C in the terminal reaches `weir` only.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::Stdio;

use shared::servers::Exit;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, Command};

/// Arguments: log file, program. After the pipe has closed the service has 5 s (50 tenths) to end in order.
const SUPERVISOR: &str = r#"
log=$1
shift
exec 3<&0
"$@" </dev/null 3<&- >>"$log" 2>&1 &
service=$!
{
    while read -r signal; do kill -s "$signal" "$service"; done
    kill -s TERM "$service"
    left=50
    while [ "$left" -gt 0 ] && kill -0 "$service"; do
        sleep 0.1
        left=$((left - 1))
    done
    kill -s KILL "$service"
} <&3 >/dev/null 2>&1 &
watcher=$!
echo "$service"
wait "$service"
status=$?
kill "$watcher"
exit "$status"
"#;

/// A running service.
#[derive(Debug)]
pub(super) struct Child {
    shell: tokio::process::Child,
    signals: Option<ChildStdin>,
    pid: u32,
}

impl Child {
    /// Starts `program` with this process's environment changed: `None` takes a variable away.
    pub(super) async fn spawn(
        program: &Path,
        environment: Vec<(String, Option<String>)>,
        log: &Path,
    ) -> io::Result<Self> {
        let mut command = Command::new("/bin/sh");
        command
            .arg("-c")
            .arg(SUPERVISOR)
            .args([OsStr::new("weir"), log.as_os_str(), program.as_os_str()]);
        for (name, value) in environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0);
        let mut shell = command.spawn()?;
        let signals = shell.stdin.take();
        let mut line = String::new();
        if let Some(stdout) = shell.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).await?;
        }
        let pid = line
            .trim()
            .parse()
            .map_err(|_| io::Error::other("the shell that runs it ended"))?;
        Ok(Self { shell, signals, pid })
    }

    /// The service's own process id.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until it has ended. Cancelling this loses nothing.
    pub(super) async fn ended(&mut self) -> Exit {
        self.shell.wait().await.map_or(Exit { code: -1 }, Exit::from)
    }

    /// Asks it to end.
    pub(super) async fn terminate(&mut self) {
        self.signal("TERM\n").await;
    }

    /// Makes it end.
    pub(super) async fn kill(&mut self) {
        self.signal("KILL\n").await;
    }

    async fn signal(&mut self, line: &str) {
        if let Some(pipe) = &mut self.signals {
            // Fails only when the shell is gone, and then so is the service.
            let _ = pipe.write_all(line.as_bytes()).await;
            let _ = pipe.flush().await;
        }
    }
}
