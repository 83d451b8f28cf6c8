//! signalfd(2).

use crate::errno::{Errno, Result};
use crate::mm::io::Sink;
use crate::sync::{Events, SpinLock};
use crate::vfs::anon;
use crate::vfs::file::{FileOps, OpenFile, Queues};
use crate::vfs::hooks::SignalSource;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use linux_raw_sys::general as c;
use zerocopy::IntoBytes;

/// Takes signals of the process that made it.
pub struct SignalFd {
    mask: SpinLock<u64>,
    source: Arc<dyn SignalSource>,
}

/// A new description for a set of signals.
pub fn new(mask: u64, source: Arc<dyn SignalSource>, flags: u32) -> Arc<OpenFile> {
    let fd = SignalFd { mask: SpinLock::new(0), source };
    fd.set_mask(mask);
    anon::file("signalfd", Arc::new(fd), c::O_RDWR | flags)
}

impl SignalFd {
    /// Sets the signals that it takes; SIGKILL and SIGSTOP never.
    pub fn set_mask(&self, mask: u64) {
        *self.mask.lock() = mask & !(1 << (c::SIGKILL - 1)) & !(1 << (c::SIGSTOP - 1));
        self.source.queue().wake(Events::IN);
    }
}

impl FileOps for SignalFd {
    fn read(&self, file: &OpenFile, sink: &mut dyn Sink, _offset: u64) -> Result<usize> {
        const SIZE: usize = size_of::<crate::vfs::uapi::SignalfdInfo>();
        if sink.remaining() < SIZE {
            return Err(Errno::EINVAL);
        }
        let mask = *self.mask.lock();
        let mut info = file.block_on(Events::IN, || self.source.take(mask).ok_or(Errno::EAGAIN))?;
        let mut done = 0;
        loop {
            done += sink.put(info.as_bytes())?;
            if sink.remaining() < SIZE {
                return Ok(done);
            }
            match self.source.take(mask) {
                Some(next) => info = next,
                None => return Ok(done),
            }
        }
    }

    fn poll(&self, _file: &OpenFile) -> Events {
        let mask = *self.mask.lock();
        if self.source.pending() & mask != 0 { Events::IN | Events::RDNORM } else { Events::empty() }
    }

    fn queues<'a>(&'a self, _file: &OpenFile, queues: &mut Queues<'a>) {
        queues.push(self.source.queue());
    }

    fn fdinfo(&self, out: &mut Vec<u8>) {
        let mask = *self.mask.lock();
        out.extend_from_slice(alloc::format!("sigmask:\t{mask:016x}\n").as_bytes());
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
