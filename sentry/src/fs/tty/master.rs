//! The master of a pseudoterminal, ptmx(4).

use super::{PTYS, Tty, ioctl as requests};
use crate::errno::{Errno, Result};
use crate::kernel::task::CurrentTask;
use crate::mm::io::{Sink, Source};
use crate::sync::Events;
use crate::vfs::file::{FileOps, OpenFile, OpenRequest, Queues};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::Ordering;

/// An open master.
pub struct Master {
    tty: Arc<Tty>,
}

/// Opens /dev/ptmx: makes a pseudoterminal.
///
/// # Errors
/// ENOSPC where there are too many.
pub fn open_ptmx(request: &OpenRequest<'_>) -> Result<Arc<dyn FileOps>> {
    let tty = Tty::new_pty(request.cred.fsuid, 5)?;
    Ok(Arc::new(Master { tty }))
}

impl Master {
    fn slave_gone(&self) -> bool {
        self.tty.used.load(Ordering::Acquire) && self.tty.slaves.load(Ordering::Acquire) == 0
    }

    fn try_read(&self, sink: &mut dyn Sink) -> Result<usize> {
        let (data, packet) = {
            let mut state = self.tty.state.lock();
            if state.packet && state.packet_status != 0 {
                let status = core::mem::take(&mut state.packet_status);
                (alloc::vec![status], false)
            } else {
                let packet = state.packet;
                let max = sink.remaining().saturating_sub(usize::from(packet)).min(4096);
                let n = state.ldisc.out.len().min(max);
                (state.ldisc.out.drain(..n).collect::<Vec<u8>>(), packet)
            }
        };
        if data.is_empty() {
            return Err(if self.slave_gone() { Errno::EIO } else { Errno::EAGAIN });
        }
        self.tty.queue.wake(Events::OUT | Events::WRNORM);
        if packet {
            sink.put(&[0])?;
            return Ok(sink.put(&data)? + 1);
        }
        sink.put(&data)
    }
}

impl FileOps for Master {
    fn read(&self, file: &OpenFile, sink: &mut dyn Sink, _offset: u64) -> Result<usize> {
        if sink.remaining() == 0 {
            return Ok(0);
        }
        file.block_on(Events::IN, || self.try_read(sink))
    }

    fn write(&self, file: &OpenFile, source: &mut dyn Source, _offset: u64) -> Result<usize> {
        let mut done = 0;
        let mut buf = [0u8; 512];
        while source.remaining() > 0 {
            let room = file.block_on(Events::OUT, || {
                if self.tty.state.lock().ldisc.accepts() { Ok(()) } else { Err(Errno::EAGAIN) }
            });
            let taken = room.and_then(|()| source.take(&mut buf));
            match taken {
                Ok(0) => break,
                Ok(n) => {
                    self.tty.receive(buf.get(..n).unwrap_or_default());
                    done += n;
                }
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn poll(&self, _file: &OpenFile) -> Events {
        let mut events = Events::empty();
        {
            let state = self.tty.state.lock();
            if !state.ldisc.out.is_empty() {
                events |= Events::IN | Events::RDNORM;
            }
            if state.packet && state.packet_status != 0 {
                events |= Events::PRI | Events::IN | Events::RDNORM;
            }
            if state.ldisc.accepts() {
                events |= Events::OUT | Events::WRNORM;
            }
        }
        if self.slave_gone() {
            events |= Events::HUP;
        }
        events
    }

    fn can_async(&self) -> bool {
        true
    }

    fn queues<'a>(&'a self, _file: &OpenFile, queues: &mut Queues<'a>) {
        queues.push(&self.tty.master_queue);
    }

    fn ioctl(&self, task: &CurrentTask, file: &OpenFile, request: u32, arg: u64) -> Result<u64> {
        requests::master(task, &self.tty, file, request, arg)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        let gone = PTYS.lock().remove(&self.tty.index);
        drop(gone);
        self.tty.hang_up();
    }
}
