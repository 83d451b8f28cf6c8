//! Host calls on the container's standard streams, console and preserved descriptors.
//!
//! A stream is often shared with others (a terminal with the shell that started the runtime), so its open file
//! description is never made non-blocking. What can block is opened a second time, non-blocking, where the host
//! allows that; else it is asked with poll(2) before each transfer, which is then small enough not to block.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard};

use abi::hostcall::FileStat;
use abi::spec::{StreamKind, StreamSpec};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{fault, paths};
use crate::Error;
use crate::memory::{GuestMemory, errno};

/// Most bytes of one transfer.
const MAX_STREAM_TRANSFER: u64 = 1 << 20;
/// Bytes that a pipe takes without blocking once it polls as writable (PIPE_BUF).
const PIPE_CHUNK: usize = 4096;
/// Bytes that a terminal is given at a time.
const TERMINAL_CHUNK: usize = 256;
/// Bytes of the kernel's `struct termios`.
const TERMIOS_LEN: usize = 36;
/// Bytes of a `struct winsize`.
const WINSIZE_LEN: usize = 8;
/// States that poll(2) reports whether asked or not.
const ALWAYS: i16 = libc::POLLERR | libc::POLLHUP | libc::POLLNVAL;

/// A descriptor of the container.
pub struct Stream {
    /// The descriptor.
    pub fd: OwnedFd,
    /// What it is.
    pub kind: StreamKind,
    /// Whether it may be read.
    pub readable: bool,
    /// Whether it may be written.
    pub writable: bool,
    /// Whether `fd` is an open file description of our own that does not block.
    pub nonblocking: bool,
}

/// Most streams of a sandbox.
const MAX_STREAMS: usize = 4096;

/// A stream, and the poll(2) bits that the guest waits for.
struct Slot {
    stream: Arc<Stream>,
    interest: i16,
}

/// Streams of a sandbox, by number.
pub struct Streams {
    slots: Mutex<Vec<Option<Slot>>>,
    wake: EventFd,
}

