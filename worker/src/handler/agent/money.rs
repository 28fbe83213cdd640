//! What answers cost, in whole nano-dollars: a thousand-millionth of a dollar, so that sums are exact.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Nano-dollars.
pub type Nano = u64;

/// The largest sum that settings may name: nine million dollars, which a script in Redis still counts exactly.
pub const MOST: Nano = 9_000_000_000_000_000;

/// The code of an event that would spend too much.
pub const OVER: &str = "over_budget";

/// Tokens that a price is for.
const MILLION: u128 = 1_000_000;

/// What an answer took, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Read by the model, what it kept for later included.
    pub input: u64,
    /// Read from what the provider had kept; not in `input`.
    #[serde(default)]
    pub cached: u64,
    /// Written, what the model thought to itself included.
    pub output: u64,
    /// Whether this is our reckoning, because no answer told.
    #[serde(default)]
    pub estimated: bool,
}

impl Usage {
    /// Of two calls together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            cached: self.cached.saturating_add(other.cached),
            output: self.output.saturating_add(other.output),
            estimated: self.estimated || other.estimated,
        }
    }

    /// As much of it as a call can have used that could use `most`: whoever tells of more is not believed.
    #[must_use]
    pub fn within(self, most: Self) -> Self {
        let read = most.input.saturating_add(most.cached);
        let cached = self.cached.min(read);
        let (input, output) = (self.input.min(read - cached), self.output.min(most.output));
        let believed = (input, cached, output) == (self.input, self.cached, self.output);
        Self {
            input,
            cached,
            output,
            estimated: self.estimated || !believed,
        }
    }
}

/// Tokens that so many bytes of text usually come to: four bytes a token is what OpenAI's documentation says of English
/// text; a tenth more to be on the safe side. Too few for dense text; see [`most_tokens_of`].
pub fn tokens_of(bytes: usize) -> u64 {
    (bytes as u64).saturating_mul(11).div_ceil(40)
}

/// What makers add to a question, in tokens: the frame of a conversation, how an answer of a schema is to look. The most
/// that one of them documents is 346 (Anthropic, of tools); the frame of a message is less than its JSON.
const ADDED: u64 = 512;

/// The most tokens that a question of so many bytes can come to, its JSON included. Byte-level BPE begins with a token a
/// byte and only ever joins them («the token sequence is shorter than the bytes», says OpenAI's tiktoken), and pieces that
/// fall back on bytes end there: no text, whatever its language, has more.
pub fn most_tokens_of(bytes: usize) -> u64 {
    (bytes as u64).saturating_add(ADDED)
}

/// What a model costs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Price {
    /// A million tokens read.
    pub input: Nano,
    /// A million tokens read that the provider had kept.
    pub cached: Nano,
    /// A million tokens written.
    pub output: Nano,
    /// Which of the maker's price lists this is.
    pub version: String,
}

impl Price {
    /// What this use costs, rounded up.
    pub fn of(&self, usage: Usage) -> Nano {
        let part = |tokens: u64, price: Nano| u128::from(tokens) * u128::from(price);
        let sum = part(usage.input, self.input)
            .saturating_add(part(usage.cached, self.cached))
            .saturating_add(part(usage.output, self.output));
        Nano::try_from(sum.div_ceil(MILLION)).unwrap_or(MOST).min(MOST)
    }
}

impl FromStr for Price {
    type Err = String;

