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

use crate::parsing::{Job, Read};
use crate::reading::Unread;
use frame::{Asked, Told};
pub use serve::serve;

/// What a process has besides its time before it is ended, to start, to take the source and to tell.
const GRACE: Duration = Duration::from_secs(5);
/// Largest file that is sent while another is read, in bytes: a socket takes it though nobody reads there.
const AHEAD: usize = 32 << 10;
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

    fn start(&self) -> io::Result<Process> {
        Process::start(&self.program, self.memory)
    }
}

/// One place in a crew, for one file after the other.
#[derive(Debug)]
pub(crate) struct Place {
    crew: Arc<Crew>,
    /// What has been told to read, if something is to be read.
    process: Option<Process>,
    /// What is read now, and until when.
    reading: Option<(Job, Instant)>,
}

impl Place {
    pub(crate) fn new(crew: Arc<Crew>) -> Self {
        Self {
            crew,
            process: None,
            reading: None,
        }
    }

    /// See [`crate::parsing::Parsing::next`].
    pub(crate) fn next(
        &mut self,
        next: Option<Job>,
        cancel: &CancellationToken,
    ) -> Option<(Job, Result<Read, Unread>)> {
        self.send_ahead(next.as_ref(), cancel);
        let done = self.reading.take().map(|(job, deadline)| {
            let told = self.told(&job, &Until { deadline, cancel });
            (job, told)
        });
        if let Some(job) = next {
            self.begin(job, cancel);
        }
        // Last of all: meanwhile the next is parsed.
        done.map(|(job, told)| (job, told.and_then(Told::into_read)))
    }

    /// A small file waits at the process for the one before it, so that the process never waits.
    fn send_ahead(&mut self, next: Option<&Job>, cancel: &CancellationToken) {
        let Some(job) = next.filter(|job| job.source.len() <= AHEAD && self.reading.is_some()) else {
            return;
        };
        if let Some(process) = &mut self.process {
            // One that has ended may have answered before.
            process.broken = process.ask(job, &Until::new(job, cancel)).is_err();
        }
    }

    fn begin(&mut self, job: Job, cancel: &CancellationToken) {
        let until = Until::new(&job, cancel);
        let deadline = until.deadline;
        let process = self.process.take().or_else(|| self.crew.idle().pop());
        // One that cannot be had or takes nothing is not there when the answer is wanted; then another is started.
        self.process = process
            .or_else(|| self.crew.start().ok())
            .and_then(|mut process| {
                if process.asked == 0 {
                    process.ask(&job, &until).ok()?;
                }
                Some(process)
            });
        self.reading = Some((job, deadline));
    }

    /// The answer to what was begun. A process that dies of a file may have been worn out by others: the file gets a fresh one
    /// before it is blamed.
    fn told(&mut self, job: &Job, until: &Until<'_>) -> Result<Told, Unread> {
        if let Some(process) = self.process.take() {
            let worn = process.worn;
            match self.answer(process, until) {
                Err(Unread::TooCostly | Unread::Failed) if worn => {}
                answer => return answer,
            }
        }
        let mut fresh = self.crew.start().map_err(|error| {
            tracing::error!(%error, program = %self.crew.program.path.display(), "no process to parse in");
            Unread::Failed
        })?;
        let until = Until::new(job, until.cancel);
        match fresh.ask(job, &until) {
            Ok(()) => self.answer(fresh, &until),
            Err(ended) => Err(fresh.cause(&ended)),
        }
    }

    fn answer(&mut self, mut process: Process, until: &Until<'_>) -> Result<Told, Unread> {
        match process.answer(until) {
            Ok(told) => {
                process.worn = true;
                self.process = (told.goes_on && !process.broken).then_some(process);
                Ok(told)
            }
            Err(ended) => Err(process.cause(&ended)),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // One that still reads would give its answer to the next file.
        if self.reading.is_none() {
            self.crew.idle().extend(self.process.take());
        }
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
    /// Files whose answers are to come.
    asked: u32,
    /// Whether it has read a file.
    worn: bool,
    /// Whether it has not taken what was sent.
    broken: bool,
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
        Ok(Self {
            child,
            stream,
            asked: 0,
            worn: false,
            broken: false,
        })
    }

    fn ask(&mut self, job: &Job, until: &Until<'_>) -> Result<(), Ended> {
        let asked = Asked {
            language: job.language,
            patience: job.patience,
            source: &job.source,
        };
        let head = asked.head().ok_or(Ended::Garbled)?;
        self.asked += 1;
        frame::write(&mut self.stream, &head, asked.source, || until.check())
    }

    fn answer(&mut self, until: &Until<'_>) -> Result<Told, Ended> {
        let told = frame::read(&mut self.stream, || until.check())?;
        self.asked -= 1;
        Told::read(told).ok_or(Ended::Garbled)
    }

    /// Why there is no answer. The end of its stream is closed once it has ended by itself; only one that goes on without is
    /// killed here.
    fn cause(mut self, ended: &Ended) -> Unread {
        match ended {
            Ended::Cancelled => Unread::Cancelled,
            Ended::TimedOut => Unread::TimedOut,
            Ended::Garbled => Unread::Failed,
            Ended::Closed => {
                self.child.kill().ok();
                match self.child.wait() {
                    Ok(status) if status.signal() == Some(ABORT) => Unread::TooCostly,
                    _ => Unread::Failed,
                }
            }
        }
    }
}

impl<'a> Until<'a> {
    fn new(job: &Job, cancel: &'a CancellationToken) -> Self {
        Self {
            deadline: Instant::now() + job.patience + GRACE,
            cancel,
        }
    }

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
