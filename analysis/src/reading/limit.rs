//! What reading one file may take.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::memory::Meter;

/// What reading one file may take.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// Longest time.
    pub time: Duration,
    /// Most memory, in bytes.
    pub memory: u64,
}

/// Why there are no facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// It took longer than it may.
    TimedOut,
    /// It took more memory than it may.
    TooCostly,
    /// Nobody wants it any more.
    Cancelled,
    /// The grammar cannot be used, or memory cannot be counted.
    Failed,
}

/// A limit, from the moment on at which it was set.
pub(super) struct Until<'a> {
    deadline: Instant,
    memory: u64,
    meter: Meter,
    cancel: &'a CancellationToken,
}

impl<'a> Until<'a> {
    pub(super) fn new(limit: Limit, cancel: &'a CancellationToken) -> Result<Self, Unread> {
        Ok(Self {
            deadline: Instant::now() + limit.time,
            memory: limit.memory,
            meter: Meter::new().ok_or(Unread::Failed)?,
            cancel,
        })
    }

    pub(super) fn check(&self) -> Result<(), Unread> {
        if self.cancel.is_cancelled() {
            Err(Unread::Cancelled)
        } else if self.meter.taken() > self.memory {
            Err(Unread::TooCostly)
        } else if Instant::now() >= self.deadline {
            Err(Unread::TimedOut)
        } else {
            Ok(())
        }
    }
}
