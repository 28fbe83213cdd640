//! What people see while parts start and stop: a spinner each, or plain lines where there is no terminal.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::terminal;

/// All steps of a start or stop.
pub(super) struct Progress {
    bars: Option<MultiProgress>,
}

/// One part on its way.
pub(super) struct Step {
    name: String,
    bar: Option<ProgressBar>,
    since: Instant,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            bars: std::io::stderr().is_terminal().then(MultiProgress::new),
        }
    }

    /// A part that begins to do something, for example `starting`.
    pub(super) fn step(&self, name: &str, doing: &str) -> Step {
        let bar = self.bars.as_ref().map(|bars| {
            let style = ProgressStyle::with_template("{spinner} {prefix:12} {msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
            let bar = bars.add(
                ProgressBar::new_spinner()
                    .with_style(style)
                    .with_prefix(name.to_owned()),
            );
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        let step = Step {
            name: name.to_owned(),
            bar,
            since: Instant::now(),
        };
        step.say(doing);
        step
    }
}

impl Step {
    /// Where it is right now.
    pub(super) fn say(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(what.to_owned()),
            None => terminal::note(format_args!("{:12} {what}", self.name)),
        }
    }

    /// It is where it should be.
    pub(super) fn done(self, what: &str) {
        self.end(&format!("{what} ({:.1} s)", self.since.elapsed().as_secs_f64()));
    }

    /// It is not.
    pub(super) fn failed(self, why: &str) {
        self.end(&format!("failed: {}", why.lines().next().unwrap_or_default()));
    }

    fn end(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.finish_with_message(line.to_owned()),
            None => terminal::note(format_args!("{:12} {line}", self.name)),
        }
    }
}
