//! Contents of regular files: pages in memory, over the pages of a lower file.

use super::Account;
use crate::errno::{Errno, Result};
use crate::fs::lower::LowerFile;
use crate::mm::frames::{FrameRef, image};
use crate::mm::io::{Sink, Source};
use crate::mm::object::Mappings;
use crate::sync::{Mutex, SpinLock};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use smallvec::SmallVec;

const PAGE: u64 = abi::PAGE_SIZE;
const PAGE_USIZE: usize = PAGE as usize;
/// Pages read ahead of sequential access.
const WINDOW: u64 = 64;
/// Pages read around random access, from a multiple of this on. Asking the host costs as much as the copy of some
/// thirty pages, and programs start by touching most of their code, in no order.
const AROUND: u64 = 32;
/// Largest file.
pub const MAX_SIZE: u64 = i64::MAX as u64;

struct Page {
    frame: FrameRef,
    /// Differs from the lower file, and is charged.
    dirty: bool,
}

#[derive(Default)]
struct Pages {
    map: BTreeMap<u64, Page>,
    dirty: u64,
}

/// Opens the lower file when it is first read.
pub type OpenLower<'a> = dyn Fn() -> Result<Arc<dyn LowerFile>> + 'a;

/// The contents of a file.
pub struct Data {
    size: AtomicU64,
    /// Bytes of the lower file that still show where no page hides them.
    valid: AtomicU64,
    pages: SpinLock<Pages>,
    lower: Mutex<Option<Arc<dyn LowerFile>>>,
    /// The lower file, where its pages are memory that can be shown as it is; and its length.
    shown: Option<(Arc<dyn LowerFile>, u64)>,
    /// Where sequential reading of the lower file would go on.
    next_fill: AtomicU64,
    /// Serialises writers and changes of the length.
    writers: Mutex<()>,
    /// Mappings of the file.
    pub mappings: Mappings,
    account: Arc<Account>,
}

/// Where a page's bytes are.
enum Found {
    Frame(FrameRef),
    Hole,
    Lower,
}

impl Data {
    /// An empty file, or one over `lower_size` bytes of a lower file.
    pub fn new(account: Arc<Account>, lower_size: u64) -> Self {
        Self {
            size: AtomicU64::new(lower_size),
            valid: AtomicU64::new(lower_size),
            pages: SpinLock::new(Pages::default()),
            lower: Mutex::new(None),
            shown: None,
            next_fill: AtomicU64::new(0),
            writers: Mutex::new(()),
            mappings: Mappings::new(),
            account,
        }
    }

    /// A file over a lower one of `size` bytes whose pages are memory.
    pub fn showing(account: Arc<Account>, file: Arc<dyn LowerFile>, size: u64) -> Self {
        let mut data = Self::new(account, size);
        data.shown = Some((file, size));
        data
    }

    /// Frames of the lower file from a page on, up to `max`, where nothing hides them and they can be shown as they are.
    /// They are nobody's to write.
    fn shown(&self, index: u64, max: usize) -> SmallVec<[FrameRef; 16]> {
        let Some((file, size)) = &self.shown else { return SmallVec::new() };
        let valid = self.valid.load(Ordering::Relaxed);
        // A page that was cut is a page of this file's own.
        let pages = if valid == *size { valid.div_ceil(PAGE) } else { valid / PAGE };
        let max = pages.saturating_sub(index).min(max as u64) as usize;
        if max == 0 {
            return SmallVec::new();
        }
        let hidden = {
            let pages = self.pages.lock();
            pages.map.range(index..index + max as u64).next().map(|(at, _)| *at)
        };
        file.frames(index, hidden.map_or(max, |at| (at - index) as usize))
    }

    /// Length in bytes.
    #[inline]
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Pages that are charged.
    pub fn dirty_pages(&self) -> u64 {
        self.pages.lock().dirty
    }

    fn find(&self, index: u64) -> Found {
        let pages = self.pages.lock();
        match pages.map.get(&index) {
            Some(page) => Found::Frame(page.frame.clone()),
            None if index * PAGE < self.valid.load(Ordering::Relaxed) => Found::Lower,
            None => Found::Hole,
        }
    }

