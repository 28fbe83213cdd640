//! Asks the server for messages of a service's three lanes.
//!
//! Two kinds of requests, each over an inbox of its own. A sweep asks a lane for what is there now and ends at once.
//! When all sweeps come back empty, a parked request for one message waits at the server on each lane, so that the
//! next event is here in one trip. Parked requests stay between calls of [`Lanes::park`]; whoever is going to be busy
//! elsewhere must [`stand_down`](Lanes::stand_down), lest a message wait here instead of with another worker.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use async_nats::{Client, Message, StatusCode, Subscriber};
use futures_util::future::select_all;
use futures_util::{FutureExt, StreamExt};
use shared::subject::{Lane, Service};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::share::Share;

/// How long a parked request waits at the server.
const PARK: Duration = Duration::from_secs(20);
/// How often the server shows that it still knows of a parked request; twice that without a sign, it is asked anew.
const HEARTBEAT: Duration = Duration::from_secs(4);
/// A sweep is answered at once; without an answer for this long the server has lost it.
const SWEEP_TIMEOUT: Duration = Duration::from_secs(2);

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

#[derive(Debug)]
struct LaneInbox {
    lane: Lane,
    requests: String,
    sweep: Option<(String, Subscriber)>,
    park: Option<(String, Subscriber)>,
    /// Messages that waited at the server when it last told.
    waiting: u64,
    /// When the server was last heard about the parked request; `None` when none is parked.
    parked: Option<Instant>,
    /// On which connection it was parked.
    parked_on: u64,
}

/// What arrived on an inbox.
enum Arrival {
    Message(Message),
    /// The server still knows of the request.
    Heartbeat,
    /// The request is over.
    End,
}

impl Lanes {
    /// The lanes of this service.
    pub(super) fn new(client: Client, connects: watch::Receiver<u64>, service: &Service) -> Self {
        let lanes = Lane::ALL.map(|lane| LaneInbox {
            lane,
            requests: format!("$JS.API.CONSUMER.MSG.NEXT.{}.{lane}", service.stream()),
            sweep: None,
            park: None,
            waiting: 0,
            parked: None,
            parked_on: 0,
        });
        Self {
            client,
            connects,
            share: Share::default(),
            lanes,
        }
    }

