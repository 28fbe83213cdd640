//! What is asked for, and the cache to compare with.

use std::collections::{BTreeMap, HashMap};

use rand::Rng;
use rand::rngs::StdRng;

/// The plainest cache that forgets what was not used for longest.
pub(crate) struct Lru {
    most: usize,
    used: HashMap<usize, u64>,
    order: BTreeMap<u64, usize>,
    now: u64,
}

impl Lru {
    /// An empty one for so many.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            used: HashMap::new(),
            order: BTreeMap::new(),
            now: 0,
        }
    }

    /// Whether a key is there; now it is.
    pub(crate) fn hit(&mut self, key: usize) -> bool {
        self.now += 1;
        let before = self.used.insert(key, self.now);
        if let Some(before) = before {
            self.order.remove(&before);
        }
        self.order.insert(self.now, key);
        if self.used.len() > self.most
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.used.remove(&oldest);
        }
        before.is_some()
    }
}

/// Who is asked for how often falls with the rank: the k-th of `many` with a probability in proportion to 1/k^s.
pub(crate) struct Zipf(Vec<f64>);

impl Zipf {
    pub(crate) fn new(many: usize, s: f64) -> Self {
        let mut sum = 0.0;
        let upto = (1..=many).map(|k| {
            sum += (k as f64).powf(-s);
            sum
        });
        let upto: Vec<f64> = upto.collect();
        Self(upto.into_iter().map(|at| at / sum).collect())
    }

    pub(crate) fn next(&self, random: &mut StdRng) -> usize {
        let unit: f64 = random.random();
        self.0.partition_point(|upto| *upto < unit)
    }
}
