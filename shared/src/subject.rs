//! Every name that lives on the NATS server: streams, subjects, consumers, buckets, headers. Nothing else in the
//! project spells one out.

mod warm;

use std::fmt;

use async_nats::HeaderMap;
pub use warm::{WARM_ASK, WARM_BUCKET, WARM_GROUP, WARM_PAUSED};

use crate::event::{Invalid, Tenant};

/// Subjects of events: `events.<service>[.<lane>[.<tenant>]]`.
pub const EVENTS: &str = "events";
/// Stream of scheduled retries.
pub const RETRY_STREAM: &str = "WEIR_RETRY";
/// Stream of dead letters.
pub const DEAD_STREAM: &str = "WEIR_DEAD";
/// Stream of the server's advisories that a message was delivered too often.
pub const EXHAUSTED_STREAM: &str = "WEIR_EXHAUSTED";
/// The one consumer of [`EXHAUSTED_STREAM`].
pub const EXHAUSTED_CONSUMER: &str = "backstop";
/// Where the server tells that a message was delivered too often, for every stream of the account.
pub const EXHAUSTED_ADVISORY: &str = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.*.*";
/// Subjects of dead letters: `dead.<service>`.
pub const DEAD: &str = "dead";
/// Subjects of retries that wait for their time.
pub const RETRY_SCHEDULED: &str = "retry.sched";
/// Subjects of retries whose time has come.
pub const RETRY_DUE: &str = "retry.due";
/// Key-value bucket in which schedulers elect their leader.
pub const LEADER_BUCKET: &str = "weir_leader";
/// Key-value bucket of the limits that are changed while workers run; see [`crate::limiter::live`].
pub const LIMITS_BUCKET: &str = "weir_limits";
/// Object-store bucket of events that are too large for a message; see [`crate::claim`].
pub const BODIES_BUCKET: &str = "weir_bodies";
/// The stream behind [`BODIES_BUCKET`], as every client of the object store names it.
pub const BODIES_STREAM: &str = "OBJ_weir_bodies";
/// Subjects of the pieces of an object: `<this>.<nuid>`.
pub const BODIES_CHUNKS: &str = "$O.weir_bodies.C";
/// Stream that tells which references to bodies were moved lately, so that nobody takes a moving one for a lost one.
pub const CLAIMS_STREAM: &str = "WEIR_CLAIMS";
/// Subjects of [`CLAIMS_STREAM`]: `claims.moved.<object name, dots for slashes>`.
pub const CLAIMS_MOVED: &str = "claims.moved";
/// Subjects that say what an object is: `<this>.<its name in base64url>`.
pub const BODIES_META: &str = "$O.weir_bodies.M";
/// Key-value bucket of the upstreams that are or were out of service; see [`crate::breaker`].
pub const BREAKERS_BUCKET: &str = "weir_breakers";
/// Key-value bucket of what has become invalid in caches; see [`crate::cache`].
pub const CACHE_BUCKET: &str = "weir_cache";
/// Where workers tell each other of their calls to upstreams: `breaker.<service>`. No stream keeps it.
pub const BREAKER: &str = "breaker";

