//! Access to the memory of programs: through their page tables and the map of guest memory, never by dereferencing
//! their addresses.

use super::fault::{AccessKind, FaultError};
use super::frames::FrameRef;
use super::io::{Sink, Source};
use super::space::Mm;
use crate::errno::{Errno, Result};
use crate::kernel::oom;
use abi::PAGE_SIZE;
use alloc::sync::Arc;
use alloc::vec::Vec;
use smallvec::SmallVec;

const PAGE: u64 = PAGE_SIZE;

fn errno(e: FaultError) -> Errno {
    match e {
        FaultError::NoMemory => Errno::ENOMEM,
        _ => Errno::EFAULT,
    }
}

impl Mm {
    /// Runs `f` on the part of one page that `address..address+len` covers, with the tables locked. Faults it in
    /// as needed.
    fn page_section(
        &self,
        address: u64,
        write: bool,
        mut f: impl FnMut(&crate::arch::pgtable::Mapping),
    ) -> Result<()> {
        let page = address & !(PAGE - 1);
        loop {
            {
                let _guard = self.tables.lock();
                if let Some(mapping) = self.space.lookup(page)
                    && mapping.present
                    && (!write || mapping.write)
                {
                    f(&mapping);
                    return Ok(());
                }
            }
            let kind = if write { AccessKind::Write } else { AccessKind::Read };
            match self.fault(address, kind) {
                Ok(()) => {}
                // As for a program's own fault: somebody gives memory up.
                Err(FaultError::NoMemory) if oom::may_wait() => oom::relieve(),
                Err(e) => return Err(errno(e)),
            }
        }
    }

    fn check(&self, address: u64, len: u64) -> Result<()> {
        match address.checked_add(len) {
            Some(end) if end <= self.user_top => Ok(()),
            _ => Err(Errno::EFAULT),
        }
    }

    /// Copies from the program. Returns the number of bytes before the first that cannot be read.
    pub fn read_some(&self, address: u64, buf: &mut [u8]) -> usize {
        if self.check(address, buf.len() as u64).is_err() {
            return 0;
        }
        let mut done = 0;
        while done < buf.len() {
            let at = address + done as u64;
            let n = (buf.len() - done).min((PAGE - at % PAGE) as usize);
            let part = &mut buf[done..done + n];
            if self.page_section(at, false, |m| self.space.copy_out(m, at % PAGE, part)).is_err() {
                break;
            }
            done += n;
        }
        done
    }

    /// Copies to the program. Returns the number of bytes before the first that cannot be written.
    pub fn write_some(&self, address: u64, data: &[u8]) -> usize {
        if self.check(address, data.len() as u64).is_err() {
            return 0;
        }
        let mut done = 0;
        while done < data.len() {
            let at = address + done as u64;
            let n = (data.len() - done).min((PAGE - at % PAGE) as usize);
            let part = &data[done..done + n];
            if self.page_section(at, true, |m| self.space.copy_in(m, at % PAGE, part)).is_err() {
                break;
            }
            done += n;
        }
        done
    }

    /// Copies from the program.
    ///
    /// # Errors
    /// EFAULT.
    pub fn read_bytes(&self, address: u64, buf: &mut [u8]) -> Result<()> {
        if self.read_some(address, buf) == buf.len() { Ok(()) } else { Err(Errno::EFAULT) }
    }

    /// Copies to the program.
    ///
    /// # Errors
    /// EFAULT.
    pub fn write_bytes(&self, address: u64, data: &[u8]) -> Result<()> {
        if self.write_some(address, data) == data.len() { Ok(()) } else { Err(Errno::EFAULT) }
    }

    /// Reads a string up to its NUL, which is left out.
    ///
    /// # Errors
    /// EFAULT; ENAMETOOLONG where no NUL comes within `max` bytes.
    pub fn read_cstr(&self, address: u64, max: usize) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut buf = [0; 256];
        let mut at = address;
        while out.len() < max {
            let n = (PAGE - at % PAGE).min(256).min((max - out.len()) as u64) as usize;
            self.read_bytes(at, &mut buf[..n])?;
            if let Some(end) = buf[..n].iter().position(|b| *b == 0) {
                out.extend_from_slice(&buf[..end]);
                return Ok(out);
            }
            out.extend_from_slice(&buf[..n]);
            at += n as u64;
        }
        Err(Errno::ENAMETOOLONG)
    }

    /// A reference to the frame behind an address, faulted in with the wanted right.
    ///
    /// # Errors
    /// EFAULT.
    pub fn frame_at(&self, address: u64, write: bool) -> Result<FrameRef> {
        self.check(address, 1)?;
        let mut frame = None;
        self.page_section(address, write, |m| frame = Some(self.space.frame(m)))?;
        frame.ok_or(Errno::EFAULT)
    }

    /// Works atomically on an aligned word of the program, as futexes do.
    ///
    /// # Errors
    /// EFAULT; EINVAL where it is not aligned.
    pub fn with_word<R>(
        &self,
        address: u64,
        write: bool,
        f: impl FnOnce(&core::sync::atomic::AtomicU32) -> R,
    ) -> Result<R> {
        if !address.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        let frame = self.frame_at(address, write)?;
        Ok(f(frame.word((address % PAGE) as usize)?))
    }
}

