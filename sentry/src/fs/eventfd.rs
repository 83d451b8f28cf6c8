//! eventfd(2).

use crate::errno::{Errno, Result};
use crate::mm::io::{Sink, Source};
use crate::sync::{Events, SpinLock, WaitQueue};
use crate::vfs::anon;
use crate::vfs::file::{FileOps, OpenFile, Queues};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use linux_raw_sys::general as c;

/// A counter.
pub struct EventFd {
    count: SpinLock<u64>,
    semaphore: bool,
    queue: WaitQueue,
}

/// A new counter; `flags` for the description.
pub fn new(initial: u32, semaphore: bool, flags: u32) -> Arc<OpenFile> {
    let event = EventFd { count: SpinLock::new(initial.into()), semaphore, queue: WaitQueue::new() };
    anon::file("eventfd", Arc::new(event), c::O_RDWR | flags)
}

impl EventFd {
    fn take(&self) -> Result<u64> {
        let mut count = self.count.lock();
        if *count == 0 {
            return Err(Errno::EAGAIN);
        }
        let value = if self.semaphore { 1 } else { *count };
        *count -= value;
        Ok(value)
    }

    /// Adds one, as a result of io_submit(2) does; a counter that is full stays so.
    pub fn signal(&self) {
        let _ = self.try_add(1);
        self.queue.wake(Events::IN | Events::RDNORM);
    }

    fn try_add(&self, n: u64) -> Result<()> {
        let mut count = self.count.lock();
        *count = count.checked_add(n).filter(|v| *v < u64::MAX).ok_or(Errno::EAGAIN)?;
        Ok(())
    }
}

impl FileOps for EventFd {
    fn read(&self, file: &OpenFile, sink: &mut dyn Sink, _offset: u64) -> Result<usize> {
        if sink.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let value = file.block_on(Events::IN, || self.take())?;
        self.queue.wake(Events::OUT | Events::WRNORM);
        sink.put(&value.to_le_bytes())
    }

    fn write(&self, file: &OpenFile, source: &mut dyn Source, _offset: u64) -> Result<usize> {
        if source.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let mut raw = [0; 8];
        if source.take(&mut raw)? < 8 {
            return Err(Errno::EFAULT);
        }
        let n = u64::from_le_bytes(raw);
        if n == u64::MAX {
            return Err(Errno::EINVAL);
        }
        file.block_on(Events::OUT, || self.try_add(n))?;
        self.queue.wake(Events::IN | Events::RDNORM);
        Ok(8)
    }

    fn poll(&self, _file: &OpenFile) -> Events {
        let count = *self.count.lock();
        let mut events = Events::empty();
        if count > 0 {
            events |= Events::IN | Events::RDNORM;
        }
        if count < u64::MAX - 1 {
            events |= Events::OUT | Events::WRNORM;
        }
        events
    }

    fn queues<'a>(&'a self, _file: &OpenFile, queues: &mut Queues<'a>) {
        queues.push(&self.queue);
    }

    fn fdinfo(&self, out: &mut Vec<u8>) {
        let count = *self.count.lock();
        out.extend_from_slice(alloc::format!("eventfd-count: {count:16x}\n").as_bytes());
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
