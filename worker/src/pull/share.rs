//! How places are shared between the lanes of a service: by weight, so that the urgent lane goes first and the
//! lowest never starves.

use shared::subject::Lane;

/// Smooth weighted round robin: over any ten places each lane gets its weight, spread evenly.
#[derive(Debug, Default)]
pub(super) struct Share {
    credit: [i64; 3],
}

impl Share {
    /// Deals out `places` to the upper lanes only.
    pub(super) fn deal_upper(&mut self, places: usize) -> [(Lane, usize); 3] {
        let mut dealt = self.deal(places);
        dealt[0].1 += dealt[2].1;
        dealt[2].1 = 0;
        dealt
    }

    /// Deals out `places`, most urgent lane first.
    pub(super) fn deal(&mut self, places: usize) -> [(Lane, usize); 3] {
        let weights = Lane::ALL.map(|lane| i64::from(lane.weight()));
        let total: i64 = weights.iter().sum();
        let rounds = places / total as usize;
        let mut dealt = Lane::ALL.map(|lane| (lane, rounds * usize::from(lane.weight())));
        for _ in 0..places % total as usize {
            for (credit, weight) in self.credit.iter_mut().zip(weights) {
                *credit += weight;
            }
            let next = (0..3)
                .max_by_key(|lane| (self.credit[*lane], 3 - lane))
                .unwrap_or(0);
            self.credit[next] -= total;
            dealt[next].1 += 1;
        }
        dealt
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_lane_gets_its_weight_and_no_place_is_lost(deals in prop::collection::vec(0_usize..50, 1..100)) {
            let mut share = Share::default();
            let mut got = [0; 3];
            for places in &deals {
                let dealt = share.deal(*places);
                prop_assert_eq!(dealt.iter().map(|(_, n)| n).sum::<usize>(), *places);
                for (sum, (_, n)) in got.iter_mut().zip(dealt) {
                    *sum += n;
                }
            }
            let all = deals.iter().sum::<usize>() as f64;
            for (sum, lane) in got.iter().zip(Lane::ALL) {
                let fair = all * f64::from(lane.weight()) / 10.0;
                prop_assert!((*sum as f64 - fair).abs() <= 2.0, "{lane}: {sum} of {all}, fair is {fair}");
            }
        }
    }

    #[test]
    fn one_place_at_a_time_goes_to_every_lane_within_ten() {
        let mut share = Share::default();
        let order: Vec<Lane> = (0..10)
            .map(|_| share.deal(1).iter().find(|(_, n)| *n == 1).unwrap().0)
            .collect();
        assert_eq!(order.iter().filter(|lane| **lane == Lane::High).count(), 6);
        assert_eq!(order.iter().filter(|lane| **lane == Lane::Low).count(), 1);
        assert_eq!(order[0], Lane::High);
    }
}