    /// `in 0.25, out 2, cached 0.025, version 2026-11`: dollars a million tokens. `cached` may be missing, and is as
    /// much as `in` then.
    fn from_str(text: &str) -> Result<Self, String> {
        let (mut input, mut output, mut cached, mut version) = (None, None, None, None);
        for part in text.split(',').map(str::trim) {
            let (name, value) = part.split_once(' ').ok_or_else(|| {
                format!("{part:?} is no part of a price: write in 0.25, out 2, version 2026-11")
            })?;
            let value = value.trim();
            let twice = match name {
                "in" => input.replace(dollars(value)?).is_some(),
                "out" => output.replace(dollars(value)?).is_some(),
                "cached" => cached.replace(dollars(value)?).is_some(),
                "version" => version.replace(version_of(value)?).is_some(),
                _ => {
                    return Err(format!(
                        "{name:?} is no part of a price: in, out, cached and version are"
                    ));
                }
            };
            if twice {
                return Err(format!("says {name} twice"));
            }
        }
        let missing = |what: &str| format!("says no {what}: write in 0.25, out 2, version 2026-11");
        let input = input.ok_or_else(|| missing("in"))?;
        if cached.is_some_and(|cached| cached > input) {
            return Err("says that what is cached costs more than what is not".into());
        }
        Ok(Self {
            input,
            cached: cached.unwrap_or(input),
            output: output.ok_or_else(|| missing("out"))?,
            version: version.ok_or_else(|| missing("version"))?,
        })
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (input, output, cached) = (show(self.input), show(self.output), show(self.cached));
        write!(
            f,
            "in {input}, out {output}, cached {cached}, version {}",
            self.version
        )
    }
}

fn version_of(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=32).contains(&text.len()) && text.chars().all(fits) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "{text:?} is no version: 1 to 32 letters, digits, - _ . make one"
        ))
    }
}

/// Dollars with up to nine digits after the point.
pub fn dollars(text: &str) -> Result<Nano, String> {
    let wrong = || format!("{text:?} is no sum of dollars: write 2, 0.25 or 0.000001");
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 9 {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let part: u64 = format!("{part:0<9}").parse().map_err(|_| wrong())?;
    let sum = whole
        .checked_mul(1_000_000_000)
        .and_then(|sum| sum.checked_add(part));
    sum.filter(|sum| *sum <= MOST)
        .ok_or_else(|| format!("{text:?} is more than 9000000 dollars"))
}

/// Nano-dollars as dollars, as [`dollars`] reads them.
pub fn show(sum: Nano) -> String {
    let (whole, part) = (sum / 1_000_000_000, sum % 1_000_000_000);
    let part = format!("{part:09}");
    match part.trim_end_matches('0') {
        "" => whole.to_string(),
        part => format!("{whole}.{part}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_exact() {
        for (text, nano) in [
            ("2", 2_000_000_000),
            ("0.25", 250_000_000),
            ("0.000000001", 1),
            ("9000000", MOST),
        ] {
            assert_eq!(dollars(text), Ok(nano), "{text}");
            assert_eq!(show(nano), text);
        }
        for bad in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "+1",
            "1e3",
            "0.0000000001",
            "9000000.1",
            "99999999999999999999",
            "$1",
        ] {
            assert!(dollars(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn prices_are_read_and_cost_is_rounded_up() {
        let price: Price = "in 0.25, out 2, version 2026-11".parse().unwrap();
        assert_eq!(
            (price.input, price.cached, price.output),
            (250_000_000, 250_000_000, 2_000_000_000)
        );
        assert_eq!(price.to_string().parse(), Ok(price.clone()));
        let usage = |input, output| Usage {
            input,
            output,
            ..Usage::default()
        };
        assert_eq!(price.of(usage(1_000_000, 1_000_000)), 2_250_000_000);
        assert_eq!(price.of(usage(9, 12)), 9 * 250 + 12 * 2_000);
        let tiny: Price = "in 0.000001, out 0, version a".parse().unwrap();
        assert_eq!((tiny.of(usage(1, 0)), tiny.of(usage(0, 9))), (1, 0));
        assert_eq!(price.of(usage(u64::MAX, u64::MAX)), MOST, "bounded");
        for bad in [
            "",
            "0.25",
            "in 0.25",
            "in 0.25, out 2",
            "in x, out 2, version a",
            "in 1, in 1, out 2, version a",
            "in 1, cached 2, out 2, version a",
            "in 1, out 2, version a b",
            "in 1, out 2, version a, tax 3",
        ] {
            assert!(bad.parse::<Price>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn tokens_are_reckoned_on_the_safe_side() {
        assert_eq!(
            (tokens_of(0), tokens_of(1), tokens_of(40), tokens_of(400)),
            (0, 1, 11, 110)
        );
    }
}
