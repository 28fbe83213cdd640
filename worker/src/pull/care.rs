//! Care after a lost connection. A message whose headers the client library refuses ends the connection, and what comes
//! behind it on the same one is lost with it until the ack wait is over; then all of it comes again, and first. Whoever
//! asks for one message at a time loses nothing but that one.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// How carefully messages are asked for.
#[derive(Debug)]
pub(super) struct Care {
    connects: watch::Receiver<u64>,
    /// The connection that was there last.
    on: u64,
    until: Option<Instant>,
    /// What was lost comes again within half of it.
    span: Duration,
}

impl Care {
    /// None yet. What is lost comes again after `ack_wait`.
    pub(super) fn new(connects: watch::Receiver<u64>, ack_wait: Duration) -> Self {
        let on = *connects.borrow();
        Self {
            connects,
            on,
            until: None,
            span: ack_wait * 2,
        }
    }

    /// Most messages to ask for at once, of `places`.
    pub(super) fn most(&mut self, places: usize) -> usize {
        let now = *self.connects.borrow();
        if now != self.on {
            // The first connection is none that was lost.
            if self.on > 0 {
                tracing::warn!(for = ?self.span, "the connection to NATS was lost: messages are asked for one at a time");
                self.until = Some(Instant::now() + self.span);
            }
            self.on = now;
        }
        match self.until {
            Some(until) if Instant::now() < until => places.min(1),
            _ => places,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lost_connection_makes_careful_for_a_while() {
        let (connected, connects) = watch::channel(0);
        let mut care = Care::new(connects, Duration::from_secs(30));
        connected.send_replace(1);
        assert_eq!(care.most(20), 20, "the first one");
        connected.send_replace(2);
        assert_eq!((care.most(20), care.most(0)), (1, 0));
        tokio::time::advance(Duration::from_secs(59)).await;
        connected.send_replace(3);
        assert_eq!(care.most(20), 1);
        tokio::time::advance(Duration::from_secs(59)).await;
        assert_eq!(care.most(20), 1, "lost again");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(care.most(20), 20);
    }
}
