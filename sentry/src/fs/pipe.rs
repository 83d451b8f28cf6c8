//! Pipes and fifos, pipe(7) and fifo(7).

use crate::errno::{Errno, Result};
use crate::kernel::task::CurrentTask;
use crate::kernel::wait;
use crate::mm::frames::FrameRef;
use crate::mm::io::{Sink, Source};
use crate::sync::{Events, Mutex, WaitQueue};
use crate::vfs::anon;
use crate::vfs::file::{FileOps, OpenFile, OpenRequest, Queues};
use crate::vfs::inode::Attr;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use linux_raw_sys::general as c;
use linux_raw_sys::ioctl;

const PAGE: usize = abi::PAGE_SIZE as usize;
/// Pages of a new pipe.
const DEFAULT_PAGES: usize = 16;
/// Most bytes without CAP_SYS_RESOURCE, /proc/sys/fs/pipe-max-size.
pub const MAX_SIZE: usize = 1 << 20;

struct Buffer {
    frame: FrameRef,
    offset: usize,
    len: usize,
    /// A packet of its own (O_DIRECT).
    packet: bool,
}

struct State {
    buffers: VecDeque<Buffer>,
    /// A frame kept for the next write.
    spare: Option<FrameRef>,
}

/// A pipe.
pub struct Pipe {
    state: Mutex<State>,
    /// Bytes in it, for poll without the lock.
    bytes: AtomicUsize,
    used: AtomicUsize,
    capacity: AtomicUsize,
    readers: AtomicU32,
    writers: AtomicU32,
    /// Counts opens, for fifos that wait for the other end.
    read_opens: AtomicU32,
    write_opens: AtomicU32,
    read_queue: WaitQueue,
    write_queue: WaitQueue,
}

/// One end of a pipe, or both (a fifo opened O_RDWR).
pub struct PipeEnd {
    pipe: Arc<Pipe>,
    reads: bool,
    writes: bool,
}

