//! Signals to processes that this one started.

use std::fs;
use std::io;
use std::process::Stdio;

use tokio::process::Command;

/// Sends a signal (`STOP`, `CONT`, `KILL`, `TERM`) to a process.
pub async fn signal(name: &str, pid: u32) -> io::Result<()> {
    if pid == 0 {
        return Err(io::Error::other("the process has ended"));
    }
    let sent = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .stderr(Stdio::null())
        .status()
        .await?;
    if sent.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "SIG{name} to process {pid} was not sent"
        )))
    }
}

/// Sends a signal to a process and its children, as a server of several processes needs it. Children that end
/// meanwhile are no error.
pub async fn signal_family(name: &str, pid: u32) -> io::Result<()> {
    // The parent first, so that it makes no more of them.
    signal(name, pid).await?;
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
        let _ = signal(name, child).await;
    }
    Ok(())
}
