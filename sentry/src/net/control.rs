//! What travels beside data: credentials and descriptors of unix(7), addresses and times of ip(7).

use super::SocketFile;
use crate::errno::{Errno, Result};
use crate::sync::SpinLock;
use crate::vfs::{OpenFile, hooks};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use linux_raw_sys::net::AF_UNIX;

/// Most descriptors in one message, SCM_MAX_FD.
pub const MAX_FILES: usize = 253;

/// Who sent something, struct ucred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Creds {
    /// Process.
    pub pid: u32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Creds {
    /// What is shown where nobody is known.
    pub const NOBODY: Self = Self { pid: 0, uid: u32::MAX, gid: u32::MAX };

    /// What SCM_CREDENTIALS says of data sent while nobody had asked for credentials.
    pub const UNKNOWN: Self = Self { pid: 0, uid: 65534, gid: 65534 };

    /// The caller, with its effective ids.
    pub fn effective() -> Self {
        let (pid, _) = hooks::kernel().current().unwrap_or_default();
        let cred = hooks::kernel().current_cred();
        cred.map_or(Self { pid, uid: 0, gid: 0 }, |c| Self { pid, uid: c.euid, gid: c.egid })
    }

    /// The caller, with its real ids: what is attached to data.
    pub fn real() -> Self {
        let (pid, _) = hooks::kernel().current().unwrap_or_default();
        let cred = hooks::kernel().current_cred();
        cred.map_or(Self { pid, uid: 0, gid: 0 }, |c| Self { pid, uid: c.uid, gid: c.gid })
    }

    /// As struct ucred.
    pub fn to_bytes(self) -> [u8; 12] {
        let mut out = [0; 12];
        out[..4].copy_from_slice(&self.pid.to_ne_bytes());
        out[4..8].copy_from_slice(&self.uid.to_ne_bytes());
        out[8..].copy_from_slice(&self.gid.to_ne_bytes());
        out
    }
}

/// Descriptions in flight, by the user that sent them.
static IN_FLIGHT: SpinLock<BTreeMap<u32, usize>> = SpinLock::new(BTreeMap::new());

/// Unix sockets among them.
static SOCKETS: AtomicUsize = AtomicUsize::new(0);
/// Times that descriptions in flight were made, copied or taken out.
static MOVES: AtomicU64 = AtomicU64::new(0);

/// Whether unix sockets are in flight.
pub fn sockets_in_flight() -> bool {
    SOCKETS.load(Ordering::SeqCst) != 0
}

/// Counts what happens to descriptions in flight: where it is the same twice, none has been moved between.
pub fn moves() -> u64 {
    MOVES.load(Ordering::SeqCst)
}

/// Notes that descriptions enter a queue or leave one; before it is done, under the lock of the queue.
pub fn note_move() {
    MOVES.fetch_add(1, Ordering::SeqCst);
}

/// Number of the unix socket that a description is of.
fn unix_socket(file: &OpenFile) -> Option<u64> {
    let common = file.downcast::<SocketFile>()?.socket().common();
    (common.domain == AF_UNIX).then_some(common.ino)
}

fn count_sockets(files: &[Arc<OpenFile>]) -> usize {
    files.iter().filter(|f| unix_socket(f).is_some()).count()
}

/// A description in a queue, as it was seen.
pub struct InFlight {
    /// Names the description.
    pub key: usize,
    /// References to it.
    pub references: usize,
    /// Number of the unix socket that it is of.
    pub socket: Option<u64>,
}

/// Descriptions in flight, SCM_RIGHTS.
pub struct Rights {
    files: Vec<Arc<OpenFile>>,
    uid: u32,
    /// Where they go when they are thrown away, which is no moment to ask for memory.
    grave: Option<Box<Grave>>,
}

