//! The horizontal pod autoscaler as Kubernetes publishes it: `autoscaling/v2` with behaviour, one external metric.
//!
//! Sources: «Horizontal Pod Autoscaling», algorithm details, and `pkg/controller/podautoscaler` of Kubernetes.

use std::cmp::Ordering;
use std::time::Duration;

/// Between two decisions (`--horizontal-pod-autoscaler-sync-period`).
pub(crate) const SYNC: Duration = Duration::from_secs(15);
/// A ratio this close to 1 changes nothing (`--horizontal-pod-autoscaler-tolerance`).
const TOLERANCE: f64 = 0.1;

/// By how much the count may change within a period.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Policy {
    /// So many pods.
    Pods(u32, Duration),
    /// So many per cent.
    Percent(u32, Duration),
}

impl Policy {
    fn period(self) -> Duration {
        match self {
            Self::Pods(_, period) | Self::Percent(_, period) => period,
        }
    }
}

/// The rules of one direction; of several policies the one that allows most counts.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// `stabilizationWindowSeconds`.
    pub(crate) window: Duration,
    /// `policies`.
    pub(crate) policies: Vec<Policy>,
}

/// An autoscaler with a target of the type `AverageValue`.
#[derive(Debug, Clone)]
pub(crate) struct Autoscaler {
    /// How much one pod is for.
    pub(crate) target: f64,
    /// `minReplicas`.
    pub(crate) least: u32,
    /// `maxReplicas`.
    pub(crate) most: u32,
    /// `behavior.scaleUp`.
    pub(crate) up: Rules,
    /// `behavior.scaleDown`.
    pub(crate) down: Rules,
    /// What was wanted, and when.
    wanted: Vec<(Duration, u32)>,
    /// What was changed, and when.
    changes: Vec<(Duration, i64)>,
}

impl Autoscaler {
    /// With the behaviour that the manifests of Weir have.
    pub(crate) fn new(target: f64, least: u32, most: u32) -> Self {
        let seconds = Duration::from_secs;
        Self {
            target,
            least,
            most,
            up: Rules {
                window: Duration::ZERO,
                policies: vec![Policy::Percent(100, seconds(15)), Policy::Pods(4, seconds(15))],
            },
            down: Rules {
                window: seconds(300),
                policies: vec![Policy::Percent(25, seconds(60))],
            },
            wanted: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// The count of pods from `current` pods and the metric; `None` for one that could not be read, which changes
    /// nothing.
    pub(crate) fn decide(&mut self, now: Duration, current: u32, metric: Option<f64>) -> u32 {
        let Some(metric) = metric else { return current };
        let ratio = metric / (self.target * f64::from(current.max(1)));
        let wanted = if (ratio - 1.0).abs() <= TOLERANCE {
            current
        } else {
            (metric / self.target).ceil() as u32
        };
        let stable = self.stable(now, current, wanted);
        let count = self.paced(now, current, stable);
        if count != current {
            self.changes.push((now, i64::from(count) - i64::from(current)));
        }
        count
    }

    /// Up to the least that was wanted within the window, down to the most.
    fn stable(&mut self, now: Duration, current: u32, wanted: u32) -> u32 {
        let longest = self.up.window.max(self.down.window);
        self.wanted.retain(|(at, _)| now.saturating_sub(*at) < longest);
        let within = |window: Duration| {
            let recent = self
                .wanted
                .iter()
                .filter(move |(at, _)| now.saturating_sub(*at) < window);
            recent.map(|(_, wanted)| *wanted).chain([wanted])
        };
        let up = within(self.up.window).min().unwrap_or(wanted);
        let down = within(self.down.window).max().unwrap_or(wanted);
        self.wanted.push((now, wanted));
        current.max(up).min(down)
    }

    /// Within the policies and the bounds.
    fn paced(&mut self, now: Duration, current: u32, wanted: u32) -> u32 {
        let longest = self.up.policies.iter().chain(&self.down.policies);
        let longest = longest.map(|policy| policy.period()).max().unwrap_or_default();
        self.changes.retain(|(at, _)| now.saturating_sub(*at) <= longest);
        let start = |policy: Policy| {
            let recent = self
                .changes
                .iter()
                .filter(|(at, _)| now.saturating_sub(*at) < policy.period());
            (i64::from(current) - recent.map(|(_, change)| change).sum::<i64>()).max(0)
        };
        match wanted.cmp(&current) {
            Ordering::Greater => {
                let limits = self.up.policies.iter().map(|policy| match *policy {
                    Policy::Pods(pods, _) => start(*policy) + i64::from(pods),
                    Policy::Percent(percent, _) => {
                        (start(*policy) as f64 * (1.0 + f64::from(percent) / 100.0)).ceil() as i64
                    }
                });
                let limit = limits.max().unwrap_or(0).max(i64::from(current));
                wanted.min(limit as u32).min(self.most)
            }
            Ordering::Less => {
                let limits = self.down.policies.iter().map(|policy| match *policy {
                    Policy::Pods(pods, _) => start(*policy) - i64::from(pods),
                    Policy::Percent(percent, _) => {
                        (start(*policy) as f64 * (1.0 - f64::from(percent) / 100.0)) as i64
                    }
                });
                let limit = limits.min().unwrap_or(0).clamp(0, i64::from(current));
                wanted.max(limit as u32).max(self.least)
            }
            Ordering::Equal => current.clamp(self.least, self.most),
        }
    }
}
