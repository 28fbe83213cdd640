//! How much of what is asked for is noted: a share of the keys, of which every access is.

use std::fmt;
use std::str::FromStr;

use super::Digest;

/// Parts of the whole.
const WHOLE: u32 = 1_000_000;

/// A share of all keys, 0 (`off`) to `100%`. Which keys is decided by their digests, so all processes take the same ones: a
/// key's rhythm is seen whole or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share(u32);

impl Share {
    /// Nothing is noted.
    pub const OFF: Self = Self(0);
    /// All keys are.
    pub const ALL: Self = Self(WHOLE);

    /// Whether accesses of this key are noted.
    pub fn takes(self, key: &Digest) -> bool {
        (u128::from(key.word(1)) * u128::from(WHOLE)) >> 64 < u128::from(self.0)
    }

    /// In millionths.
    pub fn millionths(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("off"),
            share => write!(f, "{}%", f64::from(share) / 1e4),
        }
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is neither off nor a share such as 100% or 2.5%, at least 0.0001%");
        if text == "off" {
            return Ok(Self::OFF);
        }
        let percent = text.strip_suffix('%').ok_or_else(wrong)?;
        let plain = percent.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let percent: f64 = percent.trim().parse().map_err(|_| wrong())?;
        let share = (percent * 1e4).round();
        if plain && (1.0..=f64::from(WHOLE)).contains(&share) {
            Ok(Self(share as u32))
        } else {
            Err(wrong())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]

    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn a_share_is_read_and_told() {
        for (text, millionths) in [
            ("off", 0),
            ("100%", 1_000_000),
            ("2.5%", 25_000),
            ("0.0001%", 1),
            ("33.3333%", 333_333),
        ] {
            let share: Share = text.parse().unwrap();
            assert_eq!((share.millionths(), share.to_string()), (millionths, text.into()));
        }
        for text in [
            "", "on", "0%", "0.00001%", "101%", "-1%", "+1%", "1e1%", "NaN%", "inf%", "50", "5 %", "%",
            "1.1.1%",
        ] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_share_takes_about_so_many_keys_and_a_larger_one_the_same_and_more() {
        let keys = (0..20_000_u32).map(|n| Digest(Sha256::digest(n.to_be_bytes()).into()));
        let (tenth, half): (Share, Share) = ("10%".parse().unwrap(), "50%".parse().unwrap());
        let (mut tenths, mut halves) = (0, 0);
        for key in keys {
            assert!(Share::ALL.takes(&key) && !Share::OFF.takes(&key));
            assert!(!tenth.takes(&key) || half.takes(&key));
            tenths += u32::from(tenth.takes(&key));
            halves += u32::from(half.takes(&key));
        }
        assert!((1_850..2_150).contains(&tenths), "{tenths}");
        assert!((9_700..10_300).contains(&halves), "{halves}");
        assert!(Share::ALL.takes(&Digest([255; 32])));
    }
}
