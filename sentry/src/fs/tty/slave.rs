//! The slave of a terminal: what programs read and write.

use super::ioctl as requests;
use super::{Tty, ids};
use crate::errno::{Errno, Result};
use crate::kernel::task::CurrentTask;
use crate::kernel::wait::{self, WaitError};
use crate::mm::io::{Sink, Source};
use crate::sync::Events;
use crate::vfs::file::{FileOps, OpenFile, Queues};
use crate::vfs::hooks;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as c;

/// An open slave.
pub struct Slave {
    tty: Arc<Tty>,
}

/// Opens the slave of a terminal.
///
/// # Errors
/// EIO while it is locked or after the master was closed.
pub fn open_slave(tty: &Arc<Tty>) -> Result<Arc<dyn FileOps>> {
    if tty.hung_up() || tty.locked.load(Ordering::Acquire) {
        return Err(Errno::EIO);
    }
    tty.slaves.fetch_add(1, Ordering::AcqRel);
    tty.used.store(true, Ordering::Release);
    Ok(Arc::new(Slave { tty: tty.clone() }))
}

/// Job control: a process of the background that reads, or writes where that is not wished, is stopped.
pub(super) fn check_background(tty: &Tty, signal: u32) -> Result<()> {
    let Some(ids) = ids() else { return Ok(()) };
    let (session, foreground) = tty.session();
    if session != ids.sid || foreground == 0 || foreground == ids.pgid {
        return Ok(());
    }
    let (ignored, orphaned) = hooks::kernel().stop_refused(signal);
    match signal {
        c::SIGTTIN if ignored || orphaned => Err(Errno::EIO),
        c::SIGTTOU if ignored => Ok(()),
        c::SIGTTOU if orphaned => Err(Errno::EIO),
        _ => {
            hooks::kernel().signal_group(ids.pgid, signal);
            Err(Errno::RESTART_SYS)
        }
    }
}

impl Slave {
    /// The terminal.
    pub fn tty(&self) -> &Arc<Tty> {
        &self.tty
    }

    fn take(&self, max: usize) -> Option<Vec<u8>> {
        self.tty.state.lock().ldisc.read(max)
    }

    /// The console's input may wait on the host because there was no room.
    fn made_room(&self) {
        if self.tty.stream.is_some() {
            self.tty.stream_event();
        } else {
            self.tty.master_queue.wake(Events::OUT | Events::WRNORM);
        }
    }

    /// Waits for input as the settings say; `Ok(None)` is the end.
    fn wait_input(&self, file: &OpenFile, max: usize) -> Result<Option<Vec<u8>>> {
        let tty = &self.tty;
        let (canonical, (min, time)) = {
            let state = tty.state.lock();
            (state.ldisc.canonical(), state.ldisc.min_time())
        };
        let queue = [(&tty.queue, Events::IN)];
        let enough = |n: usize| canonical || n >= min.min(max).max(1);
        let ready = || {
            let readable = tty.state.lock().ldisc.readable();
            match readable {
                Some(n) if enough(n) => Some(self.take(max)),
                _ if tty.hung_up() => Some(self.take(max)),
                _ => None,
            }
        };
        if let Some(data) = ready() {
            return Ok(data);
        }
        if file.nonblock() {
            return self.take(max).map(Some).ok_or(Errno::EAGAIN);
        }
        if canonical || time == 0 {
            if !canonical && min == 0 {
                return Ok(Some(Vec::new()));
            }
            return Ok(wait::wait_until(&queue, None, ready)?);
        }
        // With VTIME: from the start where VMIN is 0, else between bytes.
        let mut seen = 0;
        if min != 0 {
            let first = || {
                let n = tty.state.lock().ldisc.readable();
                if tty.hung_up() { Some(n.unwrap_or(0)) } else { n }
            };
            seen = wait::wait_until(&queue, None, first)?;
        }
        loop {
            let deadline = crate::time::monotonic_ns() + time * 100_000_000;
            let more = || {
                let n = tty.state.lock().ldisc.readable().unwrap_or(0);
                (n > seen || tty.hung_up()).then_some(n)
            };
            match wait::wait_until(&queue, Some(deadline), more) {
                Ok(n) if enough(n) || tty.hung_up() => return Ok(self.take(max)),
                Ok(n) => seen = n,
                Err(WaitError::TimedOut) => return Ok(Some(self.take(max).unwrap_or_default())),
                Err(e) => return Err(e.into()),
            }
        }
    }
}

impl FileOps for Slave {
    fn read(&self, file: &OpenFile, sink: &mut dyn Sink, _offset: u64) -> Result<usize> {
        if sink.remaining() == 0 {
            return Ok(0);
        }
        check_background(&self.tty, c::SIGTTIN)?;
        let Some(data) = self.wait_input(file, sink.remaining().min(4096))? else { return Ok(0) };
        self.made_room();
        sink.put(&data)
    }

    fn write(&self, file: &OpenFile, source: &mut dyn Source, _offset: u64) -> Result<usize> {
        let tty = &self.tty;
        if tty.state.lock().ldisc.termios.lflag & c::TOSTOP != 0 {
            check_background(tty, c::SIGTTOU)?;
        }
        let mut done = 0;
        let mut buf = [0u8; 1024];
        while source.remaining() > 0 {
            let n = match source.take(&mut buf) {
                Ok(n) => n,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            };
            let mut rest = buf.get(..n).unwrap_or_default();
            while !rest.is_empty() {
                if tty.hung_up() {
                    return if done == 0 { Err(Errno::EIO) } else { Ok(done) };
                }
                let put = tty.state.lock().ldisc.output(rest);
                rest = rest.get(put..).unwrap_or_default();
                done += put;
                tty.flush();
                if rest.is_empty() || put > 0 && tty.state.lock().ldisc.writable() {
                    continue;
                }
                if file.nonblock() {
                    return if done == 0 { Err(Errno::EAGAIN) } else { Ok(done) };
                }
                let ready = || (tty.state.lock().ldisc.writable() || tty.hung_up()).then_some(());
                if let Err(e) = wait::wait_until(&[(&tty.queue, Events::OUT)], None, ready) {
                    return if done == 0 { Err(e.into()) } else { Ok(done) };
                }
            }
        }
        Ok(done)
    }

    fn poll(&self, _file: &OpenFile) -> Events {
        let mut events = Events::empty();
        {
            let state = self.tty.state.lock();
            let (min, time) = state.ldisc.min_time();
            let least = if time == 0 && !state.ldisc.canonical() { min.max(1) } else { 1 };
            if state.ldisc.readable().is_some_and(|n| state.ldisc.canonical() || n >= least) {
                events |= Events::IN | Events::RDNORM;
            }
            if state.ldisc.writable() {
                events |= Events::OUT | Events::WRNORM;
            }
        }
        if self.tty.hung_up() {
            events |= Events::IN | Events::RDNORM | Events::OUT | Events::ERR | Events::HUP;
        }
        events
    }

    fn can_async(&self) -> bool {
        true
    }

    fn queues<'a>(&'a self, _file: &OpenFile, queues: &mut Queues<'a>) {
        queues.push(&self.tty.queue);
    }

    fn ioctl(&self, task: &CurrentTask, _file: &OpenFile, request: u32, arg: u64) -> Result<u64> {
        if self.tty.hung_up() {
            return Err(Errno::EIO);
        }
        requests::terminal(task, &self.tty, request, arg, false)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl Drop for Slave {
    fn drop(&mut self) {
        if self.tty.slaves.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.tty.master_queue.wake(Events::HUP | Events::IN);
        }
    }
}
