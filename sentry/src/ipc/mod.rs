//! System V IPC: shared memory, semaphores and message queues, sysvipc(7). The sandbox is one IPC namespace.
//!
//! Each kind has a table of objects ([`Ids`]); an object guards its own state with a spinning lock that is taken after
//! the table's. What objects take of the kernel's heap is charged to one budget.

mod ids;
pub mod limits;
pub mod msg;
pub mod sem;
pub mod shm;
mod undo;

pub use ids::{Found, Ids, Object};
pub use undo::UndoList;

use crate::errno::{Errno, Result};
use crate::kernel::cred::{Cred, cap};
use core::sync::atomic::{AtomicUsize, Ordering};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Key of objects that have none.
pub const IPC_PRIVATE: i32 = 0;
/// Make the object where there is none.
pub const IPC_CREAT: u32 = 0o1000;
/// With IPC_CREAT: fail where there is one.
pub const IPC_EXCL: u32 = 0o2000;
/// Do not wait.
pub const IPC_NOWAIT: u32 = 0o4000;

/// Permission to read, as `ipcperms` takes it.
pub const READ: u32 = 0o444;
/// Permission to change.
pub const WRITE: u32 = 0o222;

/// Owner and permissions of an object.
#[derive(Debug, Clone, Copy)]
pub struct Perm {
    /// Key.
    pub key: i32,
    /// Owner.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// Creator.
    pub cuid: u32,
    /// Group of the creator.
    pub cgid: u32,
    /// Permission bits, and for shared memory SHM_DEST and SHM_LOCKED.
    pub mode: u32,
    /// Generation of the id.
    pub seq: u16,
}

/// struct ipc64_perm.
#[repr(C)]
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct UserPerm {
    /// Key.
    pub key: i32,
    /// Owner.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// Creator.
    pub cuid: u32,
    /// Group of the creator.
    pub cgid: u32,
    /// Permissions.
    pub mode: u32,
    /// Generation of the id.
    pub seq: u16,
    pad: [u16; 3],
    unused: [u64; 2],
}

impl Perm {
    /// Those of an object that `cred` makes with these flags of shmget(2) and its like.
    pub fn new(key: i32, id: i32, cred: &Cred, flags: u32) -> Self {
        Self {
            key,
            uid: cred.euid,
            gid: cred.egid,
            cuid: cred.euid,
            cgid: cred.egid,
            mode: flags & 0o777,
            seq: ids::sequence(id),
        }
    }

    /// Whether `cred` has the permissions `wanted`, in any of the three groups of bits.
    ///
    /// # Errors
    /// EACCES.
    pub fn check(&self, cred: &Cred, wanted: u32) -> Result<()> {
        let wanted = wanted >> 6 | wanted >> 3 | wanted;
        let granted = if cred.euid == self.cuid || cred.euid == self.uid {
            self.mode >> 6
        } else if cred.in_group(self.cgid) || cred.in_group(self.gid) {
            self.mode >> 3
        } else {
            self.mode
        };
        if wanted & !granted & 7 != 0 && !cred.has(cap::IPC_OWNER) { Err(Errno::EACCES) } else { Ok(()) }
    }

    /// Whether `cred` may change owner and permissions, or remove the object.
    ///
    /// # Errors
    /// EPERM.
    pub fn check_owner(&self, cred: &Cred) -> Result<()> {
        let owner = cred.euid == self.cuid || cred.euid == self.uid;
        if owner || cred.has(cap::SYS_ADMIN) { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// IPC_SET: owner and permission bits.
    pub fn set(&mut self, new: &UserPerm) {
        self.uid = new.uid;
        self.gid = new.gid;
        self.mode = self.mode & !0o777 | new.mode & 0o777;
    }

    /// As programs see it.
    pub fn to_user(&self) -> UserPerm {
        UserPerm {
            key: self.key,
            uid: self.uid,
            gid: self.gid,
            cuid: self.cuid,
            cgid: self.cgid,
            mode: self.mode,
            seq: self.seq,
            pad: [0; 3],
            unused: [0; 2],
        }
    }
}

/// Seconds of CLOCK_REALTIME.
pub fn now() -> i64 {
    (crate::time::realtime_ns() / crate::time::NS) as i64
}

/// Bytes of the kernel's heap that IPC objects hold.
static CHARGED: AtomicUsize = AtomicUsize::new(0);

/// Most bytes of the heap for all objects: a sixteenth of the sandbox's memory, at least 1 MiB, at most 64.
fn budget() -> usize {
    (crate::kernel::boot::memory_limit() / 16).clamp(1 << 20, 64 << 20) as usize
}

/// A part of the budget, given back when it is dropped.
#[derive(Debug)]
pub struct Charge(usize);

impl Charge {
    /// Takes `bytes` of the heap's budget for IPC.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new(bytes: usize) -> Result<Self> {
        let limit = budget();
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= limit);
        match CHARGED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) if !crate::mm::frames::low() => Ok(Self(bytes)),
            Ok(_) => {
                drop(Self(bytes));
                Err(Errno::ENOMEM)
            }
            Err(_) => Err(Errno::ENOMEM),
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        CHARGED.fetch_sub(self.0, Ordering::Relaxed);
    }
}