    /// Reads pages of the lower file from `index` on into the cache.
    #[cold]
    fn fill(&self, index: u64, open: &OpenLower<'_>) -> Result<()> {
        let mut lower = self.lower.lock();
        if !matches!(self.find(index), Found::Lower) {
            return Ok(());
        }
        let file = match &*lower {
            Some(file) => file.clone(),
            None => lower.insert(open()?).clone(),
        };
        let valid = self.valid.load(Ordering::Relaxed);
        let sequential = index == 0 || self.next_fill.load(Ordering::Relaxed) == index;
        let last = valid.div_ceil(PAGE);
        if index >= last {
            // Cut off meanwhile: the caller looks again, and finds a hole.
            return Ok(());
        }
        let (low, limit) = match sequential {
            true => (index, index + WINDOW),
            false => (index - index % AROUND, index - index % AROUND + AROUND),
        };
        let limit = limit.min(last);
        let (mut start, end) = {
            let pages = self.pages.lock();
            let start = pages.map.range(low..index).next_back().map_or(low, |(at, _)| *at + 1);
            (start, pages.map.range(index..limit).next().map_or(limit, |(at, _)| *at))
        };
        let mut frames: Vec<FrameRef> = Vec::with_capacity((end - start) as usize);
        while frames.len() < (end - start) as usize {
            match FrameRef::alloc_uninit() {
                Ok(frame) => frames.push(frame),
                Err(e) if frames.is_empty() => return Err(e),
                Err(_) => {
                    // What was asked for before what lies around it.
                    start = index;
                    frames.truncate((end - start) as usize);
                    break;
                }
            }
        }
        let done = file.read_pages(start, &frames)? as u64;
        self.next_fill.store(start + frames.len() as u64, Ordering::Relaxed);
        let mut pages = self.pages.lock();
        let valid = self.valid.load(Ordering::Relaxed);
        for (at, frame) in (start..).zip(frames) {
            // What was cut off meanwhile, or never came, reads as zeros.
            let have = (start * PAGE + done).min(valid).saturating_sub(at * PAGE).min(PAGE) as usize;
            if at * PAGE >= valid {
                break;
            }
            frame.zero(have, PAGE_USIZE - have);
            pages.map.entry(at).or_insert(Page { frame, dirty: false });
        }
        // A file that is whole in memory needs no open host file any more.
        let complete = pages.map.len() as u64 >= valid.div_ceil(PAGE);
        drop(pages);
        if complete {
            *lower = None;
        }
        Ok(())
    }

    /// Reads into a sink.
    ///
    /// # Errors
    /// EFAULT, EIO, ENOMEM.
    pub fn read(&self, sink: &mut dyn Sink, offset: u64, open: &OpenLower<'_>) -> Result<usize> {
        let mut done = 0;
        let mut at = offset;
        loop {
            let size = self.size();
            let want = (sink.remaining() as u64).min(size.saturating_sub(at));
            if want == 0 {
                return Ok(done);
            }
            let mut batch = self.batch(at, want);
            if batch.is_empty() {
                let pages = ((at + want - 1) / PAGE - at / PAGE + 1).min(16) as usize;
                batch.extend(self.shown(at / PAGE, pages).into_iter().map(Some));
            }
            if batch.is_empty() {
                match self.fill(at / PAGE, open) {
                    Ok(()) => continue,
                    Err(e) if done == 0 => return Err(e),
                    Err(_) => return Ok(done),
                }
            }
            let cuts = image::cuts();
            let mut left = want as usize;
            for frame in &batch {
                let within = (at % PAGE) as usize;
                let len = (PAGE_USIZE - within).min(left);
                let put = match frame {
                    Some(frame) => sink.put_frame(frame, within, len),
                    None => sink.put_zeros(len),
                };
                match put {
                    Ok(n) => {
                        done += n;
                        at += n as u64;
                        left -= n;
                        if n < len {
                            return Ok(done);
                        }
                    }
                    Err(e) if done == 0 => return Err(e),
                    Err(_) => return Ok(done),
                }
            }
            if image::cuts() != cuts && self.shown.is_some() {
                // Some of it may be zeros that the image does not have.
                image::check();
                return Err(Errno::EIO);
            }
        }
    }

