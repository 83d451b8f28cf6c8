//! Progress on a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rofs::progress::Progress;
use std::cell::Cell;
use std::time::Duration;

/// A bar on standard error, if that is a terminal.
pub struct Bar {
    bar: ProgressBar,
    quiet: bool,
    warnings: Cell<u64>,
}

/// More warnings than this are only counted.
const SHOWN: u64 = 20;

impl Bar {
    /// A bar that is not there yet; one that never is if `quiet`.
    pub fn new(quiet: bool) -> Self {
        // A hidden target draws nothing; the library sees by itself whether standard error is a terminal.
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        Self { bar: ProgressBar::with_draw_target(None, target), quiet, warnings: Cell::new(0) }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
        let more = self.warnings.get().saturating_sub(SHOWN);
        if more > 0 && !self.quiet {
            eprintln!("mkrofs: and {more} more warnings");
        }
    }
}

impl Progress for Bar {
    fn stage(&self, name: &str, total: Option<u64>) {
        let template = match total {
            Some(_) => "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            None => "{msg} {spinner} {bytes} {bytes_per_sec}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
        self.bar.reset();
        match total {
            Some(total) => self.bar.set_length(total),
            None => self.bar.unset_length(),
        }
        self.bar.set_message(name.to_owned());
        self.bar.enable_steady_tick(Duration::from_millis(200));
    }

    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn warn(&self, message: &str) {
        self.warnings.set(self.warnings.get().saturating_add(1));
        if !self.quiet && self.warnings.get() <= SHOWN {
            self.bar.suspend(|| eprintln!("mkrofs: warning: {message}"));
        }
    }
}
