//! Mappings of files in shared directories.
//!
//! All mappings of one host file show the same frames, whatever name it was opened by, so that processes of the sandbox
//! see each other's stores at once. The host has the file in pages of its own: stores are written there byte by byte,
//! by comparing a page with what it was when it was first written to. That is done where somebody could tell (msync,
//! fsync, read, write, the last unmapping, the end of the sandbox) and every second; and what others changed meanwhile
//! is taken in at these times, too.

use super::{PAGE, WINDOW};
use crate::errno::{Errno, Result};
use crate::host::files::Handle;
use crate::kernel::{boot, wait};
use crate::mm::frames::FrameRef;
use crate::mm::object::{Mappable, Mappings, ObjectName};
use crate::sync::{Events, Mutex, SpinLock, WaitQueue};
use crate::time;
use abi::hostcall::FileStat;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::convert::Infallible;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use smallvec::SmallVec;

/// All pages.
const ALL: Range<u64> = 0..u64::MAX;
/// How often stores go to the host, ns.
const PERIOD: u64 = time::NS;
/// Bytes that are the same, between bytes that are not, that are rather written than stepped over.
const GAP: usize = 32;
/// Most bytes of one write.
const CHUNK: usize = 64 << 10;

/// Device and inode number on the host.
pub(super) type Key = (u64, u64);

/// The files that are mapped. One whose last mapping goes stays until its stores are written.
static FILES: SpinLock<BTreeMap<Key, Weak<HostPages>>> = SpinLock::new(BTreeMap::new());
/// Their number.
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// Those that may be written through a mapping.
static WRITTEN: AtomicUsize = AtomicUsize::new(0);
/// Woken when there is the first of these.
static WANTED: WaitQueue = WaitQueue::new();
static RUNNING: AtomicBool = AtomicBool::new(false);

/// A page that programs can write to.
struct Dirty {
    /// What the host has.
    base: FrameRef,
    /// Looks at it that found no store.
    quiet: u8,
}

#[derive(Default)]
struct Cache {
    pages: BTreeMap<u64, FrameRef>,
    dirty: BTreeMap<u64, Dirty>,
}

impl Cache {
    /// Notes what a page is before it is stored to, in `base`; `None` where it is not there. Under the lock of [`Io`]:
    /// who holds that may change pages that nobody stores to.
    fn will_be_written(&mut self, index: u64, base: FrameRef) -> Option<FrameRef> {
        let frame = self.pages.get(&index)?;
        let dirty = self.dirty.entry(index).or_insert_with(|| {
            base.copy_from(0, frame, 0, PAGE);
            Dirty { base, quiet: 0 }
        });
        dirty.quiet = 0;
        Some(frame.clone())
    }
}

/// What was known of the file when it was last compared.
struct Io {
    known: FileStat,
}

/// The pages of a mapped file.
pub(super) struct HostPages {
    key: Key,
    /// Device and inode number as the container sees them.
    shown: (u64, u64),
    reader: Arc<Handle>,
    /// Set where a shared mapping may write.
    writer: SpinLock<Option<Arc<Handle>>>,
    /// Held while frames and the host's file are brought together.
    io: Mutex<Io>,
    cache: SpinLock<Cache>,
    mappings: Mappings,
}

pub(super) fn key(stat: &FileStat) -> Key {
    (stat.dev, stat.ino)
}

/// The pages of a file, if it is mapped.
pub(super) fn find(key: impl FnOnce() -> Result<Key>) -> Option<Arc<HostPages>> {
    if COUNT.load(Ordering::Acquire) == 0 {
        return None;
    }
    let key = key().ok()?;
    loop {
        let found = FILES.lock().get(&key)?.upgrade();
        if found.is_some() {
            return found;
        }
        // Its stores are being written.
        wait::sleep_until(time::monotonic_ns() + 100_000);
    }
}