impl Pipe {
    /// A pipe without open ends.
    pub fn fifo() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State { buffers: VecDeque::new(), spare: None }),
            bytes: AtomicUsize::new(0),
            used: AtomicUsize::new(0),
            capacity: AtomicUsize::new(DEFAULT_PAGES),
            readers: AtomicU32::new(0),
            writers: AtomicU32::new(0),
            read_opens: AtomicU32::new(0),
            write_opens: AtomicU32::new(0),
            read_queue: WaitQueue::new(),
            write_queue: WaitQueue::new(),
        })
    }

    fn end(self: &Arc<Self>, reads: bool, writes: bool) -> Arc<PipeEnd> {
        if reads {
            self.readers.fetch_add(1, Ordering::SeqCst);
            self.read_opens.fetch_add(1, Ordering::SeqCst);
            self.write_queue.wake(Events::OUT | Events::WRNORM);
        }
        if writes {
            self.writers.fetch_add(1, Ordering::SeqCst);
            self.write_opens.fetch_add(1, Ordering::SeqCst);
            self.read_queue.wake(Events::IN | Events::RDNORM);
        }
        Arc::new(PipeEnd { pipe: self.clone(), reads, writes })
    }

    /// Opens a fifo: waits for the other end, as fifo(7).
    ///
    /// # Errors
    /// ENXIO for a writer without a reader with O_NONBLOCK; EINTR.
    pub fn open_fifo(self: &Arc<Self>, request: &OpenRequest<'_>) -> Result<Arc<dyn FileOps>> {
        let (reads, writes) = (request.reads(), request.writes());
        let nonblock = request.flags & c::O_NONBLOCK != 0;
        if writes && !reads && nonblock && self.readers.load(Ordering::SeqCst) == 0 {
            return Err(Errno::ENXIO);
        }
        let seen_writes = self.write_opens.load(Ordering::SeqCst);
        let seen_reads = self.read_opens.load(Ordering::SeqCst);
        let end = self.end(reads, writes);
        if reads && !writes && !nonblock {
            let other = || {
                let come = self.writers.load(Ordering::SeqCst) != 0
                    || self.write_opens.load(Ordering::SeqCst) != seen_writes;
                come.then_some(())
            };
            wait::wait_until(&[(&self.read_queue, Events::IN)], None, other)?;
        }
        if writes && !reads && !nonblock {
            let other = || {
                let come = self.readers.load(Ordering::SeqCst) != 0
                    || self.read_opens.load(Ordering::SeqCst) != seen_reads;
                come.then_some(())
            };
            wait::wait_until(&[(&self.write_queue, Events::OUT)], None, other)?;
        }
        Ok(end)
    }

    /// Opens a pipe that has no name, through /proc/PID/fd: that never waits for the other end.
    fn reopen(self: &Arc<Self>, request: &OpenRequest<'_>) -> Result<Arc<dyn FileOps>> {
        Ok(self.end(request.reads(), request.writes()))
    }

    fn publish(&self, state: &State) {
        self.bytes.store(state.buffers.iter().map(|b| b.len).sum(), Ordering::Release);
        self.used.store(state.buffers.len(), Ordering::Release);
    }

    /// Moves what is there into a sink.
    fn try_read(&self, sink: &mut dyn Sink) -> Result<usize> {
        let mut state = self.state.lock();
        if state.buffers.is_empty() {
            return if self.writers.load(Ordering::SeqCst) == 0 { Ok(0) } else { Err(Errno::EAGAIN) };
        }
        let mut done = 0;
        let mut failure = None;
        while sink.remaining() > 0 {
            let Some(buffer) = state.buffers.front_mut() else { break };
            let want = buffer.len.min(sink.remaining());
            match sink.put_frame(&buffer.frame, buffer.offset, want) {
                Ok(0) => break,
                Ok(n) => {
                    done += n;
                    buffer.offset += n;
                    buffer.len -= n;
                    let packet = buffer.packet;
                    if (buffer.len == 0 || packet)
                        && let Some(empty) = state.buffers.pop_front()
                    {
                        state.spare = Some(empty.frame);
                    }
                    if packet || n < want {
                        break;
                    }
                }
                Err(e) => {
                    failure = Some(e);
                    break;
                }
            }
        }
        self.publish(&state);
        drop(state);
        if done != 0 {
            self.write_queue.wake(Events::OUT | Events::WRNORM);
        }
        match failure {
            Some(e) if done == 0 => Err(e),
            _ => Ok(done),
        }
    }

    /// Moves as much as fits from a source. Up to PIPE_BUF bytes go whole or not at all.
    fn try_write(&self, source: &mut dyn Source, packet: bool) -> Result<usize> {
        if self.readers.load(Ordering::SeqCst) == 0 {
            return Err(Errno::EPIPE);
        }
        let capacity = self.capacity.load(Ordering::Relaxed);
        let mut state = self.state.lock();
        let mut done = 0;
        let mut failure = None;
        let total = source.remaining();
        let small = total <= c::PIPE_BUF as usize;
        if !packet && let Some(last) = state.buffers.back_mut() {
            let end = last.offset + last.len;
            let room = PAGE - end;
            let fits = if small { room >= total } else { room > 0 };
            if !last.packet && fits && last.frame.refs() == 1 {
                match source.take_to_frame(&last.frame, end, room.min(total)) {
                    Ok(n) => {
                        last.len += n;
                        done += n;
                    }
                    Err(e) => failure = Some(e),
                }
            }
        }
        while failure.is_none() && source.remaining() > 0 && state.buffers.len() < capacity {
            let frame = match state.spare.take() {
                Some(frame) if frame.refs() == 1 => frame,
                _ => match FrameRef::alloc_uninit() {
                    Ok(frame) => frame,
                    Err(e) => {
                        failure = Some(e);
                        break;
                    }
                },
            };
            let want = source.remaining().min(PAGE);
            match source.take_to_frame(&frame, 0, want) {
                Ok(0) => break,
                Ok(n) => {
                    done += n;
                    state.buffers.push_back(Buffer { frame, offset: 0, len: n, packet });
                    if n < want {
                        break;
                    }
                }
                Err(e) => failure = Some(e),
            }
        }
        self.publish(&state);
        drop(state);
        if done != 0 {
            self.read_queue.wake(Events::IN | Events::RDNORM);
        }
        match failure {
            Some(e) if done == 0 => Err(e),
            None if done == 0 && total > 0 => Err(Errno::EAGAIN),
            _ => Ok(done),
        }
    }

    fn is_full(&self) -> bool {
        self.used.load(Ordering::Acquire) >= self.capacity.load(Ordering::Relaxed)
    }

    /// Bytes in it, FIONREAD.
    pub fn len(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Size in bytes, F_GETPIPE_SZ.
    pub fn size(&self) -> usize {
        self.capacity.load(Ordering::Relaxed) * PAGE
    }

    /// Sets the size, F_SETPIPE_SZ; returns what it became.
    ///
    /// # Errors
    /// EPERM beyond the limit, EBUSY where more is in it, EINVAL.
    pub fn set_size(&self, size: u64, privileged: bool) -> Result<usize> {
        if size > 1 << 31 {
            return Err(Errno::EINVAL);
        }
        let size = (size.max(PAGE as u64)).next_power_of_two() as usize;
        if size > MAX_SIZE && !privileged || size > MAX_SIZE * 64 {
            return Err(Errno::EPERM);
        }
        let state = self.state.lock();
        if state.buffers.len() > size / PAGE {
            return Err(Errno::EBUSY);
        }
        self.capacity.store(size / PAGE, Ordering::Relaxed);
        drop(state);
        self.write_queue.wake(Events::OUT | Events::WRNORM);
        Ok(size)
    }

    /// Copies up to `len` bytes to another pipe and leaves them here, tee(2).
    fn try_tee(&self, to: &Pipe, len: usize) -> Result<usize> {
        let copies: alloc::vec::Vec<(FrameRef, usize, usize, bool)> = {
            let state = self.state.lock();
            if state.buffers.is_empty() {
                return if self.writers.load(Ordering::SeqCst) == 0 { Ok(0) } else { Err(Errno::EAGAIN) };
            }
            state.buffers.iter().map(|b| (b.frame.clone(), b.offset, b.len, b.packet)).collect()
        };
        if to.readers.load(Ordering::SeqCst) == 0 {
            return Err(Errno::EPIPE);
        }
        let mut done = 0;
        let mut state = to.state.lock();
        for (frame, offset, have, packet) in copies {
            if done == len || state.buffers.len() >= to.capacity.load(Ordering::Relaxed) {
                break;
            }
            let n = have.min(len - done);
            let copy = FrameRef::alloc_uninit()?;
            copy.copy_from(0, &frame, offset, n);
            state.buffers.push_back(Buffer { frame: copy, offset: 0, len: n, packet });
            done += n;
        }
        to.publish(&state);
        drop(state);
        if done == 0 {
            return Err(Errno::EAGAIN);
        }
        to.read_queue.wake(Events::IN | Events::RDNORM);
        Ok(done)
    }

    /// tee(2).
    ///
    /// # Errors
    /// EAGAIN, EPIPE, EINTR.
    pub fn tee(&self, to: &Pipe, len: usize, nonblock: bool) -> Result<usize> {
        match self.try_tee(to, len) {
            Err(Errno::EAGAIN) if !nonblock => {}
            other => return other,
        }
        wait::wait_until(&[(&self.read_queue, Events::IN), (&to.write_queue, Events::OUT)], None, || {
            match self.try_tee(to, len) {
                Err(Errno::EAGAIN) => None,
                other => Some(other),
            }
        })?
    }

    /// Puts bytes back that were read but could not be passed on, at the front.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn unread(&self, bytes: &[u8]) -> Result<()> {
        let mut state = self.state.lock();
        for chunk in bytes.rchunks(PAGE) {
            let frame = FrameRef::alloc_uninit()?;
            frame.write(0, chunk);
            state.buffers.push_front(Buffer { frame, offset: 0, len: chunk.len(), packet: false });
        }
        self.publish(&state);
        drop(state);
        self.read_queue.wake(Events::IN | Events::RDNORM);
        Ok(())
    }
}

