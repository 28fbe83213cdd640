//! What people ask the leader about warming, and what it answers: JSON.

use serde::{Deserialize, Serialize};

use super::Pause;

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Question {
    /// How it goes.
    Status,
    /// Why a key is or is not warmed.
    Explain {
        /// Of which service.
        service: String,
        /// Its id in hex, or a part of its name.
        key: String,
    },
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// How it goes.
    Status(Status),
    /// The keys that were meant, the best known first.
    Explained(Vec<Explained>),
    /// It cannot be answered: in words.
    Not(String),
}

/// How far warming may go: `WEIR_WARM`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Nothing is learnt or fetched.
    Off,
    /// It is noted what would be fetched, and judged.
    #[default]
    Shadow,
    /// What proved itself leads to calls.
    On,
}

impl Mode {
    /// The word of the setting.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Shadow => "shadow",
            Self::On => "on",
        }
    }
}

impl std::str::FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Off, Self::Shadow, Self::On]
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or_else(|| format!("{text:?} is none of off, shadow, on"))
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How warming goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The setting.
    pub mode: Mode,
    /// Why nothing is warmed at all; `None` where something may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off: Option<String>,
    /// When the leader said so, in ms since the epoch.
    pub at_ms: u64,
    /// The pause of all services, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// Each service, by name.
    pub services: Vec<ServiceStatus>,
}

/// How far a service's warming is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing is warmed at all: [`Status::off`] says why.
    Off,
    /// Its workers keep no answers, or have not said for how long.
    NotCached,
    /// The past is being learnt from.
    Learning,
    /// Nothing is fetched: no source has proved itself, or the setting is `shadow`.
    Shadow,
    /// Keys are fetched ahead.
    Live,
    /// The API refused a call.
    Silent,
    /// Somebody paused it.
    Paused,
    /// Events wait, or it is not known whether any do.
    NoRoom,
}

impl State {
    /// One or two words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::NotCached => "not cached",
            Self::Learning => "learning",
            Self::Shadow => "shadow",
            Self::Live => "live",
            Self::Silent => "silent",
            Self::Paused => "paused",
            Self::NoRoom => "no room",
        }
    }
}

/// How the warming of one service's cache goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Which.
    pub service: String,
    /// How far it is.
    pub state: State,
    /// For how long an entry stays, in ms, as its workers say.
    pub ttl_ms: u64,
    /// Keys that are known.
    pub keys: usize,
    /// What predictions were worth, by source.
    pub sources: Vec<Source>,
    /// What came of it within the last 24 hours.
    pub day: Day,
    /// Calls that it may make now.
    pub calls_left: u64,
    /// Until when nothing is fetched because the API refused a call, in ms since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_until_ms: Option<u64>,
    /// The pause of this service, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// What went wrong last; `None` when nothing did of late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// A source of predictions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Its name.
    pub source: String,
    /// Whether its predictions may lead to calls.
    pub live: bool,
    /// The share of its latest predictions that was right, 0 to 1; `None` while too few are known.
    pub precision: Option<f32>,
    /// How many of its latest predictions have been judged, 64 at most.
    #[serde(default)]
    pub judged: u32,
    /// How many that must be before it may go live.
    #[serde(default)]
    pub needed: u32,
}

/// What came of predictions within 24 hours.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Day {
    /// Look-ups that the access log tells of.
    pub looks: u64,
    /// Those that found nothing.
    pub misses: u64,
    /// Fetched, and then asked for.
    pub right: u64,
    /// Fetched, and not asked for in time.
    pub wrong: u64,
    /// What would have been right, of what was only noted.
    pub shadow_right: u64,
    /// What would have been wrong.
    pub shadow_wrong: u64,
    /// Of what would have been missed, the share that was there, 0 to 1.
    pub coverage: Option<f64>,
    /// What warming added to the hit rate, 0 to 1.
    pub hit_gain: Option<f64>,
    /// Mean time from a right prediction to the look-up, in ms.
    pub lead_ms: Option<u64>,
}

/// Why a key is or is not warmed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explained {
    /// Its id, in hex.
    pub key: String,
    /// Its name; `None` where it is not known what to fetch for it.
    pub name: Option<String>,
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Times it was asked for, as far as is remembered; 0 for one that is not known.
    pub seen: u32,
    /// Until when it is in the cache as far as the log tells, in ms since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_until_ms: Option<u64>,
    /// What can be said of it now.
    pub predictions: Vec<Prediction>,
}

/// What one source says, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Which source.
    pub source: String,
    /// The key that is foreseen: the explained one, or one that follows it.
    pub key: String,
    /// How likely it is to be asked for in time, 0 to 1.
    pub probability: f32,
    /// How often it could have been seen to be so or not.
    pub support: u32,
    /// What becomes of it, in words.
    pub verdict: String,
}