/// The headers that Weir reads and writes. Read them with [`header`], whatever their case.
pub mod headers {
    /// The id by which the server drops duplicates.
    pub const MESSAGE_ID: &str = "Nats-Msg-Id";
    /// W3C trace context.
    pub const TRACEPARENT: &str = "traceparent";
    /// W3C trace context, vendor part.
    pub const TRACESTATE: &str = "tracestate";
    /// `zstd` when the payload is compressed.
    pub const CONTENT_ENCODING: &str = "Content-Encoding";
    /// The event's id, where the message id cannot carry it (retries and replays have message ids of their own).
    pub const ID: &str = "Weir-Id";
    /// Attempts that failed before this delivery; missing: 0.
    pub const ATTEMPTS: &str = "Weir-Attempts";
    /// What became of them: JSON array of `{at, code, detail}`, oldest first, bounded.
    pub const HISTORY: &str = "Weir-History";
    /// When the event was first kept, milliseconds since the Unix epoch.
    pub const ACCEPTED: &str = "Weir-Accepted";
    /// What an event was put off for that is no limit, one word: `breaker`, or `over_budget` for a budget of a day.
    pub const PUT_OFF: &str = "Weir-Put-Off";
    /// Where the bytes of an event lie that is too large for a message: an object of
    /// [`BODIES_BUCKET`](super::BODIES_BUCKET). The payload is empty then.
    pub const CLAIM: &str = "Weir-Claim";
    /// When an event's turn at a limit is planned, milliseconds since the Unix epoch.
    pub const PLANNED: &str = "Weir-Planned";
    /// Why it is a dead letter, one word: `undecodable`, `http_404`, `exhausted`.
    pub const DEAD_CODE: &str = "Weir-Dead-Code";
    /// Why it is a dead letter, for people.
    pub const DEAD_REASON: &str = "Weir-Dead-Reason";
    /// When it died, milliseconds since the Unix epoch.
    pub const DEAD_AT: &str = "Weir-Dead-At";
    /// The subject it lay on.
    pub const DEAD_SUBJECT: &str = "Weir-Dead-Subject";
    /// The stream it lay in.
    pub const DEAD_STREAM: &str = "Weir-Dead-Stream";
    /// Its sequence there.
    pub const DEAD_SEQUENCE: &str = "Weir-Dead-Sequence";
    /// How many headers of its publisher were left out, because there were too many bytes of them.
    pub const DROPPED: &str = "Weir-Headers-Dropped";
    /// The sequence of the dead letter that was replayed last: somebody has decided that the call be made again.
    pub const REPLAYED: &str = "Weir-Replayed";
    /// The event that an event follows from: `<service>/<id>`.
    pub const PARENT: &str = "Weir-Parent";
    /// The rules that led to an event, the first one first, with commas: as many as it has hops.
    pub const CHAIN: &str = "Weir-Chain";
    /// The rules that failed on an event, with commas: its call was made, and only they are to be asked again.
    pub const RULES: &str = "Weir-Rules";
    /// When to deliver a scheduled message: `@at <RFC 3339>`.
    pub const SCHEDULE: &str = "Nats-Schedule";
    /// Where to deliver it.
    pub const SCHEDULE_TARGET: &str = "Nats-Schedule-Target";
}

/// A header's value, whatever case its name was written in: NATS keeps case, and Go clients write `Traceparent`.
pub fn header<'a>(headers: Option<&'a HeaderMap>, name: &str) -> Option<&'a str> {
    let headers = headers?;
    if let Some(value) = headers.get(name) {
        return Some(value.as_str());
    }
    headers
        .iter()
        .find(|(n, _)| <_ as AsRef<str>>::as_ref(*n).eq_ignore_ascii_case(name))
        .and_then(|(_, values)| values.first())
        .map(async_nats::HeaderValue::as_str)
}

/// Most bytes of headers that go on with a message, its history apart. The server takes 64 KiB in all (measured on 2.15:
/// 65,480 kept, 65,600 refused); the history, at most 28 KiB of it, and what a dead letter adds need the rest.
pub const MAX_CARRIED: usize = 32 * 1024;
/// Most bytes of a history.
pub const MAX_HISTORY_BYTES: usize = 28 * 1024;