impl Rights {
    /// Puts descriptions in flight for a user; at most `limit` of its are (RLIMIT_NOFILE), none without.
    ///
    /// # Errors
    /// ETOOMANYREFS.
    pub fn new(files: Vec<Arc<OpenFile>>, uid: u32, limit: Option<u64>) -> Result<Self> {
        let mut all = IN_FLIGHT.lock();
        let count = all.entry(uid).or_default();
        if limit.is_some_and(|limit| *count as u64 > limit) {
            return Err(Errno::ETOOMANYREFS);
        }
        *count += files.len();
        SOCKETS.fetch_add(count_sockets(&files), Ordering::SeqCst);
        Ok(Self { files, uid, grave: Some(Box::default()) })
    }

    /// Shows the descriptions as they are now.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn show(&self, out: &mut Vec<InFlight>) -> Result<()> {
        out.try_reserve(self.files.len()).map_err(|_| Errno::ENOMEM)?;
        out.extend(self.files.iter().map(|file| InFlight {
            key: Arc::as_ptr(file).addr(),
            references: Arc::strong_count(file),
            socket: unix_socket(file),
        }));
        Ok(())
    }

    /// Another set of the same, for MSG_PEEK.
    pub fn duplicate(&self) -> Self {
        note_move();
        *IN_FLIGHT.lock().entry(self.uid).or_default() += self.files.len();
        SOCKETS.fetch_add(count_sockets(&self.files), Ordering::SeqCst);
        Self { files: self.files.clone(), uid: self.uid, grave: Some(Box::default()) }
    }

    /// Takes them out of flight.
    pub fn land(mut self) -> Vec<Arc<OpenFile>> {
        self.uncount();
        core::mem::take(&mut self.files)
    }

    fn uncount(&self) {
        SOCKETS.fetch_sub(count_sockets(&self.files), Ordering::SeqCst);
        let mut all = IN_FLIGHT.lock();
        if let Some(count) = all.get_mut(&self.uid) {
            *count = count.saturating_sub(self.files.len());
            if *count == 0 {
                all.remove(&self.uid);
            }
        }
    }
}

impl Drop for Rights {
    fn drop(&mut self) {
        if self.files.is_empty() {
            return;
        }
        self.uncount();
        if let Some(mut grave) = self.grave.take() {
            grave.files = core::mem::take(&mut self.files);
            bury(grave);
        }
    }
}

/// Descriptions that were in one message, in a list.
#[derive(Default)]
struct Grave {
    files: Vec<Arc<OpenFile>>,
    next: Option<Box<Grave>>,
}

static DEAD: SpinLock<Option<Box<Grave>>> = SpinLock::new(None);
static BURYING: AtomicBool = AtomicBool::new(false);

/// The next of those that are to be dropped.
fn next_dead() -> Option<Arc<OpenFile>> {
    let mut dead = DEAD.lock();
    loop {
        let mut grave = dead.take()?;
        if let Some(file) = grave.files.pop() {
            *dead = Some(grave);
            return Some(file);
        }
        *dead = grave.next.take();
    }
}

/// Drops descriptions one after the other: a socket that goes may hold others in its queue, in a chain of any
/// length, and the kernel's stack is small.
fn bury(mut grave: Box<Grave>) {
    {
        let mut dead = DEAD.lock();
        grave.next = dead.take();
        *dead = Some(grave);
    }
    while !BURYING.swap(true, Ordering::SeqCst) {
        while let Some(file) = next_dead() {
            drop(file);
        }
        BURYING.store(false, Ordering::SeqCst);
        // What another has left while this one was still seen at work.
        if DEAD.lock().is_none() {
            return;
        }
    }
}

/// What a message brings beside its data, or takes along.
#[derive(Default)]
pub struct Control {
    /// Credentials.
    pub creds: Option<Creds>,
    /// Descriptions.
    pub rights: Option<Rights>,
    /// Other control messages: level, type, data. To a program they go as they are; from one, the socket judges them.
    pub more: Vec<(u32, u32, Vec<u8>)>,
}