impl PipeEnd {
    /// The pipe.
    pub fn pipe(&self) -> &Arc<Pipe> {
        &self.pipe
    }

    fn blocked(&self, file: &OpenFile) -> Result<()> {
        if file.nonblock() { Err(Errno::EAGAIN) } else { Ok(()) }
    }
}

impl FileOps for PipeEnd {
    fn read(&self, file: &OpenFile, sink: &mut dyn Sink, _offset: u64) -> Result<usize> {
        if sink.remaining() == 0 {
            return Ok(0);
        }
        match self.pipe.try_read(sink) {
            Err(Errno::EAGAIN) => self.blocked(file)?,
            other => return other,
        }
        wait::wait_exclusive(&[(&self.pipe.read_queue, Events::IN)], None, || {
            match self.pipe.try_read(sink) {
                Err(Errno::EAGAIN) => None,
                other => Some(other),
            }
        })?
    }

    fn write(&self, file: &OpenFile, source: &mut dyn Source, _offset: u64) -> Result<usize> {
        let packet = file.flags() & c::O_DIRECT != 0;
        let mut done = 0;
        while source.remaining() > 0 {
            let mut result = self.pipe.try_write(source, packet);
            if result == Err(Errno::EAGAIN) && !file.nonblock() {
                let queue = [(&self.pipe.write_queue, Events::OUT)];
                result = wait::wait_exclusive(&queue, None, || match self.pipe.try_write(source, packet) {
                    Err(Errno::EAGAIN) => None,
                    other => Some(other),
                })
                .unwrap_or_else(|e| Err(e.into()));
            }
            match result {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(Errno::EPIPE) if done == 0 => return Err(Errno::EPIPE),
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn poll(&self, _file: &OpenFile) -> Events {
        let mut events = Events::empty();
        let pipe = &self.pipe;
        if self.reads {
            if pipe.used.load(Ordering::Acquire) != 0 {
                events |= Events::IN | Events::RDNORM;
            }
            if pipe.writers.load(Ordering::SeqCst) == 0 && pipe.write_opens.load(Ordering::SeqCst) != 0 {
                events |= Events::HUP;
            }
        }
        if self.writes {
            if !pipe.is_full() {
                events |= Events::OUT | Events::WRNORM;
            }
            if pipe.readers.load(Ordering::SeqCst) == 0 {
                events |= Events::ERR;
            }
        }
        events
    }

    fn can_async(&self) -> bool {
        true
    }

    fn queues<'a>(&'a self, _file: &OpenFile, queues: &mut Queues<'a>) {
        if self.reads {
            queues.push(&self.pipe.read_queue);
        }
        if self.writes {
            queues.push(&self.pipe.write_queue);
        }
    }

    fn ioctl(&self, task: &CurrentTask, _file: &OpenFile, request: u32, arg: u64) -> Result<u64> {
        match request {
            ioctl::FIONREAD => {
                let n = i32::try_from(self.pipe.len()).unwrap_or(i32::MAX);
                task.write_obj(arg, &n)?;
                Ok(0)
            }
            _ => Err(Errno::ENOTTY),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        if self.reads && self.pipe.readers.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.pipe.write_queue.wake(Events::ERR | Events::OUT | Events::HUP);
        }
        if self.writes && self.pipe.writers.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.pipe.read_queue.wake(Events::HUP | Events::IN);
        }
        let pipe = &self.pipe;
        if pipe.readers.load(Ordering::SeqCst) == 0 && pipe.writers.load(Ordering::SeqCst) == 0 {
            let mut state = pipe.state.lock();
            state.buffers.clear();
            state.spare = None;
            pipe.publish(&state);
        }
    }
}

/// Both ends of a new pipe, pipe2(2). `flags`: O_NONBLOCK, O_DIRECT.
pub fn new(flags: u32, uid: u32, gid: u32) -> (Arc<OpenFile>, Arc<OpenFile>) {
    let pipe = Pipe::fifo();
    let ino = anon::new_ino();
    let name = alloc::format!("pipe:[{ino}]");
    let reopen = pipe.clone();
    let path = anon::path(
        ino,
        Attr { mode: c::S_IFIFO | 0o600, uid, gid },
        name.as_bytes(),
        None,
        Some(Box::new(move |request: &OpenRequest<'_>| reopen.reopen(request))),
    );
    let read = OpenFile::new(path.clone(), pipe.end(true, false), c::O_RDONLY | flags);
    let write = OpenFile::new(path, pipe.end(false, true), c::O_WRONLY | flags);
    (read, write)
}
