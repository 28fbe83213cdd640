//! Events of one service that go together into one call. The first one of a group leads: it waits a moment for others
//! and for the time of a call, during which more join, makes the call and hands every member its own outcome. Each member stays what it is: a delivery with a
//! place, a look at the store before and a record and an ack after.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use prometheus_client::metrics::counter::Counter;
use shared::event::{Event, EventId};
use shared::failure::Failure;
use shared::limiter::Charge;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use crate::delivery::Delivery;
use crate::effect::Effect;
use crate::handler::{Grouping, Handler, Outcome};
use crate::limits::TENANT;
use crate::outbound::lease::Lease;
use crate::pool::Pool;
use crate::process::{no_answer, put_off, take_turn};
use crate::quota::{Ticket, Wait};
use crate::response::Moment;

/// A group waits up to this long for the quota that every call falls under: its places are taken, and fewer groups wait
/// than calls can begin.
const PATIENCE: Duration = Duration::from_secs(10);
/// While more groups than this wait, fewer messages are pulled for each ticket: what is pulled does not go together.
const MOST_WAITING: usize = 8;

/// The groups of one service that are being put together.
#[derive(Debug)]
pub struct Groups {
    grouping: Option<Grouping>,
    open: Mutex<HashMap<Key, Open>>,
    last: AtomicU64,
    /// Messages that are pulled for a ticket.
    each: AtomicUsize,
    metrics: GroupMetrics,
}

/// Counts of one service's groups.
#[derive(Debug, Clone, Default)]
pub struct GroupMetrics {
    /// Calls made for several events.
    pub calls: Counter,
    /// Events that went into them.
    pub events: Counter,
}

/// What must be equal for events to go together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    said: String,
    /// Where a tenant has a limit of its own, its events go with their like.
    tenant: Option<String>,
    upstream: usize,
}

/// Those that have joined, beside the one that leads.
type Members = Arc<Mutex<Vec<Member>>>;

#[derive(Debug)]
struct Open {
    number: u64,
    members: Members,
    /// There are as many as go into a call.
    full: Arc<Notify>,
    /// A ticket that somebody brought, and that there is one.
    ticket: Arc<Mutex<Option<Ticket>>>,
    brought: Arc<Notify>,
    has_ticket: bool,
}

#[derive(Debug)]
struct Member {
    event: Arc<Event>,
    known: Known,
    told: oneshot::Sender<Told>,
}

/// The tag of what is known of an event's read.
type Known = Option<(EventId, String)>;

/// What a member is told by the one that leads.
#[derive(Debug)]
enum Told {
    /// How its part of the call ended, when that was begun, and with which event it went.
    Ended(Outcome, Option<Moment>, Arc<Event>),
    /// That it should make a call of its own.
    Alone,
}

/// What became of an event in a group.
#[derive(Debug)]
pub enum Together {
    /// Its part of the call ended, which began then if it reads what is kept.
    Ended(Outcome, Option<Moment>),
    /// It is to make a call of its own.
    Alone,
}

impl Groups {
    /// None open yet.
    pub fn new(handler: &dyn Handler, metrics: GroupMetrics) -> Self {
        let grouping = handler.grouping().filter(|grouping| grouping.most > 1);
        let most = grouping.map_or(1, |grouping| grouping.most);
        Self {
            grouping,
            open: Mutex::default(),
            last: AtomicU64::new(0),
            each: AtomicUsize::new(most),
            metrics,
        }
    }

    /// How many messages to pull for a ticket. As many as go into a call, unless groups pile up because what is pulled
    /// does not go together: it would wait for quota here and not in its stream.
    pub fn each(&self) -> usize {
        let Some(grouping) = self.grouping else { return 1 };
        let waiting = self.open().len();
        let before = self.each.load(Ordering::Relaxed);
        let now = if waiting > MOST_WAITING {
            (before / 2).max(1)
        } else {
            (before + 1).min(grouping.most)
        };
        self.each.store(now, Ordering::Relaxed);
        now
    }

