//! epoll(7).

use crate::errno::{Errno, Result};
use crate::kernel::wait;
use crate::sync::{EntryId, Events, Mutex, SpinLock, WaitQueue, Wake};
use crate::vfs::anon;
use crate::vfs::epoll_link::EpollLink;
use crate::vfs::file::{FileOps, OpenFile, Queues};
use crate::vfs::uapi::EpollEvent;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use linux_raw_sys::general as c;
use smallvec::SmallVec;

/// Most watches in the sandbox, /proc/sys/fs/epoll/max_user_watches.
pub const MAX_WATCHES: usize = 1 << 20;
/// Deepest nesting of epoll instances.
const MAX_DEPTH: usize = 5;
/// Events that EPOLLEXCLUSIVE may be combined with.
const EXCLUSIVE_OK: u32 =
    c::EPOLLIN | c::EPOLLOUT | c::EPOLLERR | c::EPOLLHUP | c::EPOLLWAKEUP | c::EPOLLET | c::EPOLLEXCLUSIVE;

static WATCHES: AtomicUsize = AtomicUsize::new(0);
/// Serialises additions of epoll instances to others, so that no circle comes to be.
static NESTING: Mutex<()> = Mutex::new(());

struct ItemState {
    events: u32,
    data: u64,
    /// EPOLLONESHOT has fired.
    disabled: bool,
    entries: SmallVec<[EntryId; 2]>,
}

/// A watched description.
struct Item {
    epoll: Weak<Epoll>,
    key: (i32, u64),
    file: Weak<OpenFile>,
    state: SpinLock<ItemState>,
    queued: AtomicBool,
    me: Weak<Item>,
}

/// An epoll instance.
pub struct Epoll {
    items: SpinLock<BTreeMap<(i32, u64), Arc<Item>>>,
    ready: SpinLock<VecDeque<Arc<Item>>>,
    queue: WaitQueue,
    me: Weak<Epoll>,
}

impl Item {
    /// Events that are there now and are wished for.
    fn ready(&self, file: &OpenFile) -> u32 {
        let (wished, disabled) = {
            let state = self.state.lock();
            (state.events, state.disabled)
        };
        if disabled { 0 } else { file.poll().bits() & (wished | c::EPOLLERR | c::EPOLLHUP) }
    }

    fn queue(&self) {
        let (Some(epoll), Some(me)) = (self.epoll.upgrade(), self.me.upgrade()) else { return };
        if !self.queued.swap(true, Ordering::AcqRel) {
            epoll.ready.lock().push_back(me);
        }
        epoll.queue.wake(Events::IN | Events::RDNORM);
    }

    fn enlist(self: &Arc<Self>, file: &OpenFile, events: u32) {
        let interest = Events::from_bits_truncate(events);
        let exclusive = events & c::EPOLLEXCLUSIVE != 0;
        let ids = file.queues().iter().map(|q| q.add(self.clone(), interest, exclusive)).collect();
        self.state.lock().entries = ids;
    }

    fn leave(&self, file: &OpenFile) {
        let ids = core::mem::take(&mut self.state.lock().entries);
        for (queue, id) in file.queues().iter().zip(ids) {
            queue.remove(id);
        }
    }
}

impl Wake for Item {
    fn wake(&self, _events: Events) {
        if !self.state.lock().disabled {
            self.queue();
        }
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        WATCHES.fetch_sub(1, Ordering::Relaxed);
    }
}

impl EpollLink for Item {
    fn file_closed(&self, file: &OpenFile) {
        self.leave(file);
        if let Some(epoll) = self.epoll.upgrade() {
            let gone = epoll.items.lock().remove(&self.key);
            epoll.unqueue(self);
            drop(gone);
        }
    }
}