    /// Up to 16 pages from an offset on; `None` is a hole. Ends before a page that must be read from below.
    fn batch(&self, at: u64, want: u64) -> SmallVec<[Option<FrameRef>; 16]> {
        let first = at / PAGE;
        let last = ((at + want - 1) / PAGE).min(first + 15);
        let mut out = SmallVec::new();
        let pages = self.pages.lock();
        let valid = self.valid.load(Ordering::Relaxed);
        if first == last {
            match pages.map.get(&first) {
                Some(page) => out.push(Some(page.frame.clone())),
                None if first * PAGE < valid => {}
                None => out.push(None),
            }
            return out;
        }
        let mut next = first;
        for (index, page) in pages.map.range(first..=last) {
            while next < *index {
                if next * PAGE < valid {
                    return out;
                }
                out.push(None);
                next += 1;
            }
            out.push(Some(page.frame.clone()));
            next = index + 1;
        }
        while next <= last && next * PAGE >= valid {
            out.push(None);
            next += 1;
        }
        out
    }

    /// A page that is about to be written, charged. `whole`: all of it will be overwritten.
    fn page_for_write(&self, index: u64, whole: bool, open: &OpenLower<'_>) -> Result<FrameRef> {
        loop {
            {
                let mut pages = self.pages.lock();
                if let Some(page) = pages.map.get_mut(&index) {
                    let frame = page.frame.clone();
                    if !page.dirty {
                        self.account.charge(1)?;
                        page.dirty = true;
                        pages.dirty += 1;
                    }
                    return Ok(frame);
                }
            }
            let below = self.shown(index, 1).into_iter().next();
            if below.is_none() && index * PAGE < self.valid.load(Ordering::Relaxed) && !whole {
                self.fill(index, open)?;
                continue;
            }
            self.account.charge(1)?;
            let new = match &below {
                Some(_) => FrameRef::alloc_uninit(),
                None => FrameRef::alloc_zeroed(),
            };
            let frame = match new {
                Ok(frame) => frame,
                Err(_) => {
                    self.account.uncharge(1);
                    return Err(Errno::ENOSPC);
                }
            };
            if let Some(below) = &below
                && let Err(e) = image::copying(|| frame.copy_from(0, below, 0, PAGE_USIZE))
            {
                self.account.uncharge(1);
                return Err(e);
            }
            let mut pages = self.pages.lock();
            if pages.map.contains_key(&index) {
                drop(pages);
                self.account.uncharge(1);
                continue;
            }
            pages.map.insert(index, Page { frame: frame.clone(), dirty: true });
            pages.dirty += 1;
            drop(pages);
            if below.is_some() {
                // Who has the lower page mapped sees this one from now on.
                self.mappings.replaced(index..index + 1);
            }
            return Ok(frame);
        }
    }

    /// Writes from a source; `None` as offset at the end. Returns the count and the offset after it. `check` is
    /// asked with the lock held: whether the file may grow to, or be written at, this length.
    ///
    /// # Errors
    /// EFAULT, ENOSPC, EFBIG, EPERM of seals.
    pub fn write(
        &self,
        source: &mut dyn Source,
        offset: Option<u64>,
        open: &OpenLower<'_>,
        check: &dyn Fn(u64) -> Result<()>,
    ) -> Result<(usize, u64)> {
        let _writer = self.writers.lock();
        let start = offset.unwrap_or_else(|| self.size());
        let mut at = start;
        let len = source.remaining() as u64;
        if start.checked_add(len).is_none_or(|end| end > MAX_SIZE) {
            return Err(Errno::EFBIG);
        }
        check(start + len)?;
        let mut failure = None;
        while source.remaining() > 0 {
            let within = (at % PAGE) as usize;
            let chunk = (PAGE_USIZE - within).min(source.remaining());
            let index = at / PAGE;
            let frame = match self.page_for_write(index, chunk == PAGE_USIZE, open) {
                Ok(frame) => frame,
                Err(e) => {
                    failure = Some(e);
                    break;
                }
            };
            match source.take_to_frame(&frame, within, chunk) {
                Ok(0) => break,
                Ok(n) => {
                    at += n as u64;
                    self.size.fetch_max(at, Ordering::AcqRel);
                    if n < chunk {
                        break;
                    }
                }
                Err(e) => {
                    failure = Some(e);
                    break;
                }
            }
        }
        let done = (at - start) as usize;
        match failure {
            Some(e) if done == 0 => Err(e),
            _ => Ok((done, at)),
        }
    }

