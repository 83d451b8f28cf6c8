//! The debug log: lines to the VMM.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU8, Ordering};

/// Severity of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Something failed that should not.
    Error = 0,
    /// Something a user should look at.
    Warning = 1,
    /// Progress.
    Info = 2,
    /// Details.
    Debug = 3,
    /// A line of the system-call trace.
    Trace = 4,
}

static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);

/// Sets the lowest severity that is written (0 errors only, 3 all).
pub fn set_level(level: u8) {
    LEVEL.store(level.min(Level::Debug as u8), Ordering::Relaxed);
}

/// Whether lines of a severity are written.
pub fn enabled(level: Level) -> bool {
    level == Level::Trace || level as u8 <= LEVEL.load(Ordering::Relaxed)
}

struct Line {
    buf: [u8; 1024],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let n = s.len().min(self.buf.len() - self.len);
        self.buf[self.len..self.len + n].copy_from_slice(&s.as_bytes()[..n]);
        self.len += n;
        Ok(())
    }
}

/// Writes a line.
pub fn write(level: Level, args: fmt::Arguments<'_>) {
    if !enabled(level) {
        return;
    }
    let mut line = Line { buf: [0; 1024], len: 0 };
    let _ = line.write_fmt(args);
    crate::host::log(level as u64, &line.buf[..line.len]);
}

/// Logs an error.
#[macro_export]
macro_rules! error { ($($t:tt)*) => { $crate::log::write($crate::log::Level::Error, format_args!($($t)*)) } }
/// Logs a warning.
#[macro_export]
macro_rules! warn { ($($t:tt)*) => { $crate::log::write($crate::log::Level::Warning, format_args!($($t)*)) } }
/// Logs progress.
#[macro_export]
macro_rules! info { ($($t:tt)*) => { $crate::log::write($crate::log::Level::Info, format_args!($($t)*)) } }
/// Logs details.
#[macro_export]
macro_rules! debug { ($($t:tt)*) => { $crate::log::write($crate::log::Level::Debug, format_args!($($t)*)) } }
