//! A table that stays within its bound by forgetting what weighs least.
//!
//! When it is full, the lightest quarter goes at once, as in Lossy Counting (G. Manku, R. Motwani, "Approximate frequency
//! counts over data streams", VLDB 2002), with decayed weights: a million keys that are seen once push out each other, and
//! nothing that is seen again and again. A quarter at a time costs a constant time per insertion.

use std::collections::HashMap;

use super::decay::Decayed;

/// Half-life of a weight: what comes once a week is not forgotten for what came once today.
const HALF_LIFE_MS: u64 = 3 * 24 * 3_600_000;

/// What is kept of an entry, and its weight.
#[derive(Debug)]
struct Slot<V> {
    weight: Decayed,
    value: V,
}

/// At most `most` values by id.
#[derive(Debug)]
pub(super) struct Bounded<V> {
    slots: HashMap<u64, Slot<V>>,
    most: usize,
}

impl<V: Default> Bounded<V> {
    /// Empty. `most` is at least 1.
    pub(super) fn new(most: usize) -> Self {
        Self {
            slots: HashMap::new(),
            most: most.max(1),
        }
    }

    /// The value of `id`, made when it is new, and heavier by one.
    pub(super) fn touch(&mut self, id: u64, at_ms: u64) -> &mut V {
        if self.slots.len() >= self.most && !self.slots.contains_key(&id) {
            self.forget(at_ms);
        }
        let slot = self.slots.entry(id).or_insert_with(|| Slot {
            weight: Decayed::default(),
            value: V::default(),
        });
        slot.weight.add(at_ms, HALF_LIFE_MS);
        &mut slot.value
    }

    /// The value of `id`, if it is known.
    pub(super) fn get(&self, id: u64) -> Option<&V> {
        self.slots.get(&id).map(|slot| &slot.value)
    }

    /// The value of `id`, if it is known, no heavier.
    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut V> {
        self.slots.get_mut(&id).map(|slot| &mut slot.value)
    }

    /// Everything, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &V)> {
        self.slots.iter().map(|(id, slot)| (*id, &slot.value))
    }

    /// Everything, to be changed, in no order.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.slots.values_mut().map(|slot| &mut slot.value)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The lightest quarter goes, one at least. Which of equals is settled by their ids, so that the same accesses always
    /// lead to the same table.
    fn forget(&mut self, now_ms: u64) {
        let mut weights: Vec<(f32, u64)> = self
            .slots
            .iter()
            .map(|(id, slot)| (slot.weight.at(now_ms, HALF_LIFE_MS), *id))
            .collect();
        let quarter = (weights.len() / 4).max(1);
        weights.select_nth_unstable_by(quarter - 1, |one, other| {
            one.0.total_cmp(&other.0).then(one.1.cmp(&other.1))
        });
        for (_, id) in &weights[..quarter] {
            self.slots.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_single_keys_pushes_out_nothing_that_comes_again() {
        let mut table = Bounded::<u32>::new(100);
        let day = 24 * 3_600_000;
        for day_number in 0..10 {
            for id in 0..20 {
                *table.touch(id, day_number * day) += 1;
            }
        }
        for id in 1_000..1_001_000 {
            table.touch(id, 10 * day + id / 1_000);
            assert!(table.len() <= 100);
        }
        for id in 0..20 {
            assert_eq!(table.get(id), Some(&10));
        }
    }
}
