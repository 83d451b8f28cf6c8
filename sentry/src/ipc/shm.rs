//! Shared memory: shmget(2), shmat(2), shmdt(2), shmctl(2).
//!
//! An attachment is what a mapping maps: it stands before the segment's memory and lives as long as its range of an
//! address space. fork(2), and splitting a range, make a new one. So the number of attachments is right without hooks
//! in the places where ranges are moved and dropped.

use super::{Charge, Ids, Object, Perm, limits};
use crate::errno::{Errno, Result};
use crate::kernel::cred::Cred;
use crate::mm::frames::FrameRef;
use crate::mm::object::{Mappable, Mappings, ObjectName};
use crate::mm::shm::SharedAnon;
use crate::sync::SpinLock;
use crate::vfs::hooks::kernel;
use abi::PAGE_SIZE;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering};
use smallvec::SmallVec;

/// Mode bit: removed, and goes with the last attachment.
pub const SHM_DEST: u32 = 0o1000;
/// Mode bit: locked in memory.
pub const SHM_LOCKED: u32 = 0o2000;

/// All segments.
pub static SEGMENTS: Ids<Segment> = Ids::new();
/// Pages of all segments.
static PAGES: AtomicU64 = AtomicU64::new(0);

/// A segment.
pub struct Segment {
    id: i32,
    /// Size as it was asked for, bytes.
    pub size: u64,
    /// Key that it was made with, which stays its name in /proc/PID/maps.
    name: i32,
    memory: SharedAnon,
    state: SpinLock<State>,
    _charge: Charge,
}

/// What changes about a segment.
#[derive(Debug, Clone, Copy)]
pub struct State {
    /// Owner and permissions.
    pub perm: Perm,
    /// Attachments.
    pub attached: u64,
    /// Last attach, seconds.
    pub atime: i64,
    /// Last detach.
    pub dtime: i64,
    /// Last change.
    pub ctime: i64,
    /// Process that made it.
    pub cpid: u32,
    /// Process that attached or detached last.
    pub lpid: u32,
}

impl Object for Segment {
    fn perm(&self) -> Perm {
        self.state.lock().perm
    }
}

fn pages_of(size: u64) -> u64 {
    size.div_ceil(PAGE_SIZE)
}

fn caller() -> u32 {
    kernel().current().map_or(0, |c| c.0)
}

/// shmget(2)
///
/// # Errors
/// EINVAL, ENOENT, EEXIST, EACCES, ENOSPC, ENOMEM.
pub fn get(key: i32, size: u64, flags: u32, cred: &Cred) -> Result<i32> {
    const SHM_HUGETLB: u32 = 0o4000;
    let fits = |s: &Segment| if size > s.size { Err(Errno::EINVAL) } else { Ok(()) };
    SEGMENTS.get(key, flags, limits::get(&limits::SHMMNI), cred, fits, |id| {
        if size == 0 || size > limits::get(&limits::SHMMAX) {
            return Err(Errno::EINVAL);
        }
        if flags & SHM_HUGETLB != 0 {
            // There is no pool of huge pages.
            return Err(Errno::ENOMEM);
        }
        let pages = pages_of(size);
        let charge = Charge::new(core::mem::size_of::<Segment>() + 256)?;
        let most = limits::get(&limits::SHMALL);
        let fits = |used: u64| used.checked_add(pages).filter(|sum| *sum <= most);
        PAGES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).map_err(|_| Errno::ENOSPC)?;
        Ok(Segment {
            id,
            size,
            name: key,
            memory: SharedAnon::new(pages),
            state: SpinLock::new(State {
                perm: Perm::new(key, id, cred, flags),
                attached: 0,
                atime: 0,
                dtime: 0,
                ctime: super::now(),
                cpid: caller(),
                lpid: 0,
            }),
            _charge: charge,
        })
    })
}

impl Drop for Segment {
    fn drop(&mut self) {
        PAGES.fetch_sub(pages_of(self.size), Ordering::Relaxed);
    }
}

