//! What is asked of one lane, and what comes for it.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use async_nats::{Client, Message, StatusCode, Subscriber};
use futures_util::{FutureExt, StreamExt};
use shared::subject::{Lane, Service};
use tokio::time::{Instant, sleep, timeout_at};

use super::LaneError;

/// How long a parked request waits at the server.
const PARK: Duration = Duration::from_secs(20);
/// How often the server shows that it still knows of a parked request; twice that without a sign, it is asked anew.
const HEARTBEAT: Duration = Duration::from_secs(4);
/// A sweep is answered at once; without an answer for this long the server has lost it.
const SWEEP_TIMEOUT: Duration = Duration::from_secs(2);

/// The requests of one lane.
#[derive(Debug)]
pub(super) struct LaneInbox {
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
    /// Nothing is asked yet.
    pub(super) fn new(service: &Service, lane: Lane) -> Self {
        Self {
            lane,
            requests: format!("$JS.API.CONSUMER.MSG.NEXT.{}.{lane}", service.stream()),
            sweep: None,
            park: None,
            waiting: 0,
            parked: None,
            parked_on: 0,
        }
    }

    /// How many messages wait at the server, as far as the last one told.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Takes the parked request back.
    pub(super) async fn stand_down(&mut self, client: &Client) {
        if self.parked.take().is_some() {
            hand_back(client, self.park.take()).await;
        }
    }

    /// Ends a sweep that was cut short.
    pub(super) async fn end_sweep(&mut self, client: &Client) {
        hand_back(client, self.sweep.take()).await;
    }
    /// Asks for up to `places` messages that are there now.
    pub(super) async fn ask(&mut self, client: &Client, places: usize) -> Result<(), LaneError> {
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
    pub(super) async fn collect(
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
    pub(super) async fn park(&mut self, client: &Client, on: u64) -> Result<(), LaneError> {
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
    pub(super) fn parked_now(&mut self) -> Result<Option<Message>, LaneError> {
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
    pub(super) async fn wait(&mut self) -> Result<Option<Message>, LaneError> {
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
