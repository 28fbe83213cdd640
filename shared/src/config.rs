//! Settings from the environment. Every error is told at once, each with the name of its setting; unknown settings
//! are errors too. `NAME_FILE` reads a value from a file, the way secrets are mounted.

pub mod environment;
pub mod fleet;
pub mod reader;
pub mod value;

pub use environment::{Environment, Process};
pub use fleet::Fleet;
pub use reader::{Problems, Reader};

/// Exit code of a process whose configuration is wrong (`EX_USAGE` of sysexits.h).
pub const EXIT_CONFIG: u8 = 64;
