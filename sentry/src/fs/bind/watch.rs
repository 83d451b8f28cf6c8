//! inotify(7) of shared directories: the host tells of all that happens to a watched file, what the container itself
//! does included, so that nothing is told twice and in another order.
//!
//! The events of the host lie in its queue until somebody wants to see them: who reads an inotify instance fetches them
//! first, so they are there as soon as the call that caused them is done. For those who wait, a kernel task fetches
//! them when the VMM says that there are some.

use super::{CHANGES, HostNode};
use crate::errno::{Errno, Result};
use crate::host::files;
use crate::kernel::{boot, events, freeze, wait};
use crate::sync::{Events, Mutex, SpinLock};
use abi::hostcall::CpuYield;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::convert::Infallible;
use core::sync::atomic::{AtomicU64, Ordering};
use linux_raw_sys::general as c;

/// Looks whether another has handed out its events.
const MOST_LOOKS: usize = 1000;
/// Bytes of an event before its name.
const HEAD: usize = 16;

/// Who watches, and for what.
type Watching = Vec<(Weak<HostNode>, u32)>;

/// By the host's number of the watch: it is the same for all names of a file.
static NODES: SpinLock<BTreeMap<i32, Watching>> = SpinLock::new(BTreeMap::new());
/// Watched files: where there are none, nobody asks the host.
static COUNT: AtomicU64 = AtomicU64::new(0);
/// Held while events are fetched and handed out: they keep their order.
static PULL: Mutex<()> = Mutex::new(());
/// Held while watches begin and end.
static WATCHES: Mutex<Watches> = Mutex::new(Watches { restores: 0, running: false });

struct Watches {
    /// The restore of the sandbox since which the numbers are good.
    restores: u64,
    /// The kernel task runs.
    running: bool,
}

fn count(nodes: &BTreeMap<i32, Watching>) {
    COUNT.store(nodes.values().map(|n| n.len() as u64).sum(), Ordering::Relaxed);
}

fn nodes_of(watching: &Watching) -> Vec<Arc<HostNode>> {
    watching.iter().filter_map(|(node, _)| node.upgrade()).collect()
}

impl Watches {
    fn insert(&self, node: &Arc<HostNode>, mask: u32) -> Result<()> {
        // The host's watch ends with the file; so does this.
        let watch = files::watch(node.root, &node.path(), mask | c::IN_DELETE_SELF)?;
        let mut nodes = NODES.lock();
        let of = nodes.entry(watch).or_default();
        match of.iter_mut().find(|(n, _)| core::ptr::eq(n.as_ptr(), Arc::as_ptr(node))) {
            Some((_, old)) => *old |= mask,
            None => of.push((Arc::downgrade(node), mask)),
        }
        count(&nodes);
        Ok(())
    }

    /// Where the VMM is another one, it watches nothing yet.
    fn renew(&mut self) {
        if self.restores == freeze::restores() {
            return;
        }
        self.restores = freeze::restores();
        let old = core::mem::take(&mut *NODES.lock());
        for (node, mask) in old.into_values().flatten() {
            if let Some(node) = node.upgrade()
                && self.insert(&node, mask).is_err()
            {
                node.extra.watches.set_outside(false);
            }
        }
        count(&NODES.lock());
    }
}

/// A watch begins on a file, or is for more events. Where the host watches no such file (one that was shared by itself,
/// or its limits are reached), the watch is told of what the container does.
pub(super) fn add(node: &Arc<HostNode>, mask: u32) -> Result<()> {
    let mut watches = WATCHES.lock();
    watches.renew();
    match watches.insert(node, mask) {
        Ok(()) => node.extra.watches.set_outside(true),
        Err(Errno::ENOMEM) => return Err(Errno::ENOMEM),
        Err(_) => return Ok(()),
    }
    if !watches.running {
        boot::spawn_kernel(Box::new(|| match serve() {}))?;
        watches.running = true;
    }
    Ok(())
}

/// A watch of a file has ended: with the last, the host's.
pub(super) fn remove(node: &HostNode) {
    let watches = WATCHES.lock();
    if !node.extra.watches.is_empty() {
        return;
    }
    node.extra.watches.set_outside(false);
    let mut gone = Vec::new();
    {
        let mut nodes = NODES.lock();
        nodes.retain(|watch, of| {
            of.retain(|(n, _)| !core::ptr::eq(n.as_ptr(), node) && n.strong_count() != 0);
            if of.is_empty() {
                gone.push(*watch);
            }
            !of.is_empty()
        });
        count(&nodes);
    }
    if watches.restores == freeze::restores() {
        for watch in gone {
            // The host may have ended it already: the file is gone.
            let _ = files::unwatch(watch);
        }
    }
}

/// Hands out one event; `None` for the end of what was fetched.
fn tell(bytes: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes);
    let (watch, mask, cookie, len) = (word(0)? as i32, word(4)?, word(8)?, word(12)? as usize);
    let name = bytes.get(HEAD..HEAD.checked_add(len)?)?;
    let name = name.split(|b| *b == 0).next().unwrap_or_default();
    let nodes: Vec<Arc<HostNode>> = if mask & c::IN_Q_OVERFLOW != 0 {
        NODES.lock().values().flat_map(nodes_of).collect()
    } else if mask & c::IN_IGNORED != 0 {
        let ended = NODES.lock().remove(&watch);
        count(&NODES.lock());
        ended.iter().flat_map(nodes_of).for_each(|node| node.extra.watches.set_outside(false));
        Vec::new()
    } else {
        NODES.lock().get(&watch).map(nodes_of).unwrap_or_default()
    };
    for node in nodes {
        node.extra.watches.tell_from_outside(mask, cookie, name);
    }
    bytes.get(HEAD + len..)
}

fn pull_locked() {
    while let Ok(bytes) = files::events()
        && !bytes.is_empty()
    {
        // Whoever hears of it sees it.
        CHANGES.fetch_add(1, Ordering::Relaxed);
        let mut rest = bytes.as_slice();
        while let Some(more) = tell(rest) {
            rest = more;
        }
    }
}

/// Hands out what the host has to tell.
pub fn pull() {
    if COUNT.load(Ordering::Relaxed) != 0 {
        let _order = PULL.lock();
        pull_locked();
    }
}

/// As [`pull`], for those who may not be switched away, as in the middle of a poll(2) of several files: where somebody
/// else is at it, waits on the vCPU. That takes a host call or two; it is given up after long, since the one may be the
/// caller itself, whose event has woken somebody that looks at once.
pub fn pull_here() {
    if COUNT.load(Ordering::Relaxed) == 0 {
        return;
    }
    for _ in 0..MOST_LOOKS {
        if let Some(_order) = PULL.try_lock() {
            return pull_locked();
        }
        let _ = crate::host::call(&CpuYield {});
    }
}

/// The VMM may have taken events from the host's queue, and keep them: lets them be fetched.
pub(super) fn nudge() {
    if COUNT.load(Ordering::Relaxed) != 0 {
        events::files();
    }
}

/// The kernel task.
fn serve() -> Infallible {
    loop {
        let seen = events::FILES_TOLD.load(Ordering::SeqCst);
        WATCHES.lock().renew();
        // The last look, which finds nothing, lets the VMM tell of what comes.
        pull();
        let told = || (events::FILES_TOLD.load(Ordering::SeqCst) != seen).then_some(());
        let _ = wait::wait_until(&[(&events::FILES, Events::IN)], None, told);
    }
}
