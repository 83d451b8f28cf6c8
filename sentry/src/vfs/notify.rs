//! Where events for inotify(7) come from.

use super::dentry::Dentry;
use crate::sync::SpinLock;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use linux_raw_sys::general as c;

/// One who watches an inode.
pub trait Watch: Send + Sync {
    /// Something happened; `name` is set where it happened to an entry of the watched directory.
    fn event(&self, mask: u32, cookie: u32, name: &[u8]);
}

/// Watches in the whole sandbox: where there are none, events cost nothing.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// The watches of an inode.
#[derive(Default)]
pub struct Watches {
    list: SpinLock<Vec<Arc<dyn Watch>>>,
    /// Something else tells of all that happens: [`Watches::tell_from_outside`].
    outside: AtomicBool,
}

impl Watches {
    /// None.
    pub const fn new() -> Self {
        Self { list: SpinLock::new(Vec::new()), outside: AtomicBool::new(false) }
    }

    /// Adds one.
    pub fn add(&self, watch: Arc<dyn Watch>) {
        self.list.lock().push(watch);
        COUNT.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes one out.
    pub fn remove(&self, watch: &Arc<dyn Watch>) {
        let mut list = self.list.lock();
        let found = list.iter().position(|w| core::ptr::addr_eq(Arc::as_ptr(w), Arc::as_ptr(watch)));
        if let Some(at) = found {
            let gone = list.swap_remove(at);
            drop(list);
            drop(gone);
            COUNT.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.lock().is_empty()
    }

    /// Whether events come by [`Watches::tell_from_outside`] alone, those of what the sandbox itself does too.
    pub fn set_outside(&self, outside: bool) {
        self.outside.store(outside, Ordering::Relaxed);
    }

    /// Tells of what the host says has happened, as [`Watch::event`].
    pub fn tell_from_outside(&self, mask: u32, cookie: u32, name: &[u8]) {
        self.tell_all(mask, cookie, name);
    }

    fn tell(&self, mask: u32, cookie: u32, name: &[u8]) {
        if !self.outside.load(Ordering::Relaxed) {
            self.tell_all(mask, cookie, name);
        }
    }

    fn tell_all(&self, mask: u32, cookie: u32, name: &[u8]) {
        let watches: Vec<Arc<dyn Watch>> = self.list.lock().clone();
        for watch in watches {
            watch.event(mask, cookie, name);
        }
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        let gone = core::mem::take(self.list.get_mut());
        COUNT.fetch_sub(gone.len(), Ordering::Relaxed);
        for watch in &gone {
            watch.event(c::IN_IGNORED, 0, b"");
        }
    }
}

#[cold]
fn tell_both(dentry: &Arc<Dentry>, mask: u32, cookie: u32) {
    let mask = if dentry.is_dir() { mask | c::IN_ISDIR } else { mask };
    if let Some(extra) = dentry.inode().extra() {
        extra.watches.tell(mask, cookie, b"");
    }
    let (parent, name) = dentry.place();
    if let Some(extra) = parent.as_ref().and_then(|p| p.inode().extra()) {
        extra.watches.tell(mask, cookie, &name);
    }
}

/// Something happened to a file: tells its watches and those of its directory.
#[inline]
pub fn dentry_event(dentry: &Arc<Dentry>, mask: u32) {
    if COUNT.load(Ordering::Relaxed) != 0 {
        tell_both(dentry, mask, 0);
    }
}

/// An entry of a directory came, went or moved.
#[inline]
pub fn entry_event(dir: &Arc<Dentry>, name: &[u8], mask: u32, is_dir: bool, cookie: u32) {
    if COUNT.load(Ordering::Relaxed) == 0 {
        return;
    }
    if let Some(extra) = dir.inode().extra() {
        extra.watches.tell(if is_dir { mask | c::IN_ISDIR } else { mask }, cookie, name);
    }
}

/// Something happened to a file itself, of no interest to its directory.
#[inline]
pub fn self_event(dentry: &Arc<Dentry>, mask: u32) {
    if COUNT.load(Ordering::Relaxed) == 0 {
        return;
    }
    if let Some(extra) = dentry.inode().extra() {
        let mask = if dentry.is_dir() && mask & c::IN_DELETE_SELF == 0 { mask | c::IN_ISDIR } else { mask };
        extra.watches.tell(mask, 0, b"");
    }
}