impl Segment {
    /// What it is now.
    pub fn state(&self) -> State {
        *self.state.lock()
    }

    /// Changes owner and permissions: IPC_SET, SHM_LOCK.
    ///
    /// # Errors
    /// Those of `change`.
    pub fn change(&self, change: impl FnOnce(&mut State) -> Result<()>) -> Result<()> {
        change(&mut self.state.lock())
    }

    /// Bytes that are in memory.
    pub fn resident(&self) -> u64 {
        self.memory.resident() * PAGE_SIZE
    }

    /// Something to map, which counts as attached until it is dropped.
    pub fn attach(self: &Arc<Self>) -> Arc<Attachment> {
        {
            let mut state = self.state.lock();
            state.attached += 1;
            state.atime = super::now();
            state.lpid = caller();
        }
        Arc::new(Attachment { segment: self.clone() })
    }

    /// IPC_RMID: it goes at once, or with its last attachment.
    ///
    /// # Errors
    /// EPERM.
    pub fn remove(&self, cred: &Cred) -> Result<()> {
        let (key, gone) = {
            let mut state = self.state.lock();
            state.perm.check_owner(cred)?;
            let key = state.perm.key;
            state.perm.key = super::IPC_PRIVATE;
            state.perm.mode |= SHM_DEST;
            (key, state.attached == 0)
        };
        if key != super::IPC_PRIVATE {
            SEGMENTS.hide(key);
        }
        if gone {
            SEGMENTS.remove(self.id, super::IPC_PRIVATE);
        }
        Ok(())
    }
}

/// An attached segment.
pub struct Attachment {
    segment: Arc<Segment>,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let gone = {
            let mut state = self.segment.state.lock();
            state.attached -= 1;
            state.dtime = super::now();
            state.lpid = caller();
            state.attached == 0 && state.perm.mode & SHM_DEST != 0
        };
        if gone {
            SEGMENTS.remove(self.segment.id, super::IPC_PRIVATE);
        }
    }
}

impl Mappable for Attachment {
    fn frame(&self, index: u64, write: bool) -> Result<FrameRef> {
        self.segment.memory.frame(index, write)
    }

    fn frames_present(&self, index: u64, max: usize) -> SmallVec<[FrameRef; 16]> {
        self.segment.memory.frames_present(index, max)
    }

    fn mappings(&self) -> &Mappings {
        self.segment.memory.mappings()
    }

    fn describe(&self) -> ObjectName {
        let path = format!("/SYSV{:08x} (deleted)", self.segment.name as u32).into_bytes();
        ObjectName { path, dev: 1, ino: u64::from(self.segment.id as u32) }
    }

    fn another(&self) -> Option<Arc<dyn Mappable>> {
        Some(self.segment.attach())
    }

    fn counted(&self) -> bool {
        true
    }
}

/// Pages of all segments, and those in memory.
pub fn totals() -> (u64, u64) {
    let resident = SEGMENTS.all().iter().map(|(_, s)| s.memory.resident()).sum();
    (PAGES.load(Ordering::Relaxed), resident)
}

/// /proc/sysvipc/shm
pub fn list() -> Vec<u8> {
    let mut out = String::from(
        "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      \
         dtime      ctime                   rss                  swap\n",
    );
    for (id, segment) in SEGMENTS.all() {
        let s = segment.state();
        let p = s.perm;
        let _ = writeln!(
            out,
            "{:10} {id:10}  {:4o} {:21} {:5} {:5}  {:5} {:5} {:5} {:5} {:5} {:10} {:10} {:10} {:21} {:21}",
            p.key,
            p.mode,
            segment.size,
            s.cpid,
            s.lpid,
            s.attached,
            p.uid,
            p.gid,
            p.cuid,
            p.cgid,
            s.atime,
            s.dtime,
            s.ctime,
            segment.resident(),
            0
        );
    }
    out.into_bytes()
}