/// Writes the stores to all files. Where one fails, the program has been told or has not asked.
pub fn flush_all() {
    let files: Vec<Arc<HostPages>> = FILES.lock().values().filter_map(Weak::upgrade).collect();
    for file in files {
        let _ = file.write_back(ALL, false);
    }
}

/// The kernel task that writes stores every second.
fn serve() -> Infallible {
    loop {
        let wanted = || (WRITTEN.load(Ordering::SeqCst) != 0).then_some(());
        let _ = wait::wait_until(&[(&WANTED, Events::IN)], None, wanted);
        wait::sleep_until(time::monotonic_ns() + PERIOD);
        let files: Vec<Arc<HostPages>> = FILES.lock().values().filter_map(Weak::upgrade).collect();
        for file in files.iter().filter(|f| f.writer.lock().is_some()) {
            if let Err(e) = file.look() {
                crate::debug!("stores to a shared file were not written: {}", e.name());
            }
        }
    }
}

/// Where two pages differ; equal bytes up to `gap` in a row count as different.
fn runs<'a>(a: &'a [u8], b: &'a [u8], gap: usize) -> impl Iterator<Item = Range<usize>> + 'a {
    let mut at = 0;
    core::iter::from_fn(move || {
        let differ = |i: usize| a.get(i) != b.get(i);
        let len = a.len().min(b.len());
        // Equal stretches are the rule.
        while a.get(at..at + 64).is_some_and(|x| b.get(at..at + 64) == Some(x)) {
            at += 64;
        }
        let start = (at..len).find(|i| differ(*i))?;
        let mut end = start + 1;
        while let Some(next) = (end..len.min(end + gap + 1)).find(|i| differ(*i)) {
            end = next + 1;
        }
        at = end;
        Some(start..end)
    })
}

/// Joins neighbouring runs to one write.
struct Out<'a> {
    handle: &'a Handle,
    at: u64,
    bytes: Vec<u8>,
}

impl Out<'_> {
    fn put(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        if at != self.at + self.bytes.len() as u64 || self.bytes.len() + bytes.len() > CHUNK {
            self.finish()?;
            self.at = at;
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        let wrote = self.handle.write(self.at, &self.bytes)?;
        if wrote < self.bytes.len() {
            return Err(Errno::EIO);
        }
        self.bytes.clear();
        Ok(())
    }
}

impl HostPages {
    /// The pages of an open file; `writes`: a shared mapping may write through this description.
    pub(super) fn of(handle: &Arc<Handle>, shown: (u64, u64), writes: bool) -> Result<Arc<Self>> {
        let stat = handle.stat()?;
        let key = key(&stat);
        let pages = loop {
            if let Some(found) = find(|| Ok(key)) {
                found.refresh()?;
                break found;
            }
            let new = Arc::new(Self {
                key,
                shown,
                reader: handle.clone(),
                writer: SpinLock::new(None),
                io: Mutex::new(Io { known: stat }),
                cache: SpinLock::new(Cache::default()),
                mappings: Mappings::new(),
            });
            let mine = {
                let mut files = FILES.lock();
                core::ptr::eq(
                    files.entry(key).or_insert_with(|| Arc::downgrade(&new)).as_ptr(),
                    Arc::as_ptr(&new),
                )
            };
            if mine {
                COUNT.fetch_add(1, Ordering::Release);
                break new;
            }
            // Another was quicker.
        };
        if writes {
            pages.may_be_written(handle)?;
        }
        Ok(pages)
    }

    fn may_be_written(&self, handle: &Arc<Handle>) -> Result<()> {
        {
            let mut writer = self.writer.lock();
            if writer.is_some() {
                return Ok(());
            }
            *writer = Some(handle.clone());
        }
        WRITTEN.fetch_add(1, Ordering::SeqCst);
        if !RUNNING.swap(true, Ordering::SeqCst)
            && let Err(e) = boot::spawn_kernel(Box::new(|| match serve() {}))
        {
            RUNNING.store(false, Ordering::SeqCst);
            return Err(e);
        }
        WANTED.wake(Events::IN);
        Ok(())
    }

