//! Spans in bounded memory, oldest trace forgotten first.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use super::span::Span;

/// Most spans kept of one trace.
const MAX_TRACE: usize = 10_000;

/// Fewer spans than awaited had come by the deadline.
#[derive(Debug, thiserror::Error)]
#[error("trace {trace_id} has {got} of {wanted} spans after {waited:?}: {names:?}")]
pub struct Incomplete {
    trace_id: String,
    got: usize,
    wanted: usize,
    waited: Duration,
    names: Vec<String>,
}

#[derive(Default)]
struct Inner {
    traces: HashMap<String, Vec<Arc<Span>>>,
    order: VecDeque<String>,
    total: usize,
    dropped: u64,
}

/// All spans received; cheap to share.
pub struct Store {
    inner: Mutex<Inner>,
    capacity: usize,
    changed: watch::Sender<u64>,
}

impl Store {
    /// Keeps about `capacity` spans; the last trace is always kept.
    pub fn new(capacity: usize) -> Self {
        Self {
            inner: Mutex::default(),
            capacity,
            changed: watch::Sender::new(0),
        }
    }

    /// Takes spans in and wakes those who wait.
    pub fn add(&self, spans: Vec<Span>) {
        let mut inner = self.inner();
        for span in spans {
            if !inner.traces.contains_key(&span.trace_id) {
                inner.order.push_back(span.trace_id.clone());
            }
            let trace = inner.traces.entry(span.trace_id.clone()).or_default();
            if trace.len() == MAX_TRACE {
                inner.dropped += 1;
                continue;
            }
            trace.push(Arc::new(span));
            inner.total += 1;
        }
        while inner.total > self.capacity && inner.order.len() > 1 {
            let oldest = inner.order.pop_front().and_then(|id| inner.traces.remove(&id));
            let gone = oldest.map_or(0, |spans| spans.len());
            inner.total -= gone;
            inner.dropped += gone as u64;
        }
        drop(inner);
        self.changed.send_modify(|version| *version += 1);
    }

    /// Every span kept, trace by trace in the order the traces first came.
    pub fn spans(&self) -> Vec<Arc<Span>> {
        let inner = self.inner();
        inner
            .order
            .iter()
            .filter_map(|id| inner.traces.get(id))
            .flatten()
            .cloned()
            .collect()
    }

    /// The spans of one trace by their start.
    pub fn trace(&self, trace_id: &str) -> Vec<Arc<Span>> {
        let mut spans = self.inner().traces.get(trace_id).cloned().unwrap_or_default();
        spans.sort_by_key(|span| span.start_ns);
        spans
    }

    /// Ids of the traces with a span that has this attribute value, the newest first, at most `limit`.
    pub fn find(&self, attribute: &str, value: &str, limit: usize) -> Vec<String> {
        self.newest_where(limit, |span| {
            span.attributes.get(attribute).is_some_and(|known| known == value)
        })
    }

    /// Ids of other traces with a link into this one, such as delayed retries; the newest first.
    pub fn linked_to(&self, trace_id: &str, limit: usize) -> Vec<String> {
        self.newest_where(limit, |span| {
            span.trace_id != trace_id && span.links.iter().any(|link| link.trace_id == trace_id)
        })
    }

    /// Spans kept and spans dropped for lack of room.
    pub fn counts(&self) -> (usize, u64) {
        let inner = self.inner();
        (inner.total, inner.dropped)
    }

    /// Waits until a trace has `wanted` spans; returns all it then has, by their start.
    pub async fn wait_for(
        &self,
        trace_id: &str,
        wanted: usize,
        deadline: Duration,
    ) -> Result<Vec<Arc<Span>>, Incomplete> {
        let mut changed = self.changed.subscribe();
        let enough = async {
            loop {
                let spans = self.trace(trace_id);
                if spans.len() >= wanted || changed.changed().await.is_err() {
                    return spans;
                }
            }
        };
        if let Ok(spans) = tokio::time::timeout(deadline, enough).await {
            return Ok(spans);
        }
        let spans = self.trace(trace_id);
        Err(Incomplete {
            trace_id: trace_id.to_owned(),
            got: spans.len(),
            wanted,
            waited: deadline,
            names: spans.iter().map(|span| span.name.clone()).collect(),
        })
    }

    fn newest_where(&self, limit: usize, wanted: impl Fn(&Span) -> bool) -> Vec<String> {
        let inner = self.inner();
        let has = |id: &&String| {
            inner
                .traces
                .get(*id)
                .is_some_and(|spans| spans.iter().any(|span| wanted(span)))
        };
        inner
            .order
            .iter()
            .rev()
            .filter(has)
            .take(limit)
            .cloned()
            .collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
