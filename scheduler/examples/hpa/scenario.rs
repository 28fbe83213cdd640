//! What happens to a fleet, and what an autoscaler that reads one of the signals makes of it.

use std::time::Duration;

use scheduler::signal::{Capacity, Frame, Rates, demand};

use crate::controller::{Autoscaler, SYNC};
use crate::fleet::{Fleet, Service};

/// Between two observations, and how old one may get.
const OBSERVE: Duration = Duration::from_secs(5);
const FRESH: Duration = Duration::from_secs(15);
const FRAME: Frame = Frame {
    drain: Duration::from_secs(60),
    most_unacked: 20_000,
    in_service: true,
};
const MOST_PODS: u32 = 50;

/// What the autoscaler reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// `weir_queue_depth`, a pod for so many messages.
    Depth(u32),
    /// `weir_worker_demand`, a pod for each worker.
    Demand,
}

/// What goes wrong, and from when to when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// NATS is away.
    Outage,
    /// A new leader of the stream knows less than the old one for a moment.
    LeaderChange,
    /// A consumer is missing: its depth cannot be read, and nothing can be pulled.
    MissingConsumer,
    /// The scheduler is restarted, and forgets what it has seen.
    Restart,
}

/// One of the situations.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    /// Its name.
    pub(crate) name: &'static str,
    /// Events that are there when it begins.
    pub(crate) burst: u64,
    /// Events per second at a time.
    pub(crate) rate: fn(Duration) -> f64,
    /// What is scaled.
    pub(crate) service: Service,
    /// How long it is looked at.
    pub(crate) lasts: Duration,
    /// What goes wrong.
    pub(crate) fault: Fault,
    /// From when to when.
    pub(crate) between: (Duration, Duration),
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Outcome {
    /// Pods, times how long they were there, in seconds.
    pub(crate) pod_seconds: f64,
    /// How long after the last that went wrong nothing waited for a pod for the first time.
    pub(crate) drained: Option<Duration>,
    /// How long an event waited for a pod, on average.
    pub(crate) mean_wait: Duration,
    /// Most pods at a time.
    pub(crate) most_pods: u32,
    /// Messages that waited at the end.
    pub(crate) left: u64,
    /// Fewest and most pods while figures were not known any more.
    pub(crate) in_the_dark: Option<(u32, u32)>,
}

const ORDINARY: Service = Service {
    takes: Duration::from_secs(2),
    concurrency: 4,
    quota: None,
};
const HALF_HOUR: Duration = Duration::from_mins(30);

fn steady(_: Duration) -> f64 {
    20.0
}

/// From nothing to 60 a second and back.
fn ramp(at: Duration) -> f64 {
    let half = HALF_HOUR.as_secs_f64() / 2.0;
    60.0 * (1.0 - (at.as_secs_f64() - half).abs() / half).max(0.0)
}

/// All of them.
pub(crate) fn all() -> Vec<Scenario> {
    let burst = Scenario {
        name: "burst",
        burst: 3_000,
        rate: steady,
        service: ORDINARY,
        lasts: HALF_HOUR,
        fault: Fault::None,
        between: (Duration::ZERO, Duration::ZERO),
    };
    let limited = Service {
        quota: Some(5.0),
        ..ORDINARY
    };
    let at = |from: u64, to: u64| (Duration::from_secs(from), Duration::from_secs(to));
    let broken = |name, fault, between| Scenario {
        name,
        burst: 0,
        fault,
        between,
        ..burst
    };
    vec![
        burst,
        Scenario {
            name: "ramp",
            burst: 0,
            rate: ramp,
            ..burst
        },
        Scenario {
            name: "quota of 5/s",
            service: limited,
            ..burst
        },
        broken("NATS away for 3 min", Fault::Outage, at(600, 780)),
        broken("leader change", Fault::LeaderChange, at(600, 606)),
        broken("consumer missing for 1 min", Fault::MissingConsumer, at(600, 660)),
        broken("scheduler restarted", Fault::Restart, at(600, 601)),
    ]
}

/// Plays it.
pub(crate) fn play(scenario: &Scenario, signal: Signal) -> Outcome {
    let mut fleet = Fleet::new(scenario.service, 1);
    fleet.burst(scenario.burst);
    let target = match signal {
        Signal::Depth(messages) => f64::from(messages),
        Signal::Demand => 1.0,
    };
    let mut autoscaler = Autoscaler::new(target, 1, MOST_PODS);
    let fresh_rates = || Rates::new(OBSERVE * 4);
    let (mut rates, mut known) = (fresh_rates(), None::<(Duration, f64)>);
    let (mut next_look, mut next_sync) = (OBSERVE, SYNC);
    let mut outcome = Outcome {
        pod_seconds: 0.0,
        drained: None,
        mean_wait: Duration::ZERO,
        most_pods: 1,
        left: 0,
        in_the_dark: None,
    };
    while fleet.now < scenario.lasts {
        let (from, to) = scenario.between;
        let broken = scenario.fault != Fault::None && (from..to).contains(&fleet.now);
        let away = broken && matches!(scenario.fault, Fault::Outage | Fault::MissingConsumer);
        fleet.step((scenario.rate)(fleet.now), away);
        if broken && scenario.fault == Fault::Restart {
            (rates, known) = (fresh_rates(), None);
        }
        if fleet.now >= next_look {
            next_look += OBSERVE;
            let behind = if broken && scenario.fault == Fault::LeaderChange {
                300
            } else {
                0
            };
            if !away {
                known = observed(&mut rates, &fleet, behind, scenario.service, signal);
            }
        }
        if fleet.now >= next_sync {
            next_sync += SYNC;
            let metric = known.filter(|(at, _)| fleet.now.saturating_sub(*at) <= FRESH);
            let before = fleet.pods();
            fleet.scale(autoscaler.decide(fleet.now, before, metric.map(|(_, value)| value)));
            outcome.most_pods = outcome.most_pods.max(fleet.pods());
            if metric.is_none() && known.is_some() {
                let (fewest, most) = outcome.in_the_dark.unwrap_or((before, before));
                outcome.in_the_dark = Some((fewest.min(fleet.pods()), most.max(fleet.pods())));
            }
        }
        if fleet.now > to && fleet.pending() == 0 && outcome.drained.is_none() {
            outcome.drained = Some(fleet.now.saturating_sub(to));
        }
    }
    outcome.pod_seconds = fleet.pod_seconds;
    outcome.left = fleet.pending();
    outcome.mean_wait = fleet.mean_wait();
    outcome
}

/// A look at the queue, through the code that schedulers run.
fn observed(
    rates: &mut Rates,
    fleet: &Fleet,
    behind: u64,
    service: Service,
    signal: Signal,
) -> Option<(Duration, f64)> {
    let load = rates.look(fleet.look(behind))?;
    let capacity = Capacity {
        concurrency: service.concurrency,
        timeout: Duration::from_secs(30),
        per_second: service.quota,
        at_once: None,
    };
    let value = match signal {
        Signal::Depth(_) => fleet.depth() as f64,
        Signal::Demand => demand(load, Some(capacity), FRAME).milli as f64 / 1_000.0,
    };
    Some((fleet.now, value))
}