    /// Sets the length. `check` as in [`Data::write`].
    ///
    /// # Errors
    /// EFBIG, EPERM of seals.
    pub fn truncate(&self, size: u64, open: &OpenLower<'_>, check: &dyn Fn(u64) -> Result<()>) -> Result<()> {
        if size > MAX_SIZE {
            return Err(Errno::EFBIG);
        }
        let _writer = self.writers.lock();
        check(size)?;
        let old = self.size();
        if size < old && !size.is_multiple_of(PAGE) && !self.shown(size / PAGE, 1).is_empty() {
            // A part of the page becomes zeros.
            self.page_for_write(size / PAGE, false, open)?;
        }
        self.size.store(size, Ordering::Release);
        if size >= old {
            return Ok(());
        }
        self.discard(size, u64::MAX, true);
        Ok(())
    }

    /// Takes the pages of a byte range away; parts of pages are zeroed. `cut`: the lower file ends there too.
    fn discard(&self, start: u64, end: u64, cut: bool) {
        let first = start.div_ceil(PAGE);
        let last = end / PAGE;
        {
            let pages = self.pages.lock();
            if cut {
                self.valid.fetch_min(start, Ordering::Relaxed);
            }
            if !start.is_multiple_of(PAGE) {
                let stop = end.min((start / PAGE + 1) * PAGE);
                if let Some(page) = pages.map.get(&(start / PAGE)) {
                    page.frame.zero((start % PAGE) as usize, (stop - start) as usize);
                }
            }
            if end < u64::MAX / 2
                && !end.is_multiple_of(PAGE)
                && end / PAGE >= first
                && let Some(page) = pages.map.get(&(end / PAGE))
            {
                page.frame.zero(0, (end % PAGE) as usize);
            }
        }
        if first < last {
            while self.take_some(first..last) {}
            self.mappings.invalidate(first..last);
        }
    }

    /// Takes some pages of a range away, few enough that nobody waits long for the lock; `false` when none is left.
    fn take_some(&self, range: Range<u64>) -> bool {
        const SOME: usize = 64;
        let gone: SmallVec<[Page; SOME]> = {
            let mut pages = self.pages.lock();
            let gone: SmallVec<[Page; SOME]> =
                pages.map.extract_if(range, |_, _| true).take(SOME).map(|entry| entry.1).collect();
            let freed = gone.iter().filter(|p| p.dirty).count() as u64;
            pages.dirty -= freed;
            self.account.uncharge(freed);
            gone
        };
        gone.len() == SOME
    }

    /// fallocate(2).
    ///
    /// # Errors
    /// EOPNOTSUPP, EINVAL, ENOSPC, EFBIG, EPERM of seals.
    pub fn fallocate(
        &self,
        mode: u32,
        offset: u64,
        len: u64,
        open: &OpenLower<'_>,
        check: &dyn Fn(u64) -> Result<()>,
    ) -> Result<()> {
        use linux_raw_sys::general as c;
        let end = offset.checked_add(len).filter(|e| *e <= MAX_SIZE).ok_or(Errno::EFBIG)?;
        let keep = mode & c::FALLOC_FL_KEEP_SIZE != 0;
        let _writer = self.writers.lock();
        match mode & !c::FALLOC_FL_KEEP_SIZE {
            0 => {
                if !keep {
                    check(end)?;
                }
                for index in offset / PAGE..end.div_ceil(PAGE) {
                    self.page_for_write(index, false, open)?;
                }
                if !keep {
                    self.size.fetch_max(end, Ordering::AcqRel);
                }
                Ok(())
            }
            c::FALLOC_FL_PUNCH_HOLE if keep => {
                check(self.size())?;
                self.punch(offset, end.min(self.size().next_multiple_of(PAGE)), open)
            }
            c::FALLOC_FL_ZERO_RANGE => {
                if !keep {
                    check(end)?;
                }
                self.punch(offset, end, open)?;
                if !keep {
                    self.size.fetch_max(end, Ordering::AcqRel);
                }
                Ok(())
            }
            _ => Err(Errno::EOPNOTSUPP),
        }
    }