    /// What an event shares with those that it may go with; `None` when it goes alone.
    ///
    /// What has failed before, or came again, goes alone: nobody's attempts are spent by another more than once.
    pub fn key(&self, event: &Event, delivery: &Delivery, lease: &Lease, pool: &Pool) -> Option<Key> {
        self.grouping?;
        if delivery.failed_attempts() > 0 || delivery.delivered > 1 {
            return None;
        }
        let (handler, limits) = (&*pool.handler, &pool.limits);
        if handler.effect(event) != Effect::Repeatable {
            return None;
        }
        let said = handler.group(event)?;
        let tenant = event.tenant.as_ref().map_or("", |tenant| tenant.as_str());
        let limited = limits.charge_of(TENANT, tenant, 1).is_some();
        Some(Key {
            said,
            tenant: limited.then(|| tenant.to_owned()),
            upstream: lease.at(),
        })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Key, Open>> {
        locked(&self.open)
    }

    /// Joins an open group; `Err` with a new one to lead.
    fn join(
        &self,
        key: Key,
        most: usize,
        (event, known): (&Arc<Event>, &Known),
        ticket: Option<Ticket>,
    ) -> Result<Hears, Box<Leader<'_>>> {
        let mut open = self.open();
        if let Some(group) = open.get(&key) {
            let (told, hears) = oneshot::channel();
            let (event, known) = (Arc::clone(event), known.clone());
            let mut members = locked(&group.members);
            members.push(Member { event, known, told });
            // The leader counts too.
            let is_full = members.len() + 1 >= most;
            drop(members);
            bring(&mut open, ticket);
            if is_full && let Some(group) = open.remove(&key) {
                group.full.notify_one();
            }
            return Ok(hears);
        }
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        let group = Open {
            number,
            members: Members::default(),
            full: Arc::default(),
            ticket: Arc::default(),
            brought: Arc::default(),
            has_ticket: false,
        };
        let leader = Leader {
            groups: self,
            key: key.clone(),
            number,
            members: Arc::clone(&group.members),
            full: Arc::clone(&group.full),
            ticket: Arc::clone(&group.ticket),
            brought: Arc::clone(&group.brought),
        };
        open.insert(key, group);
        bring(&mut open, ticket);
        Err(Box::new(leader))
    }

    fn saw(&self, size: usize) {
        if size > 1 {
            self.metrics.calls.inc();
            self.metrics.events.inc_by(size as u64);
        }
    }
}

/// Gives a ticket to the group that has waited longest for one; where none does, it is there for other calls.
fn bring(open: &mut HashMap<Key, Open>, ticket: Option<Ticket>) {
    let Some(ticket) = ticket else { return };
    let waiting = open.values_mut().filter(|group| !group.has_ticket);
    if let Some(group) = waiting.min_by_key(|group| group.number) {
        group.has_ticket = true;
        *locked(&group.ticket) = Some(ticket);
        group.brought.notify_one();
    }
}

type Hears = oneshot::Receiver<Told>;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts a group together. When it is dropped, by a worker that hands its events back, those that have joined go alone.
struct Leader<'g> {
    groups: &'g Groups,
    key: Key,
    number: u64,
    members: Members,
    full: Arc<Notify>,
    ticket: Arc<Mutex<Option<Ticket>>>,
    brought: Arc<Notify>,
}

impl Leader<'_> {
    /// Waits for the time of a call. Others join meanwhile, and may bring a ticket.
    async fn due(&self, pool: &Pool) -> Result<Ticket, Wait> {
        loop {
            let ticket = locked(&self.ticket).take();
            let asked = ticket.is_none();
            tokio::select! {
                due = pool.quota.due(ticket, PATIENCE) => return due,
                () = self.brought.notified(), if asked => {}
            }
        }
    }

    /// Nobody joins any more.
    fn close(&self) {
        let mut open = self.groups.open();
        if open
            .get(&self.key)
            .is_some_and(|group| group.number == self.number)
        {
            open.remove(&self.key);
        }
    }
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        self.close();
        locked(&self.members).clear();
    }
}

