//! A queue and the pods that work it off, in steps of time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use scheduler::signal::Sample;

/// How long a new pod takes until it pulls.
const START: Duration = Duration::from_secs(12);
/// How much time passes in a step.
const STEP: Duration = Duration::from_millis(250);

/// What a service is like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Service {
    /// What an attempt takes.
    pub(crate) takes: Duration,
    /// Events at once in a pod.
    pub(crate) concurrency: u32,
    /// Calls that the API allows, per second.
    pub(crate) quota: Option<f64>,
}

/// The queue and its pods.
#[derive(Debug)]
pub(crate) struct Fleet {
    service: Service,
    /// Time passed.
    pub(crate) now: Duration,
    /// When each pod is ready, oldest first.
    pods: Vec<Duration>,
    pending: u64,
    /// When each call ends.
    calls: BinaryHeap<Reverse<Duration>>,
    last_sequence: u64,
    /// Fractions of events and calls.
    coming: f64,
    allowed: f64,
    /// Pods, times how long they were there.
    pub(crate) pod_seconds: f64,
    /// Events that waited for a pod, times how long.
    waited: f64,
}

impl Fleet {
    /// With so many pods at work and nothing to do.
    pub(crate) fn new(service: Service, pods: u32) -> Self {
        Self {
            service,
            now: Duration::ZERO,
            pods: vec![Duration::ZERO; pods as usize],
            pending: 0,
            calls: BinaryHeap::new(),
            last_sequence: 0,
            coming: 0.0,
            allowed: 0.0,
            pod_seconds: 0.0,
            waited: 0.0,
        }
    }

    /// Pods there are, ready or not.
    pub(crate) fn pods(&self) -> u32 {
        self.pods.len() as u32
    }

    /// Messages left to do.
    pub(crate) fn depth(&self) -> u64 {
        self.pending + self.calls.len() as u64
    }

    /// Messages that no pod holds.
    pub(crate) fn pending(&self) -> u64 {
        self.pending
    }

    /// As many pods as this; the youngest go first, and end what they hold.
    pub(crate) fn scale(&mut self, pods: u32) {
        self.pods.resize(pods as usize, self.now + START);
    }

    /// Lets time pass while so many events come per second. While the server is `away` nothing is pulled and nothing
    /// settled, and what would have come does so later.
    pub(crate) fn step(&mut self, per_second: f64, away: bool) {
        let span = STEP.as_secs_f64();
        self.now += STEP;
        self.pod_seconds += f64::from(self.pods()) * span;
        self.coming += per_second * span;
        self.waited += (self.pending as f64 + self.coming.floor()) * span;
        self.allowed = match self.service.quota {
            // No more than a second of it is saved up.
            Some(quota) => (self.allowed + quota * span).min(quota.max(1.0)),
            None => f64::MAX,
        };
        if away {
            return;
        }
        let come = self.coming as u64;
        self.coming -= come as f64;
        self.last_sequence += come;
        self.pending += come;
        while self.calls.peek().is_some_and(|end| end.0 <= self.now) {
            self.calls.pop();
        }
        let ready = self.pods.iter().filter(|ready| **ready <= self.now).count() as u64;
        let places = (ready * u64::from(self.service.concurrency)).saturating_sub(self.calls.len() as u64);
        let begun = places.min(self.pending).min(self.allowed as u64);
        self.pending -= begun;
        self.allowed -= begun as f64;
        for _ in 0..begun {
            self.calls.push(Reverse(self.now + self.service.takes));
        }
    }

    /// How long an event waited for a pod, on average, those that still wait included.
    pub(crate) fn mean_wait(&self) -> Duration {
        Duration::from_secs_f64(self.waited / self.last_sequence.max(1) as f64)
    }

    /// So many events at once.
    pub(crate) fn burst(&mut self, events: u64) {
        self.last_sequence += events;
        self.pending += events;
    }

    /// What an observer sees; `behind`: from a leader that does not know the latest yet.
    pub(crate) fn look(&self, behind: u64) -> Sample {
        Sample {
            at: self.now,
            made: 1,
            last_sequence: self.last_sequence.saturating_sub(behind),
            delivered: self.last_sequence - self.pending,
            pending: self.pending,
            unacked: self.calls.len() as u64,
        }
    }
}