    fn punch(&self, start: u64, end: u64, open: &OpenLower<'_>) -> Result<()> {
        // Where the lower file would show through, zeros must hide it.
        let valid = self.valid.load(Ordering::Relaxed);
        let stop = end.min(valid);
        let mut at = start;
        while at < stop {
            let next = ((at / PAGE + 1) * PAGE).min(end);
            let frame = self.page_for_write(at / PAGE, next - at == PAGE, open)?;
            frame.zero((at % PAGE) as usize, (next - at) as usize);
            at = next;
        }
        if at < end {
            self.discard(at, end, false);
        }
        Ok(())
    }

    /// SEEK_DATA and SEEK_HOLE of lseek(2).
    ///
    /// # Errors
    /// ENXIO beyond the end, or where no data follows.
    pub fn seek(&self, offset: u64, hole: bool) -> Result<u64> {
        let size = self.size();
        if offset >= size {
            return Err(Errno::ENXIO);
        }
        let pages = self.pages.lock();
        let lower_end = self.valid.load(Ordering::Relaxed).div_ceil(PAGE);
        let mut index = offset / PAGE;
        if hole {
            index = index.max(lower_end);
            for (at, _) in pages.map.range(index..) {
                if *at != index {
                    break;
                }
                index += 1;
            }
            return Ok((index * PAGE).clamp(offset, size));
        }
        if index < lower_end {
            return Ok(offset);
        }
        match pages.map.range(index..).next() {
            Some((at, _)) if at * PAGE < size => Ok((at * PAGE).max(offset)),
            _ => Err(Errno::ENXIO),
        }
    }

    /// The frame of a page, for mappings.
    ///
    /// # Errors
    /// EFAULT beyond the end; EIO, ENOSPC.
    pub fn frame(&self, index: u64, write: bool, open: &OpenLower<'_>) -> Result<FrameRef> {
        loop {
            if index >= self.size().div_ceil(PAGE) {
                return Err(Errno::EFAULT);
            }
            if write {
                return self.page_for_write(index, false, open);
            }
            match self.find(index) {
                Found::Frame(frame) => return Ok(frame),
                Found::Lower => match self.shown(index, 1).into_iter().next() {
                    Some(frame) => return Ok(frame),
                    None => self.fill(index, open)?,
                },
                // A page that is mapped must be the one that is written later.
                Found::Hole => return self.page_for_write(index, false, open),
            }
        }
    }

    /// Frames that are there from a page on.
    pub fn present(&self, index: u64, max: usize) -> SmallVec<[FrameRef; 16]> {
        let limit = self.size().div_ceil(PAGE);
        let mut out = SmallVec::new();
        loop {
            let next = index + out.len() as u64;
            let left = (max - out.len()).min(limit.saturating_sub(next) as usize);
            if left == 0 {
                return out;
            }
            let before = out.len();
            {
                let pages = self.pages.lock();
                for (next, (at, page)) in (next..).zip(pages.map.range(next..)).take(left) {
                    if *at != next {
                        break;
                    }
                    out.push(page.frame.clone());
                }
            }
            if out.len() == before {
                out.extend(self.shown(next, left));
            }
            if out.len() == before {
                return out;
            }
        }
    }

    /// Gives back clean pages that nobody maps; returns their number. Neither waits nor allocates: it is called when
    /// memory runs out, perhaps with this file locked.
    pub fn shrink(&self) -> usize {
        let mut total = 0;
        loop {
            let gone: SmallVec<[Page; 32]> = {
                let Some(mut pages) = self.pages.try_lock() else { return total };
                pages
                    .map
                    .extract_if(.., |_, p| !p.dirty && p.frame.refs() == 1)
                    .take(32)
                    .map(|e| e.1)
                    .collect()
            };
            total += gone.len();
            if gone.len() < 32 {
                return total;
            }
        }
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        let dirty = self.pages.get_mut().dirty;
        self.account.uncharge(dirty);
    }
}
