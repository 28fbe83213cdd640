//! How a provider counts its limit.

use std::{fmt, num::NonZeroU32, str::FromStr};

use serde::{Deserialize, Serialize};

/// What a limit of so many calls in a period means.
///
/// As text, on the command line and in statistics: `sliding`, `fixed`, `aligned`, `bucket:20`; a plain `bucket` is one
/// that holds as many calls as its period allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Shape {
    /// No span of the period's length may hold more: the strictest reading.
    #[default]
    Sliding,
    /// A window begins with the first call after the last window's end, as GitHub's hour.
    Fixed,
    /// Windows begin at whole multiples of the period since the Unix epoch, on the provider's clock.
    Aligned,
    /// Tokens come back at a steady rate, up to so many; full at first.
    Bucket {
        /// Calls that a full bucket holds; `None` for as many as a period allows.
        burst: Option<NonZeroU32>,
    },
}

impl Shape {
    /// A bucket that holds `burst` calls; 0 for as many as a period allows.
    pub const fn bucket(burst: u32) -> Self {
        Self::Bucket {
            burst: NonZeroU32::new(burst),
        }
    }
}

/// Why a text is no [`Shape`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no way to count: write sliding, fixed, aligned, bucket or for example bucket:20")]
pub struct BadShape(String);

impl FromStr for Shape {
    type Err = BadShape;

    fn from_str(text: &str) -> Result<Self, BadShape> {
        let bad = || BadShape(text.chars().take(64).collect());
        Ok(match text {
            "sliding" => Self::Sliding,
            "fixed" => Self::Fixed,
            "aligned" => Self::Aligned,
            "bucket" => Self::Bucket { burst: None },
            _ => {
                let burst = text.strip_prefix("bucket:").ok_or_else(bad)?;
                Self::Bucket {
                    burst: Some(burst.parse().map_err(|_| bad())?),
                }
            }
        })
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sliding => f.write_str("sliding"),
            Self::Fixed => f.write_str("fixed"),
            Self::Aligned => f.write_str("aligned"),
            Self::Bucket { burst: None } => f.write_str("bucket"),
            Self::Bucket { burst: Some(burst) } => write!(f, "bucket:{burst}"),
        }
    }
}

impl TryFrom<String> for Shape {
    type Error = BadShape;

    fn try_from(text: String) -> Result<Self, BadShape> {
        text.parse()
    }
}

impl From<Shape> for String {
    fn from(shape: Shape) -> Self {
        shape.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]
    use super::*;

    #[test]
    fn shapes_are_read_as_they_are_shown() {
        for text in ["sliding", "fixed", "aligned", "bucket", "bucket:20"] {
            let shape: Shape = text.parse().unwrap();
            assert_eq!(shape.to_string(), text);
            let json = serde_json::to_string(&shape).unwrap();
            assert_eq!(json, format!("{text:?}"));
            assert_eq!(serde_json::from_str::<Shape>(&json).unwrap(), shape);
        }
        for bad in [
            "",
            "bucket:",
            "bucket:0",
            "bucket:-1",
            "bucket:x",
            "Sliding",
            "log",
        ] {
            assert!(bad.parse::<Shape>().is_err(), "{bad:?}");
        }
    }
}