/// A new instance; `flags` for the description.
pub fn new(flags: u32) -> Arc<OpenFile> {
    let epoll = Arc::new_cyclic(|me| Epoll {
        items: SpinLock::new(BTreeMap::new()),
        ready: SpinLock::new(VecDeque::new()),
        queue: WaitQueue::new(),
        me: me.clone(),
    });
    anon::file("eventpoll", epoll, c::O_RDWR | flags)
}

impl Epoll {
    fn unqueue(&self, item: &Item) {
        let mut gone: SmallVec<[Arc<Item>; 1]> = SmallVec::new();
        {
            let mut ready = self.ready.lock();
            if let Some(at) = ready.iter().position(|i| core::ptr::eq(&**i, item)) {
                gone.extend(ready.remove(at));
            }
        }
        drop(gone);
    }

    /// How deep instances are nested below this one; `None` where `target` is among them.
    fn depth(&self, target: &Epoll, level: usize) -> Option<usize> {
        if core::ptr::eq(self, target) || level > MAX_DEPTH {
            return None;
        }
        let files: Vec<Arc<OpenFile>> = self.items.lock().values().filter_map(|i| i.file.upgrade()).collect();
        let mut deepest = 0;
        for file in files {
            if let Some(inner) = file.downcast::<Epoll>() {
                deepest = deepest.max(1 + inner.depth(target, level + 1)?);
            }
        }
        Some(deepest)
    }

    /// EPOLL_CTL_ADD.
    ///
    /// # Errors
    /// EEXIST, EPERM, ELOOP, ENOSPC, EINVAL.
    pub fn add(&self, fd: i32, file: &Arc<OpenFile>, event: &EpollEvent) -> Result<()> {
        if !file.ops().can_epoll() {
            return Err(Errno::EPERM);
        }
        let events = event.events;
        let nested = file.downcast::<Epoll>();
        if events & c::EPOLLEXCLUSIVE != 0 && (events & !EXCLUSIVE_OK != 0 || nested.is_some()) {
            return Err(Errno::EINVAL);
        }
        let _nesting = nested.is_some().then(|| NESTING.lock());
        if let Some(inner) = nested {
            let below = inner.depth(self, 0).ok_or(Errno::ELOOP)?;
            if below + 1 > MAX_DEPTH {
                return Err(Errno::ELOOP);
            }
        }
        if WATCHES.fetch_add(1, Ordering::Relaxed) >= MAX_WATCHES {
            WATCHES.fetch_sub(1, Ordering::Relaxed);
            return Err(Errno::ENOSPC);
        }
        let key = (fd, file.id);
        let item = Arc::new_cyclic(|me| Item {
            epoll: self.me.clone(),
            key,
            file: Arc::downgrade(file),
            state: SpinLock::new(ItemState {
                events,
                data: event.data,
                disabled: false,
                entries: SmallVec::new(),
            }),
            queued: AtomicBool::new(false),
            me: me.clone(),
        });
        {
            let mut items = self.items.lock();
            if items.contains_key(&key) {
                drop(items);
                return Err(Errno::EEXIST);
            }
            items.insert(key, item.clone());
        }
        let link: Arc<dyn EpollLink> = item.clone();
        file.epolls.add(link);
        item.enlist(file, events);
        if item.ready(file) != 0 {
            item.queue();
        }
        Ok(())
    }

    /// EPOLL_CTL_MOD.
    ///
    /// # Errors
    /// ENOENT, EINVAL.
    pub fn modify(&self, fd: i32, file: &Arc<OpenFile>, event: &EpollEvent) -> Result<()> {
        let item = self.items.lock().get(&(fd, file.id)).cloned().ok_or(Errno::ENOENT)?;
        let events = event.events;
        if events & c::EPOLLEXCLUSIVE != 0 || item.state.lock().events & c::EPOLLEXCLUSIVE != 0 {
            return Err(Errno::EINVAL);
        }
        item.leave(file);
        {
            let mut state = item.state.lock();
            state.events = events;
            state.data = event.data;
            state.disabled = false;
        }
        item.enlist(file, events);
        if item.ready(file) != 0 {
            item.queue();
        }
        Ok(())
    }

