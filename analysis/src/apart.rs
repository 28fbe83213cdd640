//! Parsing in processes of its own. A parser of source that strangers wrote may want memory without end (20 KB of Java made
//! of `a<` take 900 MB), and it is C: what it does wrong ends its own process then, which has a limit of memory, no
//! environment, and nothing open but the way to whom it serves.

mod frame;
mod serve;

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::language::Language;
use crate::parsing::Read;
use crate::reading::Unread;
use frame::{Asked, Told};
pub use serve::serve;

/// What a process has besides its time before it is ended, to start, to take the source and to tell.
const GRACE: Duration = Duration::from_secs(5);
/// How often a wait looks whether anybody still wants the answer.
const LOOK: Duration = Duration::from_millis(100);
/// What a process ends with whose memory does not suffice: C and Rust abort.
const ABORT: i32 = 6;

/// A program that [serves](serve) when it is started with an argument and a number of bytes.
#[derive(Debug, Clone)]
pub struct Program {
    /// The program.
    pub path: PathBuf,
    /// The argument.
    pub argument: OsString,
}

/// The processes of an analyzer: as many as parse at once. They start when they are needed.
#[derive(Debug)]
pub(crate) struct Crew {
    program: Program,
    memory: u64,
    idle: Mutex<Vec<Process>>,
}

impl Crew {
    /// Each may take `memory` bytes.
    pub(crate) fn new(program: Program, memory: u64) -> Self {
        Self {
            program,
            memory,
            idle: Mutex::default(),
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Process>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One place in a crew, for one file after the other.
#[derive(Debug)]
pub(crate) struct Place {
    crew: Arc<Crew>,
    process: Option<Process>,
}

impl Place {
    pub(crate) fn new(crew: Arc<Crew>) -> Self {
        Self { crew, process: None }
    }

    /// The facts of `source`, as [`crate::reading::Reader`] tells them. A process that dies of a file may have been worn out by others: it
    /// gets a fresh one before it is blamed.
    pub(crate) fn read(
        &mut self,
        language: Language,
        source: &[u8],
        patience: Duration,
        cancel: &CancellationToken,
    ) -> Result<Read, Unread> {
        let worn = self.process.is_none().then(|| self.crew.idle().pop()).flatten();
        if let Some(process) = self.process.take().or(worn) {
            match self.ask(process, language, source, patience, cancel) {
                Err(Unread::TooCostly | Unread::Failed) => {}
                answer => return answer,
            }
        }
        let fresh = Process::start(&self.crew.program, self.crew.memory).map_err(|error| {
            tracing::error!(%error, program = %self.crew.program.path.display(), "no process to parse in");
            Unread::Failed
        })?;
        self.ask(fresh, language, source, patience, cancel)
    }

    fn ask(
        &mut self,
        mut process: Process,
        language: Language,
        source: &[u8],
        patience: Duration,
        cancel: &CancellationToken,
    ) -> Result<Read, Unread> {
        let until = Until {
            deadline: Instant::now() + patience + GRACE,
            cancel,
        };
        let asked = Asked {
            language,
            patience,
            source,
        };
        match process.exchange(&asked, &until) {
            Ok(Told { read, goes_on }) => {
                if goes_on {
                    self.process = Some(process);
                }
                read
            }
            Err(Ended::Cancelled) => Err(Unread::Cancelled),
            Err(Ended::TimedOut) => Err(Unread::TimedOut),
            Err(Ended::Garbled) => Err(Unread::Failed),
            Err(Ended::Closed) => Err(process.cause()),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crew.idle().extend(self.process.take());
    }
}

struct Until<'a> {
    deadline: Instant,
    cancel: &'a CancellationToken,
}

/// Why there is no answer.
enum Ended {
    Cancelled,
    TimedOut,
    /// By itself.
    Closed,
    /// It does not speak as it should.
    Garbled,
}

/// A process that parses. It is ended when it is dropped.
#[derive(Debug)]
struct Process {
    child: Child,
    stream: UnixStream,
}

impl Process {
    fn start(program: &Program, memory: u64) -> io::Result<Self> {
        let (stream, theirs) = UnixStream::pair()?;
        stream.set_read_timeout(Some(LOOK))?;
        stream.set_write_timeout(Some(LOOK))?;
        let child = Command::new(&program.path)
            .arg(&program.argument)
            .arg(memory.to_string())
            .env_clear()
            .current_dir("/")
            // What ends its parent by a key ends it by its closed end.
            .process_group(0)
            .stdin(OwnedFd::from(theirs.try_clone()?))
            .stdout(OwnedFd::from(theirs))
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { child, stream })
    }

    fn exchange(&mut self, asked: &Asked<'_>, until: &Until<'_>) -> Result<Told, Ended> {
        let go_on = || until.check();
        let head = asked.head().ok_or(Ended::Garbled)?;
        frame::write(&mut self.stream, &head, asked.source, go_on)?;
        let told = frame::read(&mut self.stream, go_on)?;
        Told::read(told).ok_or(Ended::Garbled)
    }

    /// Why it has ended. Its end of the stream is closed once that is decided; only one that goes on without is killed here.
    fn cause(mut self) -> Unread {
        self.child.kill().ok();
        match self.child.wait() {
            Ok(status) if status.signal() == Some(ABORT) => Unread::TooCostly,
            _ => Unread::Failed,
        }
    }
}

impl Until<'_> {
    fn check(&self) -> Result<(), Ended> {
        if self.cancel.is_cancelled() {
            Err(Ended::Cancelled)
        } else if Instant::now() >= self.deadline {
            Err(Ended::TimedOut)
        } else {
            Ok(())
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Only a child that is gone already cannot be ended, and then it is waited for all the same.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