/// Takes an event through its group's call, with the tag of what is known of it.
pub async fn together(
    key: Key,
    (event, known): (&Event, Option<(EventId, String)>),
    delivery: &Delivery,
    ticket: Option<Ticket>,
    lease: &Lease,
    pool: &Pool,
) -> Together {
    let Some(grouping) = pool.groups.grouping else {
        return Together::Alone;
    };
    let event = Arc::new(event.clone());
    let leader = match pool.groups.join(key, grouping.most, (&event, &known), ticket) {
        Err(leader) => leader,
        Ok(hears) => {
            return match hears.await {
                Ok(Told::Ended(outcome, asked, first)) => {
                    tracing::Span::current().record("weir.group", first.id.as_str());
                    Together::Ended(outcome, asked)
                }
                Ok(Told::Alone) | Err(_) => Together::Alone,
            };
        }
    };
    // Whoever is alone in this worker has nobody to wait for.
    if pool.permits.available_permits() + 1 < pool.config.concurrency {
        let _ = timeout(grouping.within, leader.full.notified()).await;
    }
    let ticket = leader.due(pool).await;
    leader.close();
    let members = std::mem::take(&mut *locked(&leader.members));
    pool.groups.saw(members.len() + 1);
    let (mine, theirs) = make((&event, known), &members, delivery, ticket, lease, pool).await;
    for (member, told) in members.into_iter().zip(theirs) {
        // One that is gone was handed back.
        let _ = member.told.send(told);
    }
    match mine {
        Told::Ended(outcome, asked, _) => Together::Ended(outcome, asked),
        Told::Alone => Together::Alone,
    }
}

/// Makes the call for all of a group. What each is told: the first, and its members in their order.
async fn make(
    (first, known): (&Arc<Event>, Known),
    members: &[Member],
    delivery: &Delivery,
    ticket: Result<Ticket, Wait>,
    lease: &Lease,
    pool: &Pool,
) -> (Told, Vec<Told>) {
    let events: Vec<&Event> = std::iter::once(&**first)
        .chain(members.iter().map(|member| &*member.event))
        .collect();
    let others = members.iter().map(|member| member.known.clone());
    let known = std::iter::once(known).chain(others).flatten().collect();
    let mut asked = None;
    let call = call((&events, known), delivery, ticket, lease, &mut asked, pool);
    let outcomes = call.await;
    let alone = |count: usize| (Told::Alone, (0..count).map(|_| Told::Alone).collect());
    let Some(outcomes) = outcomes.filter(|outcomes| outcomes.len() == events.len()) else {
        return alone(members.len());
    };
    // What one of them brought about must not be the end of the others.
    let refused = |outcome: &Option<Outcome>| matches!(outcome, Some(Err(Failure::Permanent { .. })));
    if outcomes.len() > 1 && outcomes.iter().all(refused) {
        return alone(members.len());
    }
    let mut told = outcomes.into_iter().map(|outcome| {
        outcome.map_or(Told::Alone, |outcome| {
            Told::Ended(outcome, asked, Arc::clone(first))
        })
    });
    let mine = told.next().unwrap_or(Told::Alone);
    (mine, told.collect())
}

/// One call for all of these events; `None` when it did not tell of each.
async fn call(
    (events, known): (&[&Event], Vec<(EventId, String)>),
    delivery: &Delivery,
    ticket: Result<Ticket, Wait>,
    lease: &Lease,
    asked: &mut Option<Moment>,
    pool: &Pool,
) -> Option<Vec<Option<Outcome>>> {
    let all = |failure: Failure| Some(events.iter().map(|_| Some(Err(failure.clone()))).collect());
    let ticket = match ticket {
        Ok(ticket) => ticket,
        Err(wait) => return all(put_off(&wait)),
    };
    let mut charges: Vec<Charge> = pool.handler.group_charges(events, &pool.limits);
    let tenant = events[0].tenant.as_ref().map_or("", |tenant| tenant.as_str());
    charges.extend(pool.limits.charge_of(TENANT, tenant, 1));
    let turn = match take_turn(charges, delivery, Some(ticket), lease, pool).await {
        Ok(turn) => turn.knowing(known),
        Err(failure) => return all(failure),
    };
    *asked = pool.responses.moment();
    let handled = AssertUnwindSafe(pool.handler.handle_group(events.to_vec(), &turn)).catch_unwind();
    match timeout(pool.config.timeout, handled).await {
        Ok(Ok(outcomes)) => Some(outcomes),
        // It panicked, on one of them or on all.
        Ok(Err(_)) => None,
        Err(_) => all(no_answer(pool.config.timeout)),
    }
}
