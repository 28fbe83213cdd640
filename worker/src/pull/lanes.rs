//! Asks the server for messages of a service's three lanes.
//!
//! Two kinds of requests, each over an inbox of its own. A sweep asks a lane for what is there now and ends at once.
//! When all sweeps come back empty, a parked request for one message waits at the server on each lane, so that the
//! next event is here in one trip. Parked requests stay between calls of [`Lanes::park`]; whoever is going to be busy
//! elsewhere must [`stand_down`](Lanes::stand_down), lest a message wait here instead of with another worker.

mod inbox;

use async_nats::{Client, Message};
use futures_util::FutureExt;
use futures_util::future::select_all;
use shared::subject::{Lane, Service};
use tokio::sync::watch;

use super::share::Share;
use inbox::LaneInbox;

/// The server does not serve the lane; the caller makes the topology anew and comes back.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    /// No such consumer, or nobody answers.
    #[error("lane {lane}: {says}")]
    Refused {
        /// Which lane.
        lane: Lane,
        /// The server's words.
        says: String,
    },
    /// The client is shut down.
    #[error("lane {0}: the connection is closed")]
    Closed(Lane),
}

/// Which lanes are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// All three.
    All,
    /// All but the lowest.
    Upper,
}

impl Which {
    fn range(self) -> std::ops::Range<usize> {
        match self {
            Self::All => 0..3,
            Self::Upper => 0..2,
        }
    }
}

/// The lanes of one service.
#[derive(Debug)]
pub(super) struct Lanes {
    client: Client,
    /// How often the client has connected: a request that was made before is lost.
    connects: watch::Receiver<u64>,
    share: Share,
    lanes: [LaneInbox; 3],
}

impl Lanes {
    /// The lanes of this service.
    pub(super) fn new(client: Client, connects: watch::Receiver<u64>, service: &Service) -> Self {
        let lanes = Lane::ALL.map(|lane| LaneInbox::new(service, lane));
        Self {
            client,
            connects,
            share: Share::default(),
            lanes,
        }
    }

    /// How many messages wait at the server, as far as the last ones told.
    pub(super) fn waiting(&self, which: Which) -> u64 {
        self.lanes[which.range()].iter().map(LaneInbox::waiting).sum()
    }

    /// Gives up to `most` messages that are there now to `take`: each lane its share, all asked at once; then what nobody
    /// took to whoever has more, most urgent first. Safe to cancel.
    pub(super) async fn sweep(
        &mut self,
        which: Which,
        most: usize,
        mut take: impl FnMut(Message),
    ) -> Result<(), LaneError> {
        let mut got = 0;
        for lane in &mut self.lanes {
            if let Some(message) = lane.parked_now()? {
                got += 1;
                take(message);
            }
        }
        let places = most.saturating_sub(got);
        let shares = match which {
            Which::All => self.share.deal(places),
            Which::Upper => self.share.deal_upper(places),
        };
        let on = *self.connects.borrow();
        for (lane, (_, places)) in self.lanes.iter_mut().zip(shares) {
            lane.ask(&self.client, places).await?;
        }
        let mut empty = [false; 3];
        for (i, (_, places)) in shares.into_iter().enumerate() {
            let lost = lost(&self.connects, on);
            let taken = self.lanes[i]
                .collect(&self.client, places, lost, &mut take)
                .await?;
            empty[i] = taken < places;
            got += taken;
        }
        for (lane, empty) in self.lanes[which.range()].iter_mut().zip(empty) {
            if !empty {
                let places = most.saturating_sub(got);
                lane.ask(&self.client, places).await?;
                got += lane
                    .collect(&self.client, places, lost(&self.connects, on), &mut take)
                    .await?;
            }
        }
        Ok(())
    }

    /// Waits for a message on any lane and gives it to `take`, with what has come on the others. Safe to cancel.
    pub(super) async fn park(
        &mut self,
        which: Which,
        mut take: impl FnMut(Message),
    ) -> Result<(), LaneError> {
        for lane in &mut self.lanes {
            if let Some(message) = lane.parked_now()? {
                take(message);
                return Ok(());
            }
        }
        let on = *self.connects.borrow();
        let lanes = &mut self.lanes[which.range()];
        for lane in lanes.iter_mut() {
            lane.park(&self.client, on).await?;
        }
        let arrived = tokio::select! {
            // What has arrived before the connection was lost is there.
            biased;
            (arrived, _, _) = select_all(lanes.iter_mut().map(|lane| lane.wait().boxed())) => arrived?,
            () = lost(&self.connects, on) => None,
        };
        if let Some(message) = arrived {
            take(message);
        }
        Ok(())
    }

    /// Takes the parked requests back. What arrived on them meanwhile is handed back to the server at once.
    pub(super) async fn stand_down(&mut self) {
        for lane in &mut self.lanes {
            lane.stand_down(&self.client).await;
        }
    }

    /// Ends all requests, a sweep that was cut short included.
    pub(super) async fn close(mut self) {
        self.stand_down().await;
        for lane in &mut self.lanes {
            lane.end_sweep(&self.client).await;
        }
    }
}

/// Waits for the end of the connection of this number, or of its successors.
async fn lost(connects: &watch::Receiver<u64>, on: u64) {
    let mut connects = connects.clone();
    if connects.wait_for(|now| *now != on).await.is_err() {
        // The client is gone; its subscriptions tell.
        std::future::pending::<()>().await;
    }
}
