//! Signals that a command hands on to the process that it stands for.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::error::Error;

/// They.
const FORWARDED: &[Signal] = &[
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGCONT,
];

/// Blocks them and `more`; returns a descriptor that tells of them and does not block.
pub fn watch(more: Signal) -> Result<SignalFd, Error> {
    let mut set = SigSet::empty();
    FORWARDED.iter().for_each(|signal| set.add(*signal));
    set.add(more);
    set.thread_block().map_err(|e| Error::os("blocking signals", e))?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(|e| Error::os("watching signals", e))
}
