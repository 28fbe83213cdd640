//! The process that parses.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, setrlimit};
use tokio_util::sync::CancellationToken;

use super::frame::{self, Asked, Told};
use crate::reading::Reader;

/// Bytes that a process may have when it takes another file; with more it makes place for a fresh one, which gives them back.
const WORN: u64 = 64 << 20;
/// Bytes of source between two looks at that. What is made to take memory takes more than 192 MiB with as much.
const LOOK: usize = 128 << 10;

/// Parses what is asked for on standard input and answers on standard output, until that is closed. `memory`: most bytes that
/// parsing may take; whoever wants more is aborted. A program calls this first of all, before it has threads.
pub fn serve(memory: u64) -> ExitCode {
    match answer_all(memory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever started it by hand reads this; nobody else listens.
            writeln!(io::stderr(), "weir: {error}").ok();
            ExitCode::FAILURE
        }
    }
}

fn answer_all(memory: u64) -> io::Result<()> {
    confine(memory)?;
    // As they are: standard output would look for lines.
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let (mut reader, never, mut read) = (Reader::default(), CancellationToken::new(), 0);
    while let Ok(frame) = frame::read(&mut input, || Ok(())) {
        let asked = Asked::read(&frame).ok_or_else(|| io::Error::other("this is nothing to be parsed"))?;
        let facts = reader.read(asked.language, asked.source, asked.patience, &never);
        read += asked.source.len();
        let mut goes_on = true;
        if read > LOOK {
            (read, goes_on) = (0, status("VmRSS:").is_some_and(|bytes| bytes < WORN));
        }
        output.write_all(&Told::write(&facts, goes_on))?;
        if !goes_on {
            break;
        }
    }
    Ok(())
}

fn confine(memory: u64) -> io::Result<()> {
    let limit = |resource, most| {
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(resource, limit)
    };
    let own = status("VmData:").unwrap_or_default();
    limit(Resource::Data, own.saturating_add(memory))?;
    // A core of what strangers sent is of use to nobody.
    limit(Resource::Core, 0)?;
    // If there must be one for the system to end, then this one. It may not be allowed to say so.
    fs::write("/proc/self/oom_score_adj", "1000").ok();
    Ok(())
}

/// A line of what the system says of this process, in bytes.
fn status(name: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}