/// A message's headers as they may be published anew: without those named and without all of the server's own
/// (`Nats-*`: the server refuses some of them, obeys others a second time), whatever their case. Those of others that
/// would make the message too large for the server are left out, and counted in [`headers::DROPPED`].
pub fn without(headers: Option<&HeaderMap>, names: &[&str]) -> HeaderMap {
    let starts = |text: &str, start: &str| {
        text.get(..start.len())
            .is_some_and(|found| found.eq_ignore_ascii_case(start))
    };
    let ours = |name: &str| {
        const KNOWN: [&str; 3] = [
            headers::TRACEPARENT,
            headers::TRACESTATE,
            headers::CONTENT_ENCODING,
        ];
        starts(name, "weir-") || KNOWN.iter().any(|known| known.eq_ignore_ascii_case(name))
    };
    let (mut kept, mut room, mut dropped) = (HeaderMap::new(), MAX_CARRIED, 0_u64);
    for ours_first in [true, false] {
        for (name, values) in headers.into_iter().flat_map(HeaderMap::iter) {
            let text: &str = name.as_ref();
            let unwanted = starts(text, "nats-") || names.iter().any(|name| name.eq_ignore_ascii_case(text));
            if unwanted || ours(text) != ours_first {
                continue;
            }
            for value in values {
                // `name: value\r\n`
                let size = text.len() + value.as_str().len() + 4;
                let history = headers::HISTORY.eq_ignore_ascii_case(text);
                let fits = if history {
                    size <= MAX_HISTORY_BYTES
                } else {
                    size <= room
                };
                if fits {
                    room -= if history { 0 } else { size };
                    kept.append(name.clone(), value.clone());
                } else {
                    dropped += 1;
                }
            }
        }
    }
    if dropped > 0 {
        kept.insert(headers::DROPPED, dropped.to_string());
    }
    kept
}

/// The name of a service: `[a-z][a-z0-9-]{0,31}`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Service(Box<str>);