    /// Takes in what others have changed.
    pub(super) fn refresh(&self) -> Result<()> {
        self.refresh_locked(&mut self.io.lock())
    }

    fn refresh_locked(&self, io: &mut Io) -> Result<()> {
        let now = self.reader.stat()?;
        let old = core::mem::replace(&mut io.known, now);
        if (now.size, now.mtime, now.ctime) == (old.size, old.mtime, old.ctime) {
            return Ok(());
        }
        if now.size < old.size {
            self.cut(now.size);
        } else {
            self.forget_beyond(old.size);
        }
        self.merge(ALL)
    }

    /// The file has become shorter.
    fn cut(&self, size: u64) {
        let first = size.div_ceil(PAGE as u64);
        let gone = {
            let mut cache = self.cache.lock();
            (cache.pages.split_off(&first), cache.dirty.split_off(&first))
        };
        self.mappings.invalidate(first..u64::MAX);
        drop(gone);
        let (page, from) = (size / PAGE as u64, size as usize % PAGE);
        if from != 0 {
            let cache = self.cache.lock();
            let base = cache.dirty.get(&page).map(|d| &d.base);
            cache.pages.get(&page).into_iter().chain(base).for_each(|frame| frame.zero(from, PAGE - from));
        }
    }

    /// The file has become longer: what was stored behind its end is not part of it.
    fn forget_beyond(&self, size: u64) {
        let (page, from) = (size / PAGE as u64, size as usize % PAGE);
        let cache = self.cache.lock();
        if let (Some(frame), Some(dirty)) = (cache.pages.get(&page), cache.dirty.get(&page))
            && from != 0
        {
            frame.copy_from(from, &dirty.base, from, PAGE - from);
        }
    }

    /// Takes the host's bytes over where they are not what they were; stores elsewhere stay.
    fn merge(&self, range: Range<u64>) -> Result<()> {
        let work: Vec<(u64, FrameRef, Option<FrameRef>)> = {
            let cache = self.cache.lock();
            let base = |index: &u64| cache.dirty.get(index).map(|d| d.base.clone());
            cache.pages.range(range).map(|(index, frame)| (*index, frame.clone(), base(index))).collect()
        };
        let mut buffers = [(); 3].map(|()| alloc::vec![0; PAGE]);
        let [host, now, old] = &mut buffers;
        let mut rest = work.as_slice();
        while let Some((first, ..)) = rest.first() {
            let together = rest.iter().zip(*first..).take(WINDOW).take_while(|((i, ..), at)| i == at).count();
            let (part, tail) = rest.split_at(together);
            let frames: Vec<FrameRef> =
                part.iter().map(|_| FrameRef::alloc_zeroed()).collect::<Result<_>>()?;
            self.reader.read_frames(first * PAGE as u64, &frames)?;
            for ((_, frame, base), read) in part.iter().zip(&frames) {
                read.read(0, host);
                frame.read(0, now);
                if let Some(base) = base {
                    base.read(0, old);
                }
                let before: &[u8] = if base.is_some() { old } else { now };
                for run in runs(host, before, 0) {
                    let bytes = host.get(run.clone()).unwrap_or_default();
                    frame.write(run.start, bytes);
                    if let Some(base) = base {
                        base.write(run.start, bytes);
                    }
                }
            }
            rest = tail;
        }
        Ok(())
    }

