//! inotify(7).

use super::bind::watch as outside;
use crate::errno::{Errno, Result};
use crate::kernel::task::CurrentTask;
use crate::mm::io::Sink;
use crate::sync::{Events, SpinLock, WaitQueue};
use crate::vfs::anon;
use crate::vfs::file::{FileOps, OpenFile, Queues};
use crate::vfs::inode::{Inode, same_inode};
use crate::vfs::notify::Watch;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use linux_raw_sys::general as c;
use linux_raw_sys::ioctl;

/// Events that wait, /proc/sys/fs/inotify/max_queued_events.
pub const MAX_QUEUED: usize = 16_384;
/// Watches in the sandbox, /proc/sys/fs/inotify/max_user_watches.
pub const MAX_WATCHES: usize = 65_536;
/// Instances in the sandbox, /proc/sys/fs/inotify/max_user_instances.
pub const MAX_INSTANCES: usize = 1024;

static WATCHES: AtomicUsize = AtomicUsize::new(0);
static INSTANCES: AtomicUsize = AtomicUsize::new(0);

struct Event {
    wd: i32,
    mask: u32,
    cookie: u32,
    name: Vec<u8>,
}

impl Event {
    /// Bytes that it takes: the name is padded to the head's size.
    fn size(&self) -> usize {
        let name = if self.name.is_empty() { 0 } else { (self.name.len() + 1).next_multiple_of(16) };
        16 + name
    }

    fn bytes(&self) -> Vec<u8> {
        let size = self.size();
        let mut out = Vec::with_capacity(size);
        out.extend_from_slice(&self.wd.to_le_bytes());
        out.extend_from_slice(&self.mask.to_le_bytes());
        out.extend_from_slice(&self.cookie.to_le_bytes());
        out.extend_from_slice(&((size - 16) as u32).to_le_bytes());
        out.extend_from_slice(&self.name);
        out.resize(size, 0);
        out
    }
}

/// A watch on an inode.
struct Mark {
    owner: Weak<Inotify>,
    wd: i32,
    mask: AtomicU32,
}

struct Watched {
    inode: Arc<dyn Inode>,
    mark: Arc<Mark>,
}

#[derive(Default)]
struct State {
    events: VecDeque<Event>,
    watches: BTreeMap<i32, Watched>,
    next: i32,
}

/// An inotify instance.
pub struct Inotify {
    state: SpinLock<State>,
    queue: WaitQueue,
    me: Weak<Inotify>,
}

/// A new instance; `flags` for the description.
///
/// # Errors
/// EMFILE where there are too many.
pub fn new(flags: u32) -> Result<Arc<OpenFile>> {
    if INSTANCES.fetch_add(1, Ordering::Relaxed) >= MAX_INSTANCES {
        INSTANCES.fetch_sub(1, Ordering::Relaxed);
        return Err(Errno::EMFILE);
    }
    let inotify = Arc::new_cyclic(|me| Inotify {
        state: SpinLock::new(State { next: 1, ..State::default() }),
        queue: WaitQueue::new(),
        me: me.clone(),
    });
    Ok(anon::file("inotify", inotify, c::O_RDONLY | flags))
}

impl Watch for Mark {
    fn event(&self, mask: u32, cookie: u32, name: &[u8]) {
        let Some(owner) = self.owner.upgrade() else { return };
        if mask & c::IN_Q_OVERFLOW != 0 {
            owner.push(Event { wd: -1, mask: c::IN_Q_OVERFLOW, cookie: 0, name: Vec::new() });
            return;
        }
        let wished = self.mask.load(Ordering::Relaxed);
        let kinds = mask & c::IN_ALL_EVENTS;
        if wished & kinds != 0 {
            owner.push(Event { wd: self.wd, mask, cookie, name: name.to_vec() });
        }
        if name.is_empty() && mask & c::IN_DELETE_SELF != 0
            || wished & c::IN_ONESHOT != 0 && wished & kinds != 0
        {
            let _ = owner.remove(self.wd);
        }
    }
}

impl Inotify {
    fn push(&self, event: Event) {
        {
            let mut state = self.state.lock();
            let same = state.events.back().is_some_and(|last| {
                last.wd == event.wd
                    && last.mask == event.mask
                    && last.cookie == event.cookie
                    && last.name == event.name
            });
            if same {
                return;
            }
            if state.events.len() >= MAX_QUEUED {
                if state.events.back().is_none_or(|l| l.mask != c::IN_Q_OVERFLOW) {
                    state.events.push_back(Event {
                        wd: -1,
                        mask: c::IN_Q_OVERFLOW,
                        cookie: 0,
                        name: Vec::new(),
                    });
                }
            } else {
                state.events.push_back(event);
            }
        }
        self.queue.wake(Events::IN | Events::RDNORM);
    }

