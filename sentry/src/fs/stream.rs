//! Standard streams: host descriptors that the VMM holds for the container.

use crate::errno::{Errno, Result};
use crate::host::streams;
use crate::kernel::events;
use crate::kernel::task::CurrentTask;
use crate::mm::frames::page::KernelPage;
use crate::mm::io::{Sink, Source};
use crate::sync::{Events, Mutex, SpinLock, WaitQueue, Wake};
use crate::vfs::file::{FileOps, OpenFile, OpenRequest, Queues};
use crate::vfs::inode::{Attr, S_IFMT, Stat, Time};
use crate::vfs::uapi::{Termios, Winsize};
use crate::vfs::{anon, hooks};
use abi::spec::{StreamKind, StreamSpec};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, Ordering};
use linux_raw_sys::general as c;
use linux_raw_sys::ioctl as i;
use zerocopy::IntoBytes;

/// Order of the buffer of large transfers: 64 KiB.
const ORDER: u8 = 4;

/// A stream.
pub struct Stream {
    spec: StreamSpec,
    queue: WaitQueue,
    /// Serialises transfers, so that bytes of one call stay together.
    transfer: Mutex<()>,
}

static STREAMS: SpinLock<Vec<Weak<Stream>>> = SpinLock::new(Vec::new());

/// The host says that streams may be ready (EVENT_STREAM).
pub fn event() {
    let streams: Vec<Arc<Stream>> = {
        let mut list = STREAMS.lock();
        list.retain(|s| s.strong_count() != 0);
        list.iter().filter_map(Weak::upgrade).collect()
    };
    for stream in streams {
        stream.queue.wake(Events::IN | Events::OUT | Events::RDNORM | Events::WRNORM);
    }
    super::tty::stream_event();
}

/// Hears of the host's events.
struct Listener;

impl Wake for Listener {
    fn wake(&self, _: Events) {
        event();
    }
}

/// Hears of a window size that changed.
struct WindowListener;

impl Wake for WindowListener {
    fn wake(&self, _: Events) {
        super::tty::winch_event();
    }
}

/// Begins to listen to the host's events; once.
pub fn init() {
    static DONE: AtomicBool = AtomicBool::new(false);
    if !DONE.swap(true, Ordering::AcqRel) {
        events::STREAMS.add(Arc::new(Listener), Events::all(), false);
        events::WINDOW.add(Arc::new(WindowListener), Events::all(), false);
    }
}

/// Whether a stream is the host's /dev/null.
pub fn is_null(spec: &StreamSpec) -> bool {
    streams::stat(spec.stream).is_ok_and(|s| s.mode & S_IFMT == c::S_IFCHR && s.rdev == super::dev::NULL)
}

fn kind_mode(kind: StreamKind) -> u32 {
    match kind {
        StreamKind::Pipe => c::S_IFIFO,
        StreamKind::File => c::S_IFREG,
        StreamKind::Terminal | StreamKind::Device => c::S_IFCHR,
        StreamKind::Socket => c::S_IFSOCK,
    }
}

/// A description of a stream.
pub fn open(spec: &StreamSpec) -> Arc<OpenFile> {
    let stream = Arc::new(Stream { spec: *spec, queue: WaitQueue::new(), transfer: Mutex::new(()) });
    STREAMS.lock().push(Arc::downgrade(&stream));
    let mut flags = match (spec.readable, spec.writable) {
        (true, true) => c::O_RDWR,
        (false, true) => c::O_WRONLY,
        _ => c::O_RDONLY,
    };
    if spec.append {
        flags |= c::O_APPEND;
    }
    let ino = anon::new_ino();
    let host = streams::stat(spec.stream).ok();
    let mode = host.map_or(kind_mode(spec.kind) | 0o600, |h| h.mode);
    let (uid, gid) = host.map_or((0, 0), |h| (h.uid, h.gid));
    let stat = host.map(|h| Stat {
        dev: h.dev,
        ino: h.ino,
        mode: h.mode,
        nlink: h.nlink,
        uid: h.uid,
        gid: h.gid,
        rdev: h.rdev,
        size: h.size,
        blksize: 4096,
        blocks: h.blocks,
        mtime: Time { sec: h.mtime[0], nsec: h.mtime[1] as u32 },
        ..Stat::default()
    });
    let name = match mode & S_IFMT {
        c::S_IFIFO => alloc::format!("pipe:[{ino}]"),
        c::S_IFSOCK => alloc::format!("socket:[{ino}]"),
        c::S_IFCHR if spec.kind == StreamKind::Terminal => alloc::string::String::from("/dev/console"),
        c::S_IFCHR => alloc::string::String::from("/dev/null"),
        _ => alloc::format!("/host:[{ino}]"),
    };
    let again = stream.clone();
    let reopen = move |_: &OpenRequest<'_>| -> Result<Arc<dyn FileOps>> { Ok(again.clone()) };
    let path = anon::path(ino, Attr { mode, uid, gid }, name.as_bytes(), stat, Some(Box::new(reopen)));
    OpenFile::new(path, stream, flags)
}

impl Drop for Stream {
    fn drop(&mut self) {
        streams::close(self.spec.stream);
    }
}