    /// Writes stores to the host's file of `size` bytes; returns whether there were any.
    fn write_dirty(&self, range: Range<u64>, size: u64) -> Result<bool> {
        let Some(writer) = self.writer.lock().clone() else { return Ok(false) };
        let work: Vec<(u64, FrameRef, FrameRef)> = {
            let cache = self.cache.lock();
            let pair = |(index, dirty): (&u64, &Dirty)| {
                cache.pages.get(index).map(|frame| (*index, frame.clone(), dirty.base.clone()))
            };
            cache.dirty.range(range).filter_map(pair).collect()
        };
        let mut out = Out { handle: &writer, at: 0, bytes: Vec::with_capacity(CHUNK) };
        let mut buffers = [(); 2].map(|()| alloc::vec![0; PAGE]);
        let [now, old] = &mut buffers;
        let mut any = false;
        for (index, frame, base) in &work {
            let start = index * PAGE as u64;
            let within = size.saturating_sub(start).min(PAGE as u64) as usize;
            frame.read(0, now);
            base.read(0, old);
            let mut stored = false;
            let (now, old) = (now.get(..within).unwrap_or_default(), old.get(..within).unwrap_or_default());
            for run in runs(now, old, GAP) {
                stored = true;
                let bytes = now.get(run.clone()).unwrap_or_default();
                out.put(start + run.start as u64, bytes)?;
                base.write(run.start, bytes);
            }
            any |= stored;
            if let Some(dirty) = self.cache.lock().dirty.get_mut(index) {
                dirty.quiet = if stored { 0 } else { dirty.quiet.saturating_add(1) };
            }
        }
        out.finish()?;
        Ok(any)
    }

    fn flush_locked(&self, io: &mut Io, range: Range<u64>) -> Result<()> {
        if self.cache.lock().dirty.range(range.clone()).next().is_none() {
            return Ok(());
        }
        self.refresh_locked(io)?;
        if self.write_dirty(range, io.known.size)? {
            io.known = self.reader.stat()?;
        }
        Ok(())
    }

    /// Writes stores of some bytes of the file: they are about to be read.
    pub(super) fn flush(&self, offset: u64, len: u64) -> Result<()> {
        self.flush_locked(&mut self.io.lock(), pages_of(offset, len))
    }

    /// Changes the host's file at these bytes; mappings show it.
    pub(super) fn through<T>(&self, offset: u64, len: u64, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut io = self.io.lock();
        let range = pages_of(offset, len);
        self.flush_locked(&mut io, range.clone())?;
        self.refresh_locked(&mut io)?;
        let done = act()?;
        let (old, now) = (io.known.size, self.reader.stat()?);
        io.known = now;
        if now.size > old {
            self.forget_beyond(old);
        }
        self.merge(range)?;
        Ok(done)
    }

    /// The look of every second.
    fn look(&self) -> Result<()> {
        let mut io = self.io.lock();
        self.refresh_locked(&mut io)?;
        self.flush_locked(&mut io, ALL)?;
        // Pages that are not stored to any more are watched no longer: first they are unmapped, and when no processor can
        // have them any more, which shows in their references, they are pages like others.
        let mut idle: Vec<u64> = Vec::new();
        {
            let mut cache = self.cache.lock();
            let Cache { pages, dirty } = &mut *cache;
            let mut buffers = [(); 2].map(|()| [0u8; 256]);
            dirty.retain(|index, dirty| {
                let Some(frame) = pages.get(index) else { return false };
                if dirty.quiet == 1 {
                    idle.push(*index);
                }
                if dirty.quiet < 2 || frame.refs() != 1 {
                    return true;
                }
                let [now, old] = &mut buffers;
                (0..PAGE).step_by(now.len()).any(|at| {
                    frame.read(at, now);
                    dirty.base.read(at, old);
                    now != old
                })
            });
        }
        for index in idle {
            self.mappings.invalidate(index..index + 1);
        }
        Ok(())
    }

    /// Reads a page and those after it.
    fn read_in(&self, io: &mut Io, index: u64) -> Result<()> {
        self.refresh_locked(io)?;
        let last = io.known.size.div_ceil(PAGE as u64);
        if index >= last {
            return Err(Errno::EFAULT);
        }
        let count = (last - index).min(WINDOW as u64);
        let frames: Vec<FrameRef> = (0..count).map(|_| FrameRef::alloc_zeroed()).collect::<Result<_>>()?;
        self.reader.read_frames(index * PAGE as u64, &frames)?;
        let mut cache = self.cache.lock();
        for (at, frame) in (index..).zip(frames) {
            cache.pages.entry(at).or_insert(frame);
        }
        Ok(())
    }
}