    /// inotify_add_watch(2), the path resolved.
    ///
    /// # Errors
    /// EEXIST with IN_MASK_CREATE, ENOSPC, EINVAL.
    pub fn add(&self, inode: &Arc<dyn Inode>, mask: u32) -> Result<i32> {
        if mask & (c::IN_ALL_EVENTS | c::IN_ONESHOT) == 0
            || mask & c::IN_MASK_ADD != 0 && mask & c::IN_MASK_CREATE != 0
        {
            return Err(Errno::EINVAL);
        }
        let kinds = mask & (c::IN_ALL_EVENTS | c::IN_ONESHOT);
        let extra = inode.extra().ok_or(Errno::ENOSPC)?;
        // What has happened before is not for this watch.
        outside::pull();
        let mark = {
            let mut state = self.state.lock();
            if let Some((wd, found)) = state.watches.iter().find(|(_, w)| same_inode(&w.inode, inode)) {
                if mask & c::IN_MASK_CREATE != 0 {
                    return Err(Errno::EEXIST);
                }
                if mask & c::IN_MASK_ADD != 0 {
                    found.mark.mask.fetch_or(kinds, Ordering::Relaxed);
                } else {
                    found.mark.mask.store(kinds, Ordering::Relaxed);
                }
                let wd = *wd;
                drop(state);
                inode.watch(kinds & c::IN_ALL_EVENTS)?;
                return Ok(wd);
            }
            if WATCHES.fetch_add(1, Ordering::Relaxed) >= MAX_WATCHES {
                WATCHES.fetch_sub(1, Ordering::Relaxed);
                return Err(Errno::ENOSPC);
            }
            let wd = state.next;
            state.next = state.next.checked_add(1).unwrap_or(1);
            let mark = Arc::new(Mark { owner: self.me.clone(), wd, mask: AtomicU32::new(kinds) });
            state.watches.insert(wd, Watched { inode: inode.clone(), mark: mark.clone() });
            mark
        };
        let wd = mark.wd;
        extra.watches.add(mark);
        if let Err(e) = inode.watch(kinds & c::IN_ALL_EVENTS) {
            let gone = self.state.lock().watches.remove(&wd);
            if let Some(gone) = gone {
                Self::unmark(&gone);
            }
            return Err(e);
        }
        Ok(wd)
    }

    /// inotify_rm_watch(2).
    ///
    /// # Errors
    /// EINVAL where there is no such watch.
    pub fn remove(&self, wd: i32) -> Result<()> {
        let gone = self.state.lock().watches.remove(&wd).ok_or(Errno::EINVAL)?;
        Self::unmark(&gone);
        self.push(Event { wd, mask: c::IN_IGNORED, cookie: 0, name: Vec::new() });
        Ok(())
    }

    fn unmark(watched: &Watched) {
        WATCHES.fetch_sub(1, Ordering::Relaxed);
        if let Some(extra) = watched.inode.extra() {
            let mark: Arc<dyn Watch> = watched.mark.clone();
            extra.watches.remove(&mark);
            watched.inode.unwatch();
        }
    }

    fn take(&self, room: usize) -> Result<Vec<u8>> {
        let mut state = self.state.lock();
        let mut out = Vec::new();
        while let Some(event) = state.events.front() {
            if out.len() + event.size() > room {
                if out.is_empty() {
                    return Err(Errno::EINVAL);
                }
                break;
            }
            out.extend_from_slice(&event.bytes());
            state.events.pop_front();
        }
        if out.is_empty() { Err(Errno::EAGAIN) } else { Ok(out) }
    }
}

impl FileOps for Inotify {
    fn read(&self, file: &OpenFile, sink: &mut dyn Sink, _offset: u64) -> Result<usize> {
        let room = sink.remaining();
        outside::pull();
        let data = file.block_on(Events::IN, || self.take(room))?;
        sink.put(&data)
    }

    fn poll(&self, _file: &OpenFile) -> Events {
        outside::pull_here();
        if self.state.lock().events.is_empty() { Events::empty() } else { Events::IN | Events::RDNORM }
    }

    fn can_async(&self) -> bool {
        true
    }

    fn queues<'a>(&'a self, _file: &OpenFile, queues: &mut Queues<'a>) {
        queues.push(&self.queue);
    }

    fn ioctl(&self, task: &CurrentTask, _file: &OpenFile, request: u32, arg: u64) -> Result<u64> {
        if request != ioctl::FIONREAD {
            return Err(Errno::ENOTTY);
        }
        outside::pull();
        let bytes: usize = self.state.lock().events.iter().map(Event::size).sum();
        task.write_obj(arg, &i32::try_from(bytes).unwrap_or(i32::MAX))?;
        Ok(0)
    }

    fn release(&self, _file: &OpenFile) {
        let watches = core::mem::take(&mut self.state.lock().watches);
        for watched in watches.values() {
            Self::unmark(watched);
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl Drop for Inotify {
    fn drop(&mut self) {
        INSTANCES.fetch_sub(1, Ordering::Relaxed);
    }
}
