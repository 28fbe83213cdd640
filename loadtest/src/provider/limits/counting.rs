//! What every way of counting can tell, whatever it keeps.

use std::{fmt::Debug, time::Duration};

use super::{bucket::TokenBucket, log::SlidingLog, shape::Shape, window::FixedWindow};
use crate::provider::window::Window;

/// One way of counting. Times are since the provider's start and do not run backwards.
pub(super) trait Counting: Debug + Send {
    /// The most it can have counted at once: calls of a period, or what a full bucket holds.
    fn size(&self) -> u32;

    /// What counts at `now`, at most the size.
    fn used(&mut self, now: Duration) -> u32;

    /// Counts a call. Whether it fits was asked at the same `now` by [`used`](Self::used).
    fn count(&mut self, now: Duration, cost: u32);

    /// When quota comes back: the oldest call leaves, the window ends, the bucket is full.
    fn resets_at(&self, now: Duration) -> Duration;

    /// The earliest time at which a call of this cost fits if nothing else comes; with a cost above the size, which
    /// never fits, the time at which all is unused.
    fn room_at(&self, now: Duration, cost: u32) -> Duration;
}

/// The way that a shape tells, nothing counted yet. `origin` is the provider's clock at its start.
pub(super) fn counting(shape: Shape, window: Window, origin: Duration) -> Box<dyn Counting> {
    match shape {
        Shape::Sliding => Box::new(SlidingLog::new(window)),
        Shape::Fixed => Box::new(FixedWindow::from_first_call(window)),
        Shape::Aligned => Box::new(FixedWindow::aligned(window, origin)),
        Shape::Bucket { burst } => Box::new(TokenBucket::new(window, burst.map_or(window.calls, u32::from))),
    }
}