impl Streams {
    /// Serves `streams`.
    pub fn new(streams: Vec<Stream>) -> Result<Self, Error> {
        let wake = EventFd::new(EFD_NONBLOCK)
            .map_err(|source| Error::Os { operation: "making an event descriptor".into(), source })?;
        let slot = |stream| Some(Slot { stream: Arc::new(stream), interest: 0 });
        Ok(Self { slots: Mutex::new(streams.into_iter().map(slot).collect()), wake })
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Option<Slot>>> {
        self.slots.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn get(&self, index: u64) -> Result<Arc<Stream>, i32> {
        let slots = self.slots();
        let slot = usize::try_from(index).ok().and_then(|i| slots.get(i)).and_then(Option::as_ref);
        slot.map(|slot| Arc::clone(&slot.stream)).ok_or(libc::EBADF)
    }

    /// Serves a further stream; returns its number. `None`: there are too many.
    pub fn add(&self, stream: Stream) -> Option<u32> {
        let mut slots = self.slots();
        let index = match slots.iter().position(Option::is_none) {
            Some(index) => index,
            None if slots.len() < MAX_STREAMS => {
                slots.push(None);
                slots.len() - 1
            }
            None => return None,
        };
        slots[index] = Some(Slot { stream: Arc::new(stream), interest: 0 });
        Some(index as u32)
    }

    /// Serves `StreamClose`.
    pub fn close(&self, index: u64) -> Result<i64, i32> {
        let gone = {
            let mut slots = self.slots();
            usize::try_from(index).ok().and_then(|i| slots.get_mut(i)).and_then(Option::take)
        };
        // The watcher must not wait for it any more.
        let _ = self.wake.write(1);
        gone.map(|_| 0).ok_or(libc::EBADF)
    }

    /// Serves `StreamRead`.
    pub fn read(&self, memory: &GuestMemory, stream: u64, gpa: u64, len: u64) -> Result<i64, i32> {
        let stream = self.get(stream)?;
        if !stream.readable {
            return Err(libc::EBADF);
        }
        if len > MAX_STREAM_TRANSFER {
            return Err(libc::EINVAL);
        }
        let host = memory.host(gpa, len).map_err(fault)? as *mut libc::c_void;
        let fd = stream.fd.as_raw_fd();
        if stream.may_block() && poll_now(fd, libc::POLLIN)? == 0 {
            return Err(libc::EAGAIN);
        }
        // SAFETY: `host` to `host + len` is guest memory, which outlives the call and to which no reference exists.
        let done = unsafe {
            match stream.kind {
                StreamKind::Socket => libc::recv(fd, host, len as usize, libc::MSG_DONTWAIT),
                _ => libc::read(fd, host, len as usize),
            }
        };
        if done < 0 { Err(errno()) } else { Ok(done as i64) }
    }

    /// Serves `StreamWrite`.
    pub fn write(&self, memory: &GuestMemory, stream: u64, gpa: u64, len: u64) -> Result<i64, i32> {
        let stream = self.get(stream)?;
        if !stream.writable {
            return Err(libc::EBADF);
        }
        if len > MAX_STREAM_TRANSFER {
            return Err(libc::EINVAL);
        }
        let host = memory.host_to_read(gpa, len).map_err(fault)?;
        let fd = stream.fd.as_raw_fd();
        let chunk = match stream.kind {
            _ if !stream.may_block() => len as usize,
            StreamKind::Terminal => TERMINAL_CHUNK,
            _ => PIPE_CHUNK,
        };
        let mut done = 0usize;
        loop {
            let left = (len as usize - done).min(chunk);
            let result = if stream.may_block() && poll_now(fd, libc::POLLOUT)? == 0 {
                Err(libc::EAGAIN)
            } else {
                let from = (host + done as u64) as *const libc::c_void;
                // SAFETY: the range lies in the guest memory checked above; the kernel only reads it.
                let wrote = unsafe {
                    match stream.kind {
                        StreamKind::Socket => {
                            libc::send(fd, from, left, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
                        }
                        _ => libc::write(fd, from, left),
                    }
                };
                usize::try_from(wrote).map_err(|_| errno())
            };
            match result {
                Ok(wrote) => done += wrote,
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => return Ok(done as i64),
            }
            if done == len as usize || !stream.may_block() {
                return Ok(done as i64);
            }
        }
    }

    /// Serves `StreamPoll`.
    pub fn poll(&self, index: u64, events: u64) -> Result<i64, i32> {
        let stream = self.get(index)?;
        let events = i16::try_from(events & 0x7fff).map_err(|_| libc::EINVAL)?;
        if stream.kind == StreamKind::File {
            return Ok(i64::from(libc::POLLIN | libc::POLLOUT));
        }
        let asked = events | libc::POLLIN | libc::POLLOUT | libc::POLLPRI | libc::POLLRDHUP;
        let mut ready = poll_now(stream.fd.as_raw_fd(), asked)?;
        let missing = events & !ready;
        if missing != 0 && ready & ALWAYS == 0 {
            if let Some(Some(slot)) = self.slots().get_mut(index as usize) {
                slot.interest |= missing;
            }
            let _ = self.wake.write(1);
            // What came between the question and the interest is told by the watcher, which sees the level.
            ready = poll_now(stream.fd.as_raw_fd(), asked)?;
        }
        Ok(i64::from(ready))
    }

    /// Serves `StreamSeek`.
    pub fn seek(&self, stream: u64, offset: i64, whence: u64) -> Result<i64, i32> {
        let stream = self.get(stream)?;
        let whence = match i32::try_from(whence) {
            Ok(whence @ (libc::SEEK_SET | libc::SEEK_CUR | libc::SEEK_END)) => whence,
            _ => return Err(libc::EINVAL),
        };
        match stream.kind {
            StreamKind::File => paths::seek(stream.fd.as_fd(), offset, whence),
            _ => Err(libc::ESPIPE),
        }
    }

    /// Serves `StreamStat`.
    pub fn stat(&self, stream: u64) -> Result<FileStat, i32> {
        paths::stat(self.get(stream)?.fd.as_fd())
    }

    /// Serves `StreamTerminal`.
    pub fn terminal(&self, memory: &GuestMemory, stream: u64, request: u64, gpa: u64) -> Result<i64, i32> {
        let stream = self.get(stream)?;
        if stream.kind != StreamKind::Terminal {
            return Err(libc::ENOTTY);
        }
        let (len, sets) = match request {
            libc::TCGETS => (TERMIOS_LEN, false),
            libc::TCSETS | libc::TCSETSW | libc::TCSETSF => (TERMIOS_LEN, true),
            libc::TIOCGWINSZ => (WINSIZE_LEN, false),
            libc::TIOCSWINSZ => (WINSIZE_LEN, true),
            _ => return Err(libc::ENOTTY),
        };
        let mut buffer = [0u8; 64];
        if sets {
            memory.read(gpa, &mut buffer[..len]).map_err(fault)?;
        }
        // SAFETY: each of the requests above reads or writes at most 36 bytes at the pointer; `buffer` has 64.
        let done = unsafe { libc::ioctl(stream.fd.as_raw_fd(), request, buffer.as_mut_ptr()) };
        if done < 0 {
            return Err(errno());
        }
        if !sets {
            memory.write(gpa, &buffer[..len]).map_err(fault)?;
        }
        Ok(0)
    }

    /// Descriptor that becomes readable when the guest's interest changes.
    pub(super) fn wake_fd(&self) -> RawFd {
        self.wake.as_raw_fd()
    }

    /// Lets the input thread look anew at what it watches.
    pub(super) fn look_again(&self) {
        let _ = self.wake.write(1);
    }

    /// Takes a wake-up.
    pub(super) fn take_wake(&self) {
        let _ = self.wake.read();
    }

    /// Streams that the guest waits for: index, stream, poll(2) bits.
    pub(super) fn armed(&self) -> Vec<(usize, Arc<Stream>, i16)> {
        let slots = self.slots();
        let armed = |(index, slot): (usize, &Option<Slot>)| {
            let slot = slot.as_ref().filter(|slot| slot.interest != 0)?;
            Some((index, Arc::clone(&slot.stream), slot.interest))
        };
        slots.iter().enumerate().filter_map(armed).collect()
    }

    /// Ends the interest in streams that were told of.
    pub(super) fn disarm(&self, ready: &[usize]) {
        let mut slots = self.slots();
        for &index in ready {
            if let Some(Some(slot)) = slots.get_mut(index) {
                slot.interest = 0;
            }
        }
    }
}

impl Stream {
    /// A descriptor that came with a command.
    pub(super) fn of(fd: OwnedFd, spec: &StreamSpec) -> Self {
        // SAFETY: takes a descriptor and a number.
        let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
        let nonblocking = flags >= 0 && flags & libc::O_NONBLOCK != 0;
        Self { fd, kind: spec.kind, readable: spec.readable, writable: spec.writable, nonblocking }
    }

    /// Whether a transfer could wait.
    fn may_block(&self) -> bool {
        !self.nonblocking && !matches!(self.kind, StreamKind::File | StreamKind::Socket)
    }
}

/// States of a descriptor now.
fn poll_now(fd: RawFd, events: i16) -> Result<i16, i32> {
    let mut one = libc::pollfd { fd, events, revents: 0 };
    // SAFETY: `one` is a valid array of one entry.
    match unsafe { libc::poll(&mut one, 1, 0) } {
        n if n < 0 => Err(errno()),
        _ => Ok(one.revents),
    }
}
