//! Facts in this process's memory, within a number of bytes; what was put first goes first.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future::{BoxFuture, ready};

use super::{Entry, Index, IndexError};
use crate::facts::{Key, costs_more_than};

/// What one entry takes besides its bytes.
const OVERHEAD: usize = 160;

/// Facts in memory. Files and dependencies are not kept.
#[derive(Debug)]
pub struct MemoryIndex {
    most: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    bytes: usize,
    facts: HashMap<Key, Bytes>,
    order: VecDeque<Key>,
}

impl MemoryIndex {
    /// Room for `most` bytes.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            kept: Mutex::default(),
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .facts
            .len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Index for MemoryIndex {
    fn get_many<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, IndexError>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = keys.iter().map(|key| kept.facts.get(key).cloned()).collect();
        Box::pin(ready(Ok(found)))
    }

    fn put_many(&self, entries: Vec<Entry>) -> BoxFuture<'_, Result<(), IndexError>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        for Entry { key, bytes, .. } in entries {
            let size = bytes.len() + OVERHEAD;
            let known = kept.facts.get(&key);
            if size > self.most || known.is_some_and(|known| costs_more_than(known).is_none()) {
                continue;
            }
            if let Some(costly) = kept.facts.remove(&key) {
                kept.bytes -= costly.len() + OVERHEAD;
            }
            while kept.bytes + size > self.most {
                let Some(oldest) = kept.order.pop_front() else {
                    break;
                };
                if let Some(gone) = kept.facts.remove(&oldest) {
                    kept.bytes -= gone.len() + OVERHEAD;
                }
            }
            kept.bytes += size;
            kept.order.push_back(key.clone());
            kept.facts.insert(key, bytes);
        }
        Box::pin(ready(Ok(())))
    }
}
