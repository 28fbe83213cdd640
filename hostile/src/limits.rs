//! Limits, schedules, durations and sizes as people write them, and limits that are changed while workers run.

use std::time::Duration;

use shared::backoff::{MAX_RETRIES, MAX_RETRY_AFTER, Schedule};
use shared::config::value;
use shared::limiter::{Rule, live};

/// What is read is within its bounds, and shown in words that read back as the same; what is not is told.
pub fn check(bytes: &[u8]) {
    match live::read(bytes) {
        Ok(wishes) => {
            assert!(wishes.len() <= live::MAX_NAMES);
            let written = serde_json::to_vec(&wishes).expect("wishes are JSON");
            assert_eq!(live::read(&written), Ok(wishes));
        }
        Err(why) => assert!(!why.is_empty()),
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match text.parse::<Rule>() {
        Ok(rule) => ruled(rule),
        Err(why) => assert!(!why.is_empty()),
    }
    if let Ok(schedule) = text.parse::<Schedule>() {
        assert_eq!(schedule.to_string().parse(), Ok(schedule.clone()));
        assert!(schedule.attempts() as usize <= MAX_RETRIES + 1);
        for failed in 0..schedule.attempts() + 2 {
            let delay = schedule.delay(failed, Some(Duration::MAX), 1.0);
            assert_eq!(delay.is_some(), (1..schedule.attempts()).contains(&failed));
            let most = Duration::from_secs(7 * 86_400).mul_f64(1.2).max(MAX_RETRY_AFTER);
            assert!(delay.is_none_or(|delay| delay <= most));
        }
    }
    if let Ok(duration) = value::duration(text) {
        assert_eq!(value::duration(&value::show_duration(duration)), Ok(duration));
    }
    if let Ok(bytes) = value::bytes(text) {
        assert_eq!(value::bytes(&bytes.to_string()), Ok(bytes));
    }
    for part in value::list(text) {
        assert!(!part.is_empty() && part.trim() == part && !part.contains(','));
    }
}

fn ruled(rule: Rule) {
    assert!((1..=rule.calls()).contains(&rule.most()), "{rule}");
    assert_eq!(rule.to_string().parse(), Ok(rule));
    if let Some(period) = rule.period() {
        assert!(
            period >= Duration::from_millis(100) && period <= Duration::from_secs(31 * 86_400),
            "{rule}"
        );
    }
}