    /// EPOLL_CTL_DEL.
    ///
    /// # Errors
    /// ENOENT.
    pub fn delete(&self, fd: i32, file: &Arc<OpenFile>) -> Result<()> {
        let item = self.items.lock().remove(&(fd, file.id)).ok_or(Errno::ENOENT)?;
        item.leave(file);
        let link: Arc<dyn EpollLink> = item.clone();
        file.epolls.remove(&link);
        self.unqueue(&item);
        Ok(())
    }

    /// Takes up to `max` events that are there now.
    fn collect(&self, max: usize) -> Vec<EpollEvent> {
        let mut out = Vec::new();
        let mut again: Vec<Arc<Item>> = Vec::new();
        let mut left = self.ready.lock().len();
        while out.len() < max && left > 0 {
            left -= 1;
            // Fewer than there are is a true answer too; the others stay where they are.
            if out.try_reserve(1).is_err() || again.try_reserve(1).is_err() {
                break;
            }
            let Some(item) = self.ready.lock().pop_front() else { break };
            item.queued.store(false, Ordering::Release);
            let Some(file) = item.file.upgrade() else { continue };
            let events = item.ready(&file);
            if events == 0 {
                continue;
            }
            let mut state = item.state.lock();
            out.push(EpollEvent { events, data: state.data });
            if state.events & c::EPOLLONESHOT != 0 {
                state.disabled = true;
            } else if state.events & c::EPOLLET == 0 {
                drop(state);
                again.push(item);
            }
        }
        // Level-triggered: looked at again by the next call, behind the others.
        for item in again {
            if !item.queued.swap(true, Ordering::AcqRel) {
                self.ready.lock().push_back(item);
            }
        }
        out
    }

    /// Waits for events, epoll_wait(2). `deadline`: CLOCK_MONOTONIC ns; `None` forever.
    ///
    /// # Errors
    /// EINTR.
    pub fn wait(&self, max: usize, deadline: Option<u64>) -> Result<Vec<EpollEvent>> {
        let attempt = || {
            let events = self.collect(max);
            (!events.is_empty()).then_some(events)
        };
        if let Some(events) = attempt() {
            return Ok(events);
        }
        if deadline == Some(0) {
            return Ok(Vec::new());
        }
        match wait::wait_exclusive(&[(&self.queue, Events::IN)], deadline, attempt) {
            Ok(events) => Ok(events),
            Err(wait::WaitError::TimedOut) => Ok(Vec::new()),
            Err(wait::WaitError::Interrupted) => Err(Errno::EINTR),
        }
    }
}

impl FileOps for Epoll {
    fn poll(&self, _file: &OpenFile) -> Events {
        let items: Vec<Arc<Item>> = self.ready.lock().iter().cloned().collect();
        let any = items.iter().any(|i| i.file.upgrade().is_some_and(|f| i.ready(&f) != 0));
        if any { Events::IN | Events::RDNORM } else { Events::empty() }
    }

    fn queues<'a>(&'a self, _file: &OpenFile, queues: &mut Queues<'a>) {
        queues.push(&self.queue);
    }

    fn release(&self, _file: &OpenFile) {
        let items = core::mem::take(&mut *self.items.lock());
        for item in items.into_values() {
            if let Some(file) = item.file.upgrade() {
                item.leave(&file);
                let link: Arc<dyn EpollLink> = item.clone();
                file.epolls.remove(&link);
            }
        }
        let ready = core::mem::take(&mut *self.ready.lock());
        drop(ready);
    }

    fn fdinfo(&self, out: &mut Vec<u8>) {
        for item in self.items.lock().values() {
            let state = item.state.lock();
            let line = alloc::format!(
                "tfd: {:8} events: {:8x} data: {:16x}\n",
                item.key.0,
                state.events,
                state.data
            );
            out.extend_from_slice(line.as_bytes());
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
