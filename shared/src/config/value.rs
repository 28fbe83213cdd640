//! Values that settings can hold, and how they are written.

use std::time::Duration;

/// Reads `250ms`, `30s`, `5m`, `2h`, `7d`, and `0`, which is the same in all of them.
pub fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..split].parse().map_err(|_| not_a_duration(text))?;
    let millis = match text[split..].trim() {
        "ms" => Some(number),
        "" if number == 0 => Some(0),
        "s" => number.checked_mul(1_000),
        "m" | "min" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        "d" => number.checked_mul(86_400_000),
        _ => None,
    };
    millis
        .map(Duration::from_millis)
        .ok_or_else(|| not_a_duration(text))
}

fn not_a_duration(text: &str) -> String {
    format!("{text:?} is no duration: write 250ms, 30s, 5m, 2h or 7d")
}

/// Writes a duration the way [`duration`] reads it.
pub fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if millis >= size && millis.is_multiple_of(size) {
            return format!("{}{unit}", millis / size);
        }
    }
    format!("{millis}ms")
}

/// Reads `65536`, `64KB`, `25MB`, `2GB` (powers of 1,024).
pub fn bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let wrong = || format!("{text:?} is no size: write 65536, 64KB, 25MB or 2GB");
    let number: u64 = text[..split].parse().map_err(|_| wrong())?;
    let factor = match text[split..].trim().to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "K" | "KB" | "KIB" => 1 << 10,
        "M" | "MB" | "MIB" => 1 << 20,
        "G" | "GB" | "GIB" => 1 << 30,
        _ => return Err(wrong()),
    };
    number.checked_mul(factor).ok_or_else(wrong)
}

/// Splits `a, b,c` into its parts; empty parts are left out.
pub fn list(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_round_trip_and_refuse() {
        for text in ["250ms", "30s", "5m", "2h", "7d", "0s"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
        assert_eq!(show_duration(duration("0").unwrap()), "0s");
        for bad in [
            "",
            "5",
            "s",
            "-1s",
            "1.5s",
            "5 parsecs",
            "99999999999999999999s",
            "999999999999999999d",
        ] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(bytes("25MB").unwrap(), 25 << 20);
        assert_eq!(bytes("65536").unwrap(), 65536);
        for bad in ["", "MB", "1XB", "-1", "99999999999GB"] {
            assert!(bytes(bad).is_err(), "{bad:?}");
        }
    }
}