/// Memory of a program as a list of ranges, consumed from its start.
struct Cursor {
    mm: Arc<Mm>,
    ranges: SmallVec<[(u64, usize); 2]>,
    /// The range that is being consumed, and how much of it is done.
    index: usize,
    offset: usize,
    left: usize,
}

impl Cursor {
    fn new(mm: Arc<Mm>, ranges: &[(u64, usize)]) -> Self {
        let left = ranges.iter().fold(0usize, |sum, (_, len)| sum.saturating_add(*len));
        Self { mm, ranges: SmallVec::from_slice(ranges), index: 0, offset: 0, left }
    }

    /// The next piece of memory, at most `max` bytes.
    fn piece(&mut self, max: usize) -> Option<(u64, usize)> {
        while self.ranges.get(self.index).is_some_and(|(_, len)| self.offset == *len) {
            self.index += 1;
            self.offset = 0;
        }
        let (start, len) = self.ranges.get(self.index)?;
        let n = (len - self.offset).min(max);
        Some((start.wrapping_add(self.offset as u64), n))
    }

    fn advance(&mut self, n: usize) {
        self.offset += n;
        self.left -= n;
    }

    /// Feeds pieces of up to `len` bytes to `f`, which says how many it could do.
    fn run(&mut self, len: usize, mut f: impl FnMut(&Mm, u64, usize, usize) -> usize) -> Result<usize> {
        let mut done = 0;
        while done < len {
            let Some((address, n)) = self.piece(len - done) else { break };
            let moved = f(&self.mm, address, done, n);
            self.advance(moved);
            done += moved;
            if moved < n {
                if done == 0 {
                    return Err(Errno::EFAULT);
                }
                break;
            }
        }
        Ok(done)
    }
}

/// Memory of a program as the destination of a read.
pub struct UserSink(Cursor);

impl UserSink {
    /// Fills the ranges in order.
    pub fn new(mm: Arc<Mm>, ranges: &[(u64, usize)]) -> Self {
        Self(Cursor::new(mm, ranges))
    }
}

impl Sink for UserSink {
    fn remaining(&self) -> usize {
        self.0.left
    }

    fn put(&mut self, data: &[u8]) -> Result<usize> {
        self.0.run(data.len(), |mm, address, at, n| mm.write_some(address, &data[at..at + n]))
    }

    fn put_frame(&mut self, frame: &FrameRef, offset: usize, len: usize) -> Result<usize> {
        self.0.run(len, |mm, address, at, n| mm.write_frame(address, frame, offset + at, n))
    }
}

/// Memory of a program as the origin of a write.
pub struct UserSource(Cursor);

impl UserSource {
    /// Gives the ranges in order.
    pub fn new(mm: Arc<Mm>, ranges: &[(u64, usize)]) -> Self {
        Self(Cursor::new(mm, ranges))
    }
}

impl Source for UserSource {
    fn remaining(&self) -> usize {
        self.0.left
    }

    fn take(&mut self, buf: &mut [u8]) -> Result<usize> {
        self.0.run(buf.len(), |mm, address, at, n| mm.read_some(address, &mut buf[at..at + n]))
    }

    fn take_to_frame(&mut self, frame: &FrameRef, offset: usize, len: usize) -> Result<usize> {
        self.0.run(len, |mm, address, at, n| mm.read_frame(address, frame, offset + at, n))
    }
}

impl Mm {
    fn write_frame(&self, address: u64, frame: &FrameRef, offset: usize, len: usize) -> usize {
        if self.check(address, len as u64).is_err() {
            return 0;
        }
        let mut done = 0;
        while done < len {
            let at = address + done as u64;
            let n = (len - done).min((PAGE - at % PAGE) as usize);
            let copy = |m: &crate::arch::pgtable::Mapping| {
                self.space.frame(m).copy_from((at % PAGE) as usize, frame, offset + done, n);
            };
            if self.page_section(at, true, copy).is_err() {
                break;
            }
            done += n;
        }
        done
    }

    fn read_frame(&self, address: u64, frame: &FrameRef, offset: usize, len: usize) -> usize {
        if self.check(address, len as u64).is_err() {
            return 0;
        }
        let mut done = 0;
        while done < len {
            let at = address + done as u64;
            let n = (len - done).min((PAGE - at % PAGE) as usize);
            let copy = |m: &crate::arch::pgtable::Mapping| {
                frame.copy_from(offset + done, &self.space.frame(m), (at % PAGE) as usize, n);
            };
            if self.page_section(at, false, copy).is_err() {
                break;
            }
            done += n;
        }
        done
    }
}