impl Stream {
    fn arm<T>(&self, events: Events) -> Result<T> {
        // Asks for an event; what became ready meanwhile is tried again at once.
        let now = streams::poll(self.spec.stream, events.bits())?;
        if now & (events.bits() | c::POLLHUP | c::POLLERR) != 0 {
            self.queue.wake(events);
        }
        Err(Errno::EAGAIN)
    }

    fn try_read(&self, page: &KernelPage, len: usize) -> Result<usize> {
        match streams::read(self.spec.stream, page, len) {
            Err(Errno::EAGAIN) => self.arm(Events::IN),
            other => other,
        }
    }

    fn try_write(&self, page: &KernelPage, len: usize) -> Result<usize> {
        match streams::write(self.spec.stream, page, len) {
            Err(Errno::EAGAIN) => self.arm(Events::OUT),
            other => other,
        }
    }

    fn buffer(len: usize) -> Result<KernelPage> {
        if len > abi::PAGE_SIZE as usize
            && let Ok(large) = KernelPage::alloc_order(ORDER)
        {
            return Ok(large);
        }
        KernelPage::alloc()
    }
}

impl FileOps for Stream {
    fn read(&self, file: &OpenFile, sink: &mut dyn Sink, _offset: u64) -> Result<usize> {
        let want = sink.remaining();
        if want == 0 {
            return Ok(0);
        }
        let page = Self::buffer(want)?;
        let n = file.block_on(Events::IN, || self.try_read(&page, want))?.min(page.len());
        let mut bytes = alloc::vec![0; n];
        page.read(0, &mut bytes);
        sink.put(&bytes)
    }

    fn write(&self, file: &OpenFile, source: &mut dyn Source, _offset: u64) -> Result<usize> {
        let _transfer = self.transfer.lock();
        let page = Self::buffer(source.remaining())?;
        let mut bytes = alloc::vec![0; page.len().min(source.remaining())];
        let mut done = 0;
        while source.remaining() > 0 {
            let n = match source.take(&mut bytes) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            };
            let mut sent = 0;
            while sent < n {
                page.write(0, bytes.get(sent..n).unwrap_or_default());
                match file.block_on(Events::OUT, || self.try_write(&page, n - sent)) {
                    Ok(0) => return Ok(done),
                    Ok(m) => {
                        sent += m;
                        done += m;
                    }
                    Err(e) if done == 0 => return Err(e),
                    Err(_) => return Ok(done),
                }
            }
        }
        Ok(done)
    }

    fn poll(&self, _file: &OpenFile) -> Events {
        let mut ask = Events::empty();
        if self.spec.readable {
            ask |= Events::IN;
        }
        if self.spec.writable {
            ask |= Events::OUT;
        }
        let now = streams::poll(self.spec.stream, ask.bits()).unwrap_or(c::POLLERR);
        let mut events = Events::from_bits_truncate(now);
        if events.contains(Events::IN) {
            events |= Events::RDNORM;
        }
        if events.contains(Events::OUT) {
            events |= Events::WRNORM;
        }
        events
    }

    fn queues<'a>(&'a self, _file: &OpenFile, queues: &mut Queues<'a>) {
        queues.push(&self.queue);
    }

    fn can_epoll(&self) -> bool {
        self.spec.kind != StreamKind::File
    }

    fn seek(&self, _file: &OpenFile, offset: i64, whence: u32) -> Option<Result<u64>> {
        match self.spec.kind {
            StreamKind::File => Some(streams::seek(self.spec.stream, offset, whence)),
            _ => Some(Err(Errno::ESPIPE)),
        }
    }

    fn ioctl(&self, task: &CurrentTask, _file: &OpenFile, request: u32, arg: u64) -> Result<u64> {
        if self.spec.kind != StreamKind::Terminal {
            return Err(Errno::ENOTTY);
        }
        match request {
            i::TCGETS => {
                let mut termios = Termios::default();
                streams::terminal(self.spec.stream, request, termios.as_mut_bytes())?;
                task.write_obj(arg, &termios)?;
            }
            i::TCSETS | i::TCSETSW | i::TCSETSF => {
                let mut termios: Termios = task.read_obj(arg)?;
                streams::terminal(self.spec.stream, request, termios.as_mut_bytes())?;
            }
            i::TIOCGWINSZ => {
                let mut size = Winsize::default();
                streams::terminal(self.spec.stream, request, size.as_mut_bytes())?;
                task.write_obj(arg, &size)?;
            }
            i::TIOCSWINSZ => {
                let mut size: Winsize = task.read_obj(arg)?;
                streams::terminal(self.spec.stream, request, size.as_mut_bytes())?;
            }
            i::TIOCGPGRP => {
                // A host terminal is nobody's controlling terminal here: the caller counts as the foreground.
                let (pid, _) = hooks::kernel().current().ok_or(Errno::ENOTTY)?;
                let (pgid, _) = hooks::kernel().ids(pid).ok_or(Errno::ENOTTY)?;
                task.write_obj(arg, &(pgid as i32))?;
            }
            _ => return Err(Errno::ENOTTY),
        }
        Ok(0)
    }

    fn fsync(&self, _file: &OpenFile) -> Result<()> {
        if self.spec.kind == StreamKind::File { Ok(()) } else { Err(Errno::EINVAL) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