    /// How many messages wait at the server, as far as the last ones told.
    pub(super) fn waiting(&self, which: Which) -> u64 {
        self.lanes[which.range()].iter().map(|lane| lane.waiting).sum()
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
            if lane.parked.take().is_some() {
                hand_back(&self.client, lane.park.take()).await;
            }
        }
    }

    /// Ends all requests, a sweep that was cut short included.
    pub(super) async fn close(mut self) {
        self.stand_down().await;
        for lane in &mut self.lanes {
            hand_back(&self.client, lane.sweep.take()).await;
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

/// Closes an inbox; what has arrived or is on its way goes back to the server.
async fn hand_back(client: &Client, inbox: Option<(String, Subscriber)>) {
    let Some((_, mut inbox)) = inbox else { return };
    if inbox.drain().await.is_err() {
        return;
    }
    let deadline = Instant::now() + SWEEP_TIMEOUT;
    while let Ok(Some(message)) = timeout_at(deadline, inbox.next()).await {
        if let Some(reply) = message.reply.filter(|reply| reply.starts_with("$JS.ACK.")) {
            let _ = client.publish(reply, "-NAK".into()).await;
        }
    }
}

impl LaneInbox {
    /// Asks for up to `places` messages that are there now.
    async fn ask(&mut self, client: &Client, places: usize) -> Result<(), LaneError> {
        if places == 0 {
            return Ok(());
        }
        let lane = self.lane;
        let (name, _) = open(client, &mut self.sweep, lane).await?;
        let request = format!("{{\"batch\":{places},\"no_wait\":true}}");
        let asked = client
            .publish_with_reply(self.requests.clone(), name.clone(), request.into())
            .await;
        asked.map_err(|_| LaneError::Closed(lane))
    }

    /// Takes what was asked for; how many came until it was `lost`.
    async fn collect(
        &mut self,
        client: &Client,
        places: usize,
        lost: impl Future<Output = ()>,
        take: &mut impl FnMut(Message),
    ) -> Result<usize, LaneError> {
        let mut lost = pin!(lost);
        let lane = self.lane;
        let Some((_, inbox)) = self.sweep.as_mut() else {
            return Ok(0);
        };
        let mut got = 0;
        while got < places {
            let arrived = tokio::select! {
                biased;
                arrived = inbox.next() => Some(arrived),
                () = &mut lost => None,
                () = sleep(SWEEP_TIMEOUT) => None,
            };
            match arrived {
                Some(arrived) => match read(lane, arrived)? {
                    Arrival::Message(message) => {
                        got += 1;
                        self.waiting = behind(&message);
                        take(message);
                    }
                    Arrival::Heartbeat => {}
                    Arrival::End => {
                        self.waiting = 0;
                        break;
                    }
                },
                None => {
                    // The server has lost the request (a reconnect, a new leader), or answers it late: what comes goes
                    // back at once. A new inbox, so that a late end is not taken for the end of the next sweep.
                    hand_back(client, self.sweep.take()).await;
                    break;
                }
            }
        }
        Ok(got)
    }

    /// Parks a request for one message, unless one is parked on this connection.
    async fn park(&mut self, client: &Client, on: u64) -> Result<(), LaneError> {
        if self.parked.is_some() && self.parked_on == on {
            return Ok(());
        }
        if self.parked.take().is_some() {
            // It may have been made on this connection all the same, before the client said that there is a new one.
            hand_back(client, self.park.take()).await;
        }
        let lane = self.lane;
        let (name, _) = open(client, &mut self.park, lane).await?;
        let (expires, heartbeat) = (PARK.as_nanos(), HEARTBEAT.as_nanos());
        let request = format!("{{\"batch\":1,\"expires\":{expires},\"idle_heartbeat\":{heartbeat}}}");
        let asked = client
            .publish_with_reply(self.requests.clone(), name.clone(), request.into())
            .await;
        asked.map_err(|_| LaneError::Closed(lane))?;
        (self.parked, self.parked_on) = (Some(Instant::now()), on);
        Ok(())
    }

    /// A message that has arrived for the parked request already.
    fn parked_now(&mut self) -> Result<Option<Message>, LaneError> {
        if self.parked.is_none() {
            return Ok(None);
        }
        while let Some(arrived) = self
            .park
            .as_mut()
            .and_then(|(_, inbox)| inbox.next().now_or_never())
        {
            match read(self.lane, arrived)? {
                Arrival::Message(message) => {
                    self.parked = None;
                    self.waiting = behind(&message);
                    return Ok(Some(message));
                }
                Arrival::Heartbeat => self.parked = Some(Instant::now()),
                Arrival::End => {
                    self.parked = None;
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }

    /// Waits for the parked request: its message, or `None` when it is over without one.
    async fn wait(&mut self) -> Result<Option<Message>, LaneError> {
        loop {
            let (Some(heard), Some((_, inbox))) = (self.parked, self.park.as_mut()) else {
                return Ok(None);
            };
            match timeout_at(heard + HEARTBEAT * 2 + Duration::from_secs(1), inbox.next()).await {
                Err(_) => {
                    // Not a sign of life: the server does not know of it any more. A new inbox for the new request.
                    self.parked = None;
                    self.park = None;
                    return Ok(None);
                }
                Ok(arrived) => match read(self.lane, arrived)? {
                    Arrival::Heartbeat => self.parked = Some(Instant::now()),
                    Arrival::Message(message) => {
                        self.parked = None;
                        self.waiting = behind(&message);
                        return Ok(Some(message));
                    }
                    Arrival::End => {
                        self.parked = None;
                        return Ok(None);
                    }
                },
            }
        }
    }
}

async fn open<'a>(
    client: &Client,
    inbox: &'a mut Option<(String, Subscriber)>,
    lane: Lane,
) -> Result<&'a mut (String, Subscriber), LaneError> {
    match inbox {
        Some(open) => Ok(open),
        closed => {
            let name = client.new_inbox();
            let subscriber = client
                .subscribe(name.clone())
                .await
                .map_err(|_| LaneError::Closed(lane))?;
            Ok(closed.insert((name, subscriber)))
        }
    }
}

/// How many messages wait in the lane of this one.
fn behind(message: &Message) -> u64 {
    let reply = message.reply.as_deref();
    reply.and_then(crate::delivery::pending).unwrap_or(0)
}

/// Tells messages from the server's words about the request.
fn read(lane: Lane, arrived: Option<Message>) -> Result<Arrival, LaneError> {
    let message = arrived.ok_or(LaneError::Closed(lane))?;
    // A publisher can write a status into its own message; only what has no ack subject is the server's word.
    let delivery = message
        .reply
        .as_deref()
        .is_some_and(|reply| reply.starts_with("$JS.ACK."));
    let Some(status) = message.status.filter(|_| !delivery) else {
        return Ok(Arrival::Message(message));
    };
    let says = || message.description.clone().unwrap_or_default();
    match status {
        StatusCode::IDLE_HEARTBEAT => Ok(Arrival::Heartbeat),
        // No messages, request expired, request over for a reason that a new request mends (leader change, shutdown,
        // too many requests for now).
        StatusCode::NOT_FOUND | StatusCode::TIMEOUT => Ok(Arrival::End),
        StatusCode::NO_RESPONDERS => Err(LaneError::Refused {
            lane,
            says: "nobody answers".into(),
        }),
        other if other.as_u16() == 409 && !says().contains("Consumer Deleted") => Ok(Arrival::End),
        other => Err(LaneError::Refused {
            lane,
            says: format!("{other} {}", says()),
        }),
    }
}