impl Service {
    /// Checks and takes a name.
    pub fn new(name: impl Into<Box<str>>) -> Result<Self, Invalid> {
        let name = name.into();
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if (1..=32).contains(&name.len()) && name.as_bytes()[0].is_ascii_lowercase() && name.bytes().all(fits)
        {
            Ok(Self(name))
        } else {
            Err(Invalid("must be 1 to 32 of a-z 0-9 -, a letter first"))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The stream that keeps its events.
    pub fn stream(&self) -> String {
        format!("WEIR_{}", self.0)
    }

    /// The service whose stream has this name.
    pub fn of_stream(stream: &str) -> Option<Self> {
        stream.strip_prefix("WEIR_").and_then(|name| Self::new(name).ok())
    }

    /// Where its events are published.
    pub fn subject(&self, lane: Lane, tenant: Option<&Tenant>) -> String {
        match tenant {
            Some(tenant) => format!("{EVENTS}.{}.{lane}.{}", self.0, tenant.as_str()),
            None if lane == Lane::Normal => format!("{EVENTS}.{}", self.0),
            None => format!("{EVENTS}.{}.{lane}", self.0),
        }
    }

    /// Every subject that its stream takes.
    pub fn subjects(&self) -> Vec<String> {
        Lane::ALL
            .iter()
            .flat_map(|lane| self.lane_subjects(*lane))
            .collect()
    }

    /// The subjects of one lane; a subject that names no lane is in the normal one.
    pub fn lane_subjects(&self, lane: Lane) -> Vec<String> {
        let lane_subject = format!("{EVENTS}.{}.{lane}", self.0);
        let tenants = format!("{lane_subject}.*");
        match lane {
            Lane::Normal => vec![format!("{EVENTS}.{}", self.0), lane_subject, tenants],
            Lane::High | Lane::Low => vec![lane_subject, tenants],
        }
    }

    /// Where its dead letters lie.
    pub fn dead(&self) -> String {
        format!("{DEAD}.{}", self.0)
    }

    /// The key in [`LIMITS_BUCKET`] under which people say what limits it is to have.
    pub fn limits_set(&self) -> String {
        format!("set.{}", self.0)
    }

    /// The key in [`LIMITS_BUCKET`] under which its workers say what limits it has.
    pub fn limits_now(&self) -> String {
        format!("now.{}", self.0)
    }

    /// Where its workers tell each other of their calls to its upstreams.
    pub fn breaker(&self) -> String {
        format!("{BREAKER}.{}", self.0)
    }

    /// The key in [`BREAKERS_BUCKET`] of the upstream with this id, which is a token of letters and digits.
    pub fn breaker_key(&self, id: &str) -> String {
        format!("{}.{id}", self.0)
    }

    /// Where a retry of this message waits, a subject of its own (the server keeps one schedule a subject), and
    /// where it goes when it is due.
    pub fn retry(&self, lane: Lane, tenant: Option<&str>, token: &str) -> (String, String) {
        let tenant = tenant.map(|t| format!(".{t}")).unwrap_or_default();
        (
            format!("{RETRY_SCHEDULED}.{}.{token}", self.0),
            format!("{RETRY_DUE}.{}.{lane}{tenant}", self.0),
        )
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The three lanes of a service; each has one durable consumer of the lane's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Priorities 8 to 10.
    High,
    /// Priorities 4 to 7, and events that name no lane.
    Normal,
    /// Priorities 1 to 3.
    Low,
}

impl Lane {
    /// All lanes, most urgent first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// The subject token, which is the consumer's name too.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }

    /// Places that it gets out of ten while all lanes have work: the urgent one most, and the lowest never none.
    pub fn weight(self) -> u8 {
        match self {
            Self::High => 6,
            Self::Normal => 3,
            Self::Low => 1,
        }
    }

    fn parse(token: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| lane.as_str() == token)
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The lane and tenant that an event's subject names.
pub fn lane_and_tenant(subject: &str) -> (Lane, Option<&str>) {
    let mut tokens = subject.split('.').skip(2);
    let lane = tokens.next().and_then(Lane::parse).unwrap_or(Lane::Normal);
    (lane, tokens.next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_round_trip() {
        let github = Service::new("github").unwrap();
        let tenant = Tenant::new("acme").unwrap();
        assert_eq!(github.subject(Lane::Normal, None), "events.github");
        assert_eq!(
            github.subject(Lane::High, Some(&tenant)),
            "events.github.high.acme"
        );
        assert_eq!(lane_and_tenant("events.github"), (Lane::Normal, None));
        assert_eq!(lane_and_tenant("events.github.low"), (Lane::Low, None));
        assert_eq!(
            lane_and_tenant("events.github.high.acme"),
            (Lane::High, Some("acme"))
        );
        assert_eq!(Service::of_stream(&github.stream()), Some(github));
        assert_eq!(Service::of_stream(RETRY_STREAM), None);
    }

    #[test]
    fn names_that_would_break_a_subject_are_refused() {
        for bad in ["", "Git", "9lives", "a.b", "a b", "a*", "a>", &"a".repeat(33)] {
            assert!(Service::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn headers_that_the_server_would_refuse_are_left_out_others_first() {
        let mut map = HeaderMap::new();
        for n in 0..70 {
            map.insert(format!("X-{n}").as_str(), "x".repeat(1_000));
        }
        map.insert(headers::HISTORY, "h".repeat(27_000));
        map.insert(headers::ACCEPTED, "5");
        map.insert("Traceparent", "00-1");
        let kept = without(Some(&map), &[]);
        let size: usize = kept
            .iter()
            .map(|(name, values)| name.to_string().len() + values[0].as_str().len() + 4)
            .sum();
        assert!(size < 64 * 1024 - 4_000, "{size}");
        for name in [headers::HISTORY, headers::ACCEPTED, headers::TRACEPARENT] {
            assert!(header(Some(&kept), name).is_some(), "{name}");
        }
        let dropped: usize = header(Some(&kept), headers::DROPPED).unwrap().parse().unwrap();
        assert_eq!(kept.len() - 4 + dropped, 70);
    }

    #[test]
    fn headers_are_found_whatever_their_case() {
        let mut map = HeaderMap::new();
        map.insert("Traceparent", "00-a-b-01");
        assert_eq!(header(Some(&map), headers::TRACEPARENT), Some("00-a-b-01"));
        assert_eq!(header(Some(&map), headers::TRACESTATE), None);
        assert_eq!(header(None, headers::TRACESTATE), None);
        map.insert("nats-stream-source", "x");
        map.insert("WEIR-ID", "y");
        let kept = without(Some(&map), &[headers::ID]);
        assert_eq!(
            (kept.len(), header(Some(&kept), headers::TRACEPARENT)),
            (1, Some("00-a-b-01"))
        );
    }
}
