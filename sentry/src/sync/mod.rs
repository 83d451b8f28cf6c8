//! Locks and waiting.
//!
//! Kernel code is not preempted and takes no interrupts, so a spinning lock needs no interrupt masking. What may
//! block (host calls that read files, user memory that must be faulted in) is done under [`Mutex`] only.

mod mutex;
mod once;
mod spin;
mod wait;

pub use mutex::{Mutex, MutexGuard};
pub use once::Once;
pub use spin::{SpinGuard, SpinLock, stuck};
pub use wait::{EntryId, WaitQueue, Wake};

bitflags::bitflags! {
    /// Readiness, the bits of poll(2).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Events: u32 {
        /// POLLIN
        const IN = 0x001;
        /// POLLPRI
        const PRI = 0x002;
        /// POLLOUT
        const OUT = 0x004;
        /// POLLERR
        const ERR = 0x008;
        /// POLLHUP
        const HUP = 0x010;
        /// POLLNVAL
        const NVAL = 0x020;
        /// POLLRDNORM
        const RDNORM = 0x040;
        /// POLLRDBAND
        const RDBAND = 0x080;
        /// POLLWRNORM
        const WRNORM = 0x100;
        /// POLLWRBAND
        const WRBAND = 0x200;
        /// POLLRDHUP
        const RDHUP = 0x2000;
    }
}
