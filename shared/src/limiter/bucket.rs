//! The arithmetic of one bucket (GCRA), pure: what the script in Redis does, with time as an argument.

/// A bucket that holds `burst` calls and refills one every `interval`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    interval_us: u64,
    burst: u32,
}

/// Where a bucket stands: the moment, in microseconds, at which it is full again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State(pub u64);

impl Bucket {
    /// A bucket; both figures are at least 1.
    pub fn new(interval_us: u64, burst: u32) -> Self {
        Self {
            interval_us: interval_us.max(1),
            burst: burst.max(1),
        }
    }

    /// Microseconds between two refills.
    pub fn interval_us(&self) -> u64 {
        self.interval_us
    }

    /// Calls that a full bucket holds.
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// Calls a second in the long run.
    pub fn rate(&self) -> f64 {
        1e6 / self.interval_us as f64
    }

    /// How many calls of this cost the bucket lets through at `now`.
    pub fn available(&self, state: State, cost: u32, now: u64) -> u32 {
        let span = self.interval_us * u64::from(self.burst);
        let used = state.0.saturating_sub(now);
        (span.saturating_sub(used) / (self.interval_us * u64::from(cost.max(1)))).min(u32::MAX.into()) as u32
    }

    /// Books calls that [`available`](Self::available) has allowed.
    pub fn take(&self, state: State, cost: u32, calls: u32, now: u64) -> State {
        State(state.0.max(now) + self.interval_us * u64::from(cost) * u64::from(calls))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limiter::{JITTER, Limit};

    proptest! {
        /// Whoever asks, whenever: no window of the provider holds more calls than the limit, even when the network
        /// pulls calls together by the jitter allowed for.
        #[test]
        fn no_window_holds_more_than_the_limit(
            calls in 1_u32..60,
            burst_share in 0.0..1.0,
            asks in prop::collection::vec((0_u64..400_000, 1_u32..20), 1..300),
        ) {
            let burst = ((f64::from(calls) * burst_share) as u32).clamp(1, calls);
            let limit = Limit::new(calls, std::time::Duration::from_secs(1), burst).unwrap();
            let (bucket, mut state, mut now) = (limit.bucket(), State::default(), 0);
            let mut starts = Vec::new();
            for (pause, want) in asks {
                now += pause;
                let granted = bucket.available(state, 1, now).min(want);
                state = bucket.take(state, 1, granted, now);
                starts.extend(std::iter::repeat_n(now, granted as usize));
            }
            let window = 1_000_000 + JITTER.as_micros() as u64 - 1;
            for (i, start) in starts.iter().enumerate() {
                let inside = starts[i..].iter().take_while(|s| **s - start <= window).count();
                prop_assert!(inside <= calls as usize, "{inside} calls in a window, {calls} allowed");
            }
        }
    }
}
