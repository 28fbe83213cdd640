//! What is asked for: few keys often and many seldom, each of one repository, by fifty actors.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sha2::{Digest as _, Sha256};
use shared::access::{Access, Asked, Digest, Found, What};
use shared::event::Data;

pub(crate) struct Load {
    random: StdRng,
    /// Sums of 1/k.
    upto: Vec<f64>,
}

impl Load {
    pub(crate) fn new(keys: usize) -> Self {
        let mut sum = 0.0;
        let upto = (1..=keys).map(|k| {
            sum += 1.0 / k as f64;
            sum
        });
        Self {
            upto: upto.collect(),
            random: StdRng::seed_from_u64(7),
        }
    }

    pub(crate) fn next(&mut self, at_ms: u64) -> (Digest, Access) {
        let all = self.upto.last().copied().unwrap_or(1.0);
        let unit = self.random.random::<f64>() * all;
        let key = self.upto.partition_point(|upto| *upto < unit);
        self.fresh(key, at_ms)
    }

    /// An access of this key.
    pub(crate) fn fresh(&mut self, key: usize, at_ms: u64) -> (Digest, Access) {
        let id = |n: usize| Digest(Sha256::digest(n.to_be_bytes()).into());
        let found = match self.random.random_range(0..100) {
            0..60 => Found::Memory,
            60..75 => Found::Redis,
            75..80 => Found::Postgres,
            80..97 => Found::Nowhere,
            _ => Found::Unasked,
        };
        let called = matches!(found, Found::Nowhere | Found::Unasked);
        let access = Access {
            at_ms,
            key: id(key).id(),
            actor: Some(id(self.random.random_range(0..50)).id()),
            repository: Some(id(key % 200).id()),
            found,
            fetch_ms: called.then(|| self.random.random_range(40..400)),
        };
        (id(key), access)
    }
}

pub(crate) fn what() -> What {
    let asked = Asked {
        kind: "call".into(),
        data: Data::json(&br#"{"path":"/repos/octo/repo/pulls/17/files"}"#[..]),
    };
    What::new("github-reads::/repos/octo/repo/pulls/17/files", None, asked).unwrap()
}
