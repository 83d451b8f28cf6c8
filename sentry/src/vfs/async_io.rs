//! Signals for files that are ready: O_ASYNC, F_SETOWN and F_SETSIG of fcntl(2), SIGURG.
//!
//! A description with O_ASYNC, or a socket with an owner (for SIGURG), waits in the queues of its object like any
//! other who polls it; what wakes it becomes a signal.

use super::file::OpenFile;
use crate::kernel::process;
use crate::kernel::signal::{self, SigInfo};
use crate::kernel::task::Task;
use crate::sync::{EntryId, Events, SpinLock, Wake};
use alloc::sync::{Arc, Weak};
use linux_raw_sys::general as c;
use smallvec::SmallVec;

/// Who gets SIGIO, F_SETOWN of fcntl(2).
#[derive(Debug, Clone, Copy, Default)]
pub struct SignalOwner {
    /// F_OWNER_*.
    pub kind: u32,
    /// Its number; 0 for nobody.
    pub pid: u32,
    /// F_SETSIG.
    pub signal: u32,
    /// Real and effective user of who set it: signals are sent in that name.
    pub user: (u32, u32),
    /// Descriptor that O_ASYNC was set through.
    pub fd: i32,
}

/// Where a description waits for what becomes a signal.
#[derive(Default)]
pub struct AsyncLink {
    entries: SpinLock<Option<SmallVec<[EntryId; 2]>>>,
}

/// Code of a signal and poll bits for what has come.
fn reason(events: Events) -> (i32, u64) {
    let band = |events: u32| u64::from(events);
    if events.contains(Events::HUP) && events != Events::all() {
        (c::POLL_HUP as i32, band(c::EPOLLHUP | c::EPOLLERR))
    } else if events.contains(Events::IN) {
        (c::POLL_IN as i32, band(c::EPOLLIN | c::EPOLLRDNORM))
    } else if events.contains(Events::OUT) {
        (c::POLL_OUT as i32, band(c::EPOLLOUT | c::EPOLLWRNORM | c::EPOLLWRBAND))
    } else if events.contains(Events::PRI) {
        (c::POLL_PRI as i32, band(c::EPOLLPRI | c::EPOLLRDBAND))
    } else {
        (c::POLL_ERR as i32, band(c::EPOLLERR))
    }
}

struct Notifier {
    file: Weak<OpenFile>,
}

impl Wake for Notifier {
    fn wake(&self, events: Events) {
        let Some(file) = self.file.upgrade() else { return };
        let owner = file.signal_owner();
        // Only urgent data wakes with this alone.
        if events == Events::PRI {
            send(&owner, SigInfo::kernel(c::SIGURG));
        }
        let wanted = events.intersects(Events::IN | Events::PRI | Events::ERR | Events::HUP)
            || (events.intersects(Events::OUT) && file.ops().ran_full());
        if file.flags() & c::FASYNC != 0 && wanted {
            signal_io(&owner, reason(events));
        }
    }
}

/// Signals readiness to an owner: SIGIO, or the signal of F_SETSIG with descriptor and poll bits.
pub fn signal_io(owner: &SignalOwner, (code, band): (i32, u64)) {
    if owner.signal != 0 {
        let mut info = SigInfo::kernel(owner.signal);
        // Codes of these signals mean something else.
        let own_codes = [c::SIGILL, c::SIGFPE, c::SIGSEGV, c::SIGBUS, c::SIGTRAP, c::SIGCHLD, c::SIGSYS]
            .contains(&owner.signal);
        info.code = if own_codes { c::SI_SIGIO } else { code };
        info.fields[0] = band;
        info.fields[1] = u64::from(owner.fd as u32);
        if send(owner, info) {
            return;
        }
    }
    send(owner, SigInfo::kernel(c::SIGIO));
}

/// Sends to all whom the owner names and its setter may signal; `false` where a queue was full.
fn send(owner: &SignalOwner, info: SigInfo) -> bool {
    let (uid, euid) = owner.user;
    let allowed = |task: &Task| {
        let target = task.cred();
        euid == 0 || [target.suid, target.uid].iter().any(|id| *id == euid || *id == uid)
    };
    if owner.pid == 0 {
        return true;
    }
    if owner.kind == c::F_OWNER_TID {
        return process::find_task(owner.pid)
            .filter(|t| allowed(t))
            .is_none_or(|t| signal::send_task(&t, info).is_ok());
    }
    let groups = if owner.kind == c::F_OWNER_PGRP {
        process::members(owner.pid)
    } else {
        process::find_group(owner.pid).into_iter().collect()
    };
    let mut all = true;
    for group in groups {
        if group.leader().is_some_and(|t| allowed(&t)) {
            all &= signal::send_group(&group, info).is_ok();
        }
    }
    all
}

impl OpenFile {
    /// O_ASYNC or the owner was changed: waits in the object's queues, or not any more.
    pub fn update_async(self: &Arc<Self>) {
        let urgent = self.path.dentry.kind() == c::S_IFSOCK && self.signal_owner().pid != 0;
        if self.flags() & c::FASYNC == 0 && !urgent {
            self.leave_async();
            return;
        }
        let mut entries = self.async_link.entries.lock();
        if entries.is_some() {
            return;
        }
        let mut interest = Events::PRI | Events::ERR | Events::HUP;
        if self.can_read() {
            interest |= Events::IN;
        }
        if self.can_write() {
            interest |= Events::OUT;
        }
        let waker: Arc<dyn Wake> = Arc::new(Notifier { file: Arc::downgrade(self) });
        *entries = Some(self.queues().iter().map(|q| q.add(waker.clone(), interest, false)).collect());
    }

    /// Leaves the object's queues.
    pub(super) fn leave_async(&self) {
        let entries = self.async_link.entries.lock().take();
        for (queue, id) in self.queues().iter().zip(entries.into_iter().flatten()) {
            queue.remove(id);
        }
    }
}
