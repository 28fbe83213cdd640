//! Patterns over the readable form of keys, `space:tenant:name`: `*` is any run of characters, `?` is any one.

use std::fmt;
use std::str::FromStr;

/// Longest pattern, in bytes.
pub const MAX_PATTERN: usize = 256;

/// A pattern that keys match or do not.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it names nothing at all, so that every key matches it, or every key of some length.
    pub fn is_everything(&self) -> bool {
        self.0.chars().all(|c| matches!(c, '*' | '?' | ':'))
    }

    /// Whether a key's readable form matches.
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut p, mut t) = (0, 0);
        // Behind the last star, and how far into the text it reaches so far. A star before it need not be tried again.
        let mut star: Option<(usize, usize)> = None;
        while t < text.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p + 1, t));
                    p += 1;
                }
                Some(b'?') => {
                    p += 1;
                    t += width(text[t]);
                }
                Some(byte) if *byte == text[t] => {
                    p += 1;
                    t += 1;
                }
                _ => match star {
                    Some((behind, reached)) => {
                        star = Some((behind, reached + 1));
                        (p, t) = (behind, reached + 1);
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|byte| *byte == b'*')
    }
}

/// Bytes of the character that begins with this one; inside of a character, the step to the next byte.
fn width(first: u8) -> usize {
    match first {
        0xC0..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xFF => 4,
        _ => 1,
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > MAX_PATTERN {
            return Err(format!(
                "a pattern of {} bytes: 1 to {MAX_PATTERN} make one",
                text.len()
            ));
        }
        if text.chars().any(char::is_control) {
            return Err("a pattern with a control character".into());
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    #[test]
    fn patterns_match_as_they_are_read() {
        for (pattern, text, matches) in [
            ("github:*", "github:acme:GET /zen", true),
            ("github:*", "github-reads:acme:x", false),
            ("*:acme:*", "github:acme:x", true),
            ("*octo/repo*", "github::GET /repos/octo/repo/issues", true),
            ("*octo/repo", "github::GET /repos/octo/repo/issues", false),
            ("a:b:c?", "a:b:cä", true),
            ("a:b:c?", "a:b:c", false),
            ("a:b:c?", "a:b:cde", false),
            ("a*b*c", "aXbbYbc", true),
            ("a*b*c", "aXbbYb", false),
            ("*", "", true),
            ("?", "", false),
        ] {
            assert_eq!(of(pattern).matches(text), matches, "{pattern} {text}");
        }
    }

    #[test]
    fn what_names_nothing_is_everything() {
        for all in ["*", "**", "*:*", "*:*:*", "?*", "*:*:?*"] {
            assert!(of(all).is_everything(), "{all}");
        }
        for some in ["a*", "*a*", "github:*", "*:acme:*"] {
            assert!(!of(some).is_everything(), "{some}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_told() {
        for bad in [String::new(), "x".repeat(MAX_PATTERN + 1), "a\nb".into()] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad:?}");
        }
    }

    /// Slow and plainly right.
    fn slowly(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), _) => {
                slowly(rest, text) || text.split_first().is_some_and(|(_, t)| slowly(pattern, t))
            }
            (Some(('?', rest)), Some((_, t))) => slowly(rest, t),
            (Some((c, rest)), Some((d, t))) => c == d && slowly(rest, t),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn the_quick_way_says_what_the_slow_one_says(pattern in "[abä*?]{1,7}", text in "[abä]{0,9}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(of(&pattern).matches(&text), slowly(&chars(&pattern), &chars(&text)));
        }
    }
}
