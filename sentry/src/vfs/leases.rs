//! File leases: F_SETLEASE of fcntl(2). The holder is told before another opens or truncates the file, and has
//! fs.lease-break-time seconds to give the lease up.

use super::async_io::{SignalOwner, signal_io};
use super::file::OpenFile;
use super::inode::InodeExtra;
use crate::errno::{Errno, Result};
use crate::fs::proc::sysctl;
use crate::kernel::wait::{self, WaitError};
use crate::sync::{Events, SpinLock, WaitQueue};
use crate::time::NS;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use linux_raw_sys::general as c;

/// What a lease lets its holder count on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Nobody opens the file for writing.
    Read,
    /// Nobody else opens the file.
    Write,
}

/// A break that is under way.
#[derive(Debug, Clone, Copy)]
struct Breaking {
    /// What is to be left of the lease.
    target: Option<Kind>,
    /// When it is taken away, CLOCK_MONOTONIC ns.
    until: u64,
}

struct Lease {
    description: u64,
    file: Weak<OpenFile>,
    kind: Kind,
    breaking: Option<Breaking>,
}

impl Lease {
    fn conflicts(&self, write: bool) -> bool {
        write || self.kind == Kind::Write
    }
}

/// Leases on a file, and how many descriptions of it there are.
#[derive(Default)]
pub struct Leases {
    count: AtomicUsize,
    opens: AtomicUsize,
    held: SpinLock<Vec<Lease>>,
    changed: WaitQueue,
}

impl Leases {
    /// No lease.
    pub const fn new() -> Self {
        Self {
            count: AtomicUsize::new(0),
            opens: AtomicUsize::new(0),
            held: SpinLock::new(Vec::new()),
            changed: WaitQueue::new(),
        }
    }

    /// Counts a description.
    pub fn opened(&self) {
        self.opens.fetch_add(1, Ordering::SeqCst);
    }

    /// A description is gone, and its lease with it.
    pub fn closed(&self, description: u64) {
        self.opens.fetch_sub(1, Ordering::SeqCst);
        if self.count.load(Ordering::SeqCst) != 0 {
            let _ = self.remove(description);
        }
    }

    /// F_GETLEASE: F_RDLCK, F_WRLCK or F_UNLCK; of a lease that is being broken, what is to be left.
    pub fn get(&self, description: u64) -> u32 {
        self.expire();
        let held = self.held.lock();
        let mine = held.iter().find(|l| l.description == description);
        match mine.and_then(|l| l.breaking.map_or(Some(l.kind), |b| b.target)) {
            Some(Kind::Read) => c::F_RDLCK,
            Some(Kind::Write) => c::F_WRLCK,
            None => c::F_UNLCK,
        }
    }

    /// Gives the lease of a description up.
    ///
    /// # Errors
    /// EAGAIN where it has none.
    pub fn remove(&self, description: u64) -> Result<()> {
        let gone = {
            let mut held = self.held.lock();
            let at = held.iter().position(|l| l.description == description).ok_or(Errno::EAGAIN)?;
            let gone = held.swap_remove(at);
            self.count.store(held.len(), Ordering::SeqCst);
            gone
        };
        drop(gone);
        self.changed.wake(Events::IN);
        Ok(())
    }

    /// Gives a description a lease, or another kind of one.
    ///
    /// # Errors
    /// EAGAIN where the file is open in a way that conflicts, or another's lease does.
    pub fn set(&self, file: &Arc<OpenFile>, extra: &InodeExtra, kind: Kind) -> Result<()> {
        {
            let mut held = self.held.lock();
            let conflict = match kind {
                Kind::Read => extra.writers.load(Ordering::SeqCst) > 0,
                Kind::Write => self.opens.load(Ordering::SeqCst) > 1,
            };
            let others = held
                .iter()
                .any(|l| l.description != file.id && (kind == Kind::Write || l.breaking.is_some()));
            if conflict || others {
                return Err(Errno::EAGAIN);
            }
            match held.iter_mut().find(|l| l.description == file.id) {
                Some(mine) => {
                    mine.kind = kind;
                    mine.breaking = None;
                }
                None => held.push(Lease {
                    description: file.id,
                    file: Arc::downgrade(file),
                    kind,
                    breaking: None,
                }),
            }
            self.count.store(held.len(), Ordering::SeqCst);
        }
        self.changed.wake(Events::IN);
        Ok(())
    }

    /// Takes away what should have been given up by now.
    fn expire(&self) {
        let now = crate::time::monotonic_ns();
        let mut held = self.held.lock();
        held.retain_mut(|lease| match lease.breaking {
            Some(Breaking { until, target }) if until <= now => {
                lease.breaking = None;
                match target {
                    Some(kind) => {
                        lease.kind = kind;
                        true
                    }
                    None => false,
                }
            }
            _ => true,
        });
        self.count.store(held.len(), Ordering::SeqCst);
    }

    /// Before the file is opened or truncated: tells holders whose leases stand against it, and waits for them.
    ///
    /// # Errors
    /// EAGAIN where it must not wait; RESTART_SYS.
    pub fn break_for(&self, write: bool, nonblock: bool) -> Result<()> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return Ok(());
        }
        let seconds = sysctl::get_number("fs/lease-break-time").unwrap_or(45);
        let until = crate::time::monotonic_ns().saturating_add(seconds.saturating_mul(NS));
        let mut told: Vec<SignalOwner> = Vec::new();
        {
            let mut held = self.held.lock();
            for lease in held.iter_mut().filter(|l| l.conflicts(write)) {
                let target = if write { None } else { Some(Kind::Read) };
                // A break goes on to the end even if a stronger one comes after.
                if lease.breaking.is_some_and(|b| b.target <= target) {
                    continue;
                }
                lease.breaking = Some(Breaking { target, until });
                told.extend(lease.file.upgrade().map(|f| f.signal_owner()));
            }
        }
        for owner in told {
            signal_io(&owner, (c::POLL_MSG as i32, u64::from(c::EPOLLIN | c::EPOLLRDNORM | c::EPOLLMSG)));
        }
        let free = || (!self.held.lock().iter().any(|l| l.conflicts(write))).then_some(());
        if nonblock {
            return free().ok_or(Errno::EAGAIN);
        }
        loop {
            match wait::wait_until(&[(&self.changed, Events::IN)], self.next_end(), free) {
                Ok(()) => return Ok(()),
                Err(WaitError::TimedOut) => self.expire(),
                Err(WaitError::Interrupted) => return Err(Errno::RESTART_SYS),
            }
        }
    }

    fn next_end(&self) -> Option<u64> {
        self.held.lock().iter().filter_map(|l| l.breaking.map(|b| b.until)).min()
    }
}