fn pages_of(offset: u64, len: u64) -> Range<u64> {
    offset / PAGE as u64..offset.saturating_add(len).div_ceil(PAGE as u64)
}

impl Mappable for HostPages {
    fn frame(&self, index: u64, write: bool) -> Result<FrameRef> {
        let at_hand = || {
            let mut cache = self.cache.lock();
            let Cache { pages, dirty } = &mut *cache;
            let frame = pages.get(&index)?;
            if write {
                dirty.get_mut(&index)?.quiet = 0;
            }
            Some(frame.clone())
        };
        if let Some(frame) = at_hand() {
            return Ok(frame);
        }
        let mut io = self.io.lock();
        if !self.cache.lock().pages.contains_key(&index) {
            self.read_in(&mut io, index)?;
        }
        if write {
            let base = FrameRef::alloc_uninit()?;
            self.cache.lock().will_be_written(index, base).ok_or(Errno::EIO)?;
        }
        at_hand().ok_or(Errno::EIO)
    }

    fn frames_present(&self, index: u64, max: usize) -> SmallVec<[FrameRef; 16]> {
        let cache = self.cache.lock();
        let present = (index..).zip(cache.pages.range(index..)).take(max);
        present.take_while(|(next, (at, _))| next == *at).map(|(_, (_, frame))| frame.clone()).collect()
    }

    fn mappings(&self) -> &Mappings {
        &self.mappings
    }

    fn describe(&self) -> ObjectName {
        ObjectName { path: Vec::new(), dev: self.shown.0, ino: self.shown.1 }
    }

    fn tracks_writes(&self) -> bool {
        true
    }

    fn frames_to_write(&self, index: u64, max: usize) -> SmallVec<[FrameRef; 16]> {
        let mut out = SmallVec::new();
        // Stores that go on from page to page.
        let before = index.checked_sub(2).is_some_and(|at| self.cache.lock().dirty.contains_key(&at));
        let Some(_io) = self.io.try_lock().filter(|_| before) else { return out };
        for at in (index..).take(max) {
            let Ok(base) = FrameRef::alloc_uninit() else { break };
            let Some(frame) = self.cache.lock().will_be_written(at, base) else { break };
            out.push(frame);
        }
        out
    }

    fn write_back(&self, pages: Range<u64>, disk: bool) -> Result<()> {
        self.flush_locked(&mut self.io.lock(), pages)?;
        let writer = self.writer.lock().clone();
        match writer {
            Some(writer) if disk => writer.sync(),
            _ => Ok(()),
        }
    }
}

impl Drop for HostPages {
    /// The last mapping is gone. Under the lock of an address space, so no other is looked at.
    fn drop(&mut self) {
        if self.writer.get_mut().is_some() {
            if let Ok(stat) = self.reader.stat()
                && let Err(e) = self.write_dirty(ALL, stat.size)
            {
                crate::debug!("stores to a shared file were not written: {}", e.name());
            }
            WRITTEN.fetch_sub(1, Ordering::SeqCst);
        }
        let mut files = FILES.lock();
        if files.get(&self.key).is_some_and(|f| core::ptr::eq(f.as_ptr(), self)) {
            files.remove(&self.key);
            COUNT.fetch_sub(1, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_where_bytes_differ() {
        let (a, mut b) = ([7u8; 200], [7u8; 200]);
        for at in [0, 3, 70, 71, 110, 199] {
            b[at] = 0;
        }
        assert_eq!(runs(&a, &b, 0).collect::<Vec<_>>(), [0..1, 3..4, 70..72, 110..111, 199..200]);
        assert_eq!(runs(&a, &b, 32).collect::<Vec<_>>(), [0..4, 70..72, 110..111, 199..200]);
        assert_eq!(runs(&a, &b, 40).collect::<Vec<_>>(), [0..4, 70..111, 199..200]);
        assert_eq!(runs(&a, &a, 8).count(), 0);
    }
}
