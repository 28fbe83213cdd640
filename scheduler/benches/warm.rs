//! What it costs to warm: `cargo bench -p scheduler --bench warm`. 100,000 keys with a fortnight behind them, all of them in doubt at
//! once; and how long a new leader takes to learn that fortnight from the access log.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark talks to people and fails by panicking"
)]

use std::time::{Duration, Instant};

use scheduler::warm::access::{Access, Found};
use scheduler::warm::{Settings, Warmer};

const KEYS: u64 = 100_000;
const DAYS: u64 = 14;
/// Times that each key is asked for a day.
const A_DAY: u64 = 4;
const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
const START: u64 = 20_761 * DAY;
/// Keys that come once, each asked for by somebody else.
const FLOOD: u64 = 1_000_000;
/// Clock ticks a second in Linux's account of a process, on every architecture we know.
const TICKS: f64 = 100.0;
const ROUNDS: usize = 21;

fn main() {
    let before = memory("VmRSS:");
    let now = START + DAYS * DAY;
    let mut warmer = Warmer::new(Settings::new(HOUR), None);
    let begin = Instant::now();
    assert_eq!(warmer.replay(log(), now), 0);
    let took = begin.elapsed();
    let accesses = DAYS * A_DAY * KEYS;
    println!(
        "a fortnight learnt: {accesses} accesses in {:.1} s, {:.0} a second, {:?} keys and trails",
        took.as_secs_f64(),
        accesses as f64 / took.as_secs_f64(),
        warmer.model().size()
    );
    let mut rounds: Vec<Duration> = Vec::new();
    let cpu_before = cpu();
    for _ in 0..ROUNDS {
        // Nothing is in the cache, so every key is looked at.
        warmer.lost();
        let begin = Instant::now();
        let plan = warmer.round(now, true);
        rounds.push(begin.elapsed());
        assert!(plan.is_empty(), "all in shadow");
    }
    let cpu_ms = (cpu() - cpu_before) * 1e3 / ROUNDS as f64;
    rounds.sort();
    println!(
        "a round over {KEYS} keys: {:.1} ms median, {:.1} ms at most, {cpu_ms:.1} ms of CPU time on average, of {ROUNDS}",
        rounds[ROUNDS / 2].as_secs_f64() * 1e3,
        rounds[ROUNDS - 1].as_secs_f64() * 1e3
    );
    let foreseen = (0..KEYS).filter(|key| {
        let said = warmer.explain(hash(*key), now);
        said.iter().any(|(prediction, _)| prediction.probability >= 0.5)
    });
    println!("keys that are likely to be asked for: {}", foreseen.count());
    println!("resident: {before} MiB before, {} MiB after", memory("VmRSS:"));
    let begin = Instant::now();
    for number in 0..FLOOD {
        warmer.observe(&stranger(number, now), now);
    }
    println!(
        "{FLOOD} keys that are seen once: {:.1} s, {:?} keys and trails",
        begin.elapsed().as_secs_f64(),
        warmer.model().size()
    );
    let most = memory("VmHWM:");
    println!(
        "resident: {before} MiB before, {} MiB after, {most} MiB at most",
        memory("VmRSS:")
    );
    assert!(
        rounds[ROUNDS / 2] < Duration::from_millis(200),
        "a round takes too long"
    );
    assert!(most < 100, "too much memory");
}

/// Each key at the same times every day, the last of them in the hour before midnight; by 5,000 actors in 500 repositories,
/// who ask for their keys one after the other.
fn log() -> impl Iterator<Item = Access> {
    (0..DAYS * A_DAY).flat_map(|round| {
        let begin = START + (round + 1) * (DAY / A_DAY) - HOUR;
        (0..KEYS).map(move |key| Access {
            at_ms: begin + key * (HOUR - 1) / KEYS,
            key: hash(key),
            actor: Some(key / 20),
            repository: Some(key / 200),
            found: Found::Nowhere,
            fetch_ms: Some(300),
        })
    })
}

fn stranger(number: u64, now_ms: u64) -> Access {
    Access {
        at_ms: now_ms,
        key: hash(KEYS + number),
        actor: Some(KEYS + number),
        repository: None,
        found: Found::Nowhere,
        fetch_ms: Some(300),
    }
}

fn hash(key: u64) -> u64 {
    key.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Seconds of CPU time so far.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let ticks = after_name.split_whitespace().skip(11).take(2);
    ticks.map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / TICKS
}

fn memory(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1_024
}
