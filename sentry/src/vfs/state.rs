//! Root, working directory and umask of a process, and what a walk needs of them.

use super::mount::MountNs;
use super::path::Path;
use super::walk::{FOLLOW, Last, Walker};
use crate::errno::{Errno, Result};
use crate::kernel::cred::Cred;
use crate::kernel::task::CurrentTask;
use crate::sync::SpinLock;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general as c;

#[derive(Clone)]
struct Places {
    root: Path,
    cwd: Path,
    umask: u32,
    ns: Arc<MountNs>,
}

/// What tasks share with CLONE_FS; and their mount namespace.
pub struct FsState {
    places: SpinLock<Places>,
}

impl FsState {
    /// Begins at the root of a namespace.
    pub fn new(ns: Arc<MountNs>) -> Arc<Self> {
        let root = ns.root().root_path();
        Arc::new(Self { places: SpinLock::new(Places { cwd: root.clone(), root, umask: 0o022, ns }) })
    }

    /// A copy, for fork(2).
    pub fn fork(&self) -> Arc<Self> {
        let places = self.places.lock().clone();
        Arc::new(Self { places: SpinLock::new(places) })
    }

    /// Moves to a copy of the mount namespace (CLONE_NEWNS). Tasks that share this state all move: unshare(2)
    /// makes it a copy first.
    pub fn new_namespace(&self) {
        let old = self.places.lock().clone();
        let (ns, translate) = old.ns.copy();
        let new = Places { root: translate(&old.root), cwd: translate(&old.cwd), umask: old.umask, ns };
        let previous = core::mem::replace(&mut *self.places.lock(), new);
        drop(previous);
    }

    /// The root directory.
    pub fn root(&self) -> Path {
        self.places.lock().root.clone()
    }

    /// The working directory.
    pub fn cwd(&self) -> Path {
        self.places.lock().cwd.clone()
    }

    /// The mount namespace.
    pub fn ns(&self) -> Arc<MountNs> {
        self.places.lock().ns.clone()
    }

    /// Sets the root directory, chroot(2).
    pub fn set_root(&self, path: Path) {
        let old = core::mem::replace(&mut self.places.lock().root, path);
        drop(old);
    }

    /// Sets the working directory, chdir(2).
    pub fn set_cwd(&self, path: Path) {
        let old = core::mem::replace(&mut self.places.lock().cwd, path);
        drop(old);
    }

    /// The file-mode creation mask.
    pub fn umask(&self) -> u32 {
        self.places.lock().umask
    }

    /// Sets the mask; returns the old one, umask(2).
    pub fn set_umask(&self, mask: u32) -> u32 {
        core::mem::replace(&mut self.places.lock().umask, mask & 0o777)
    }
}

/// Who does something with paths, and from where.
pub struct Ctx {
    /// Credentials.
    pub cred: Arc<Cred>,
    /// Root directory.
    pub root: Path,
    /// Root, working directory, mask, namespace.
    pub fs: Arc<FsState>,
}

impl Ctx {
    /// For the calling task.
    pub fn of(task: &CurrentTask) -> Self {
        Self::new(task.cred(), task.fs())
    }

    /// For credentials and a state.
    pub fn new(cred: Arc<Cred>, fs: Arc<FsState>) -> Self {
        Self { root: fs.root(), cred, fs }
    }

    /// Where a relative path begins: the working directory, or the directory behind a descriptor.
    ///
    /// # Errors
    /// EBADF, ENOTDIR.
    pub fn base(&self, task: &CurrentTask, dirfd: i32, path: &[u8]) -> Result<Path> {
        if path.first() == Some(&b'/') {
            return Ok(self.root.clone());
        }
        if dirfd == c::AT_FDCWD {
            return Ok(self.fs.cwd());
        }
        let file = task.files().get_any(dirfd)?;
        if !file.path.dentry.is_dir() && !path.is_empty() {
            return Err(Errno::ENOTDIR);
        }
        Ok(file.path.clone())
    }

    /// A walk below the root of this.
    pub fn walker(&self) -> Walker<'_> {
        Walker::new(&self.cred, self.root.clone(), 0)
    }

    /// Resolves a path from `base` on; `follow` a symbolic link at its end.
    ///
    /// # Errors
    /// See [`Walker::parent`].
    pub fn resolve(&self, base: Path, path: &[u8], follow: bool) -> Result<Path> {
        self.walker().resolve(base, path, if follow { FOLLOW } else { 0 })
    }

    /// Resolves a path from the working directory on, following links.
    ///
    /// # Errors
    /// See [`Walker::parent`].
    pub fn lookup(&self, path: &[u8]) -> Result<Path> {
        let base = if path.first() == Some(&b'/') { self.root.clone() } else { self.fs.cwd() };
        self.resolve(base, path, true)
    }

    /// The directory that holds the last component of a path.
    ///
    /// # Errors
    /// See [`Walker::parent`].
    pub fn parent(&self, base: Path, path: &[u8]) -> Result<Last> {
        self.walker().parent(base, path)
    }

    /// A path as this context sees it.
    pub fn text(&self, path: &Path) -> Vec<u8> {
        path.to_bytes(&self.root)
    }
}

/// After pivot_root(2): processes whose root or working directory was the old root go to the new one.
pub fn moved_root(own: &Arc<FsState>, old: &Path, new: &Path) {
    let kernel = super::hooks::kernel();
    let others = kernel.pids().into_iter().filter_map(|pid| kernel.fs(pid));
    for state in others.chain([own.clone()]) {
        if state.root().same(old) {
            state.set_root(new.clone());
        }
        if state.cwd().same(old) {
            state.set_cwd(new.clone());
        }
    }
}
