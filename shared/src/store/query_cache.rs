//! Answers that are dear to come by and may be some minutes old.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// One answer: whoever asks while it is being found out waits for it.
type Slot<V> = Arc<tokio::sync::Mutex<Option<(Instant, Arc<V>)>>>;

/// Answers by question, each kept for a time; of a new question the one asked longest ago goes. Failures are not kept.
#[derive(Debug)]
pub struct QueryCache<K, V> {
    keep: Duration,
    most: usize,
    slots: Mutex<HashMap<K, (Instant, Slot<V>)>>,
}

impl<K: Hash + Eq + Clone, V> QueryCache<K, V> {
    /// Keeps at most `most` answers, each for `keep`; nothing where that is 0.
    pub fn new(keep: Duration, most: usize) -> Self {
        Self {
            keep,
            most: most.max(1),
            slots: Mutex::new(HashMap::new()),
        }
    }

    /// The answer and its age, found out by `ask` where none is kept. Of several who want it at once, one asks.
    ///
    /// # Errors
    /// What `ask` says. The next one asks again.
    pub async fn get<E, Fut>(&self, question: &K, ask: impl FnOnce() -> Fut) -> Result<(Arc<V>, Duration), E>
    where
        Fut: Future<Output = Result<V, E>>,
    {
        let slot = self.slot(question);
        let mut kept = slot.lock().await;
        if let Some((at, answer)) = &*kept
            && at.elapsed() < self.keep
        {
            return Ok((Arc::clone(answer), at.elapsed()));
        }
        let answer = Arc::new(ask().await?);
        *kept = Some((Instant::now(), Arc::clone(&answer)));
        Ok((answer, Duration::ZERO))
    }

    fn slot(&self, question: &K) -> Slot<V> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if !slots.contains_key(question)
            && slots.len() >= self.most
            && let Some(oldest) = slots.iter().min_by_key(|(_, (asked, _))| *asked)
        {
            let oldest = oldest.0.clone();
            slots.remove(&oldest);
        }
        let (asked, slot) = slots
            .entry(question.clone())
            .or_insert_with(|| (Instant::now(), Slot::default()));
        *asked = Instant::now();
        Arc::clone(slot)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_asks_for_all_and_again_when_the_answer_is_old() {
        let cache = QueryCache::new(Duration::from_secs(300), 2);
        let asked = AtomicUsize::new(0);
        let ask = async || {
            let turn = asked.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(1)).await;
            if turn == 0 { Err("no") } else { Ok(turn) }
        };
        assert_eq!(cache.get(&"a", ask).await, Err("no"));
        let (one, other) = tokio::join!(cache.get(&"a", ask), cache.get(&"a", ask));
        assert_eq!((*one.unwrap().0, *other.unwrap().0), (1, 1));
        tokio::time::sleep(Duration::from_secs(299)).await;
        let (answer, age) = cache.get(&"a", ask).await.unwrap();
        assert_eq!((*answer, age.as_secs()), (1, 299));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(*cache.get(&"a", ask).await.unwrap().0, 2);
        for question in ["b", "c"] {
            cache.get(&question, ask).await.unwrap();
        }
        assert_eq!(cache.slots.lock().unwrap().len(), 2, "bounded");
        assert_eq!(*cache.get(&"a", ask).await.unwrap().0, 5, "asked longest ago");
    }
}
