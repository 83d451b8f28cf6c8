//! Terminals: pty(7), console, controlling terminals and job control (tty_ioctl(4), credentials(7)).

mod ioctl;
pub mod ldisc;
mod master;
mod slave;

pub use master::open_ptmx;
pub use slave::open_slave;

use crate::errno::{Errno, Result};
use crate::host::streams;
use crate::kernel::task::CurrentTask;
use crate::mm::frames::page::KernelPage;
use crate::sync::{Events, SpinLock, WaitQueue};
use crate::vfs::file::{FileOps, OpenRequest};
use crate::vfs::inode::{Attr, makedev};
use crate::vfs::uapi::{Termios, Winsize};
use crate::vfs::{OpenFile, hooks};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use ldisc::{Ldisc, Signals};
use linux_raw_sys::general as c;
use zerocopy::IntoBytes;

/// Most pseudoterminals, /proc/sys/kernel/pty/max.
const MAX_PTYS: u32 = 4096;

struct State {
    ldisc: Ldisc,
    /// What of the settings cannot be changed: bits that are set, and characters that are not 0.
    locked: Termios,
    winsize: Winsize,
    session: u32,
    foreground: u32,
    packet: bool,
    packet_status: u8,
}

/// A terminal: the slave's side, and what its master needs.
pub struct Tty {
    /// Number in /dev/pts.
    pub index: u32,
    /// The host stream that is its master, for the console.
    stream: Option<u32>,
    state: SpinLock<State>,
    /// Owner and mode of /dev/pts/N.
    pub attr: SpinLock<Attr>,
    /// Woken for the slave.
    queue: WaitQueue,
    /// Woken for the master.
    master_queue: WaitQueue,
    slaves: AtomicU32,
    master_open: AtomicBool,
    /// The slave was open before.
    used: AtomicBool,
    locked: AtomicBool,
    /// Who moves bytes from the host stream.
    pump_in: SpinFlag,
    /// Who moves bytes to the host stream.
    pump_out: SpinFlag,
}

/// A flag for work that one does at a time: who finds it taken leaves a note that there is more to do. Nobody waits,
/// since events come outside of tasks.
#[derive(Default)]
struct SpinFlag {
    busy: AtomicBool,
    again: AtomicBool,
}

impl SpinFlag {
    fn run(&self, mut work: impl FnMut()) {
        self.again.store(true, Ordering::SeqCst);
        while self.again.load(Ordering::SeqCst) && !self.busy.swap(true, Ordering::SeqCst) {
            while self.again.swap(false, Ordering::SeqCst) {
                work();
            }
            self.busy.store(false, Ordering::SeqCst);
        }
    }
}

static PTYS: SpinLock<BTreeMap<u32, Arc<Tty>>> = SpinLock::new(BTreeMap::new());
/// Controlling terminals, by session.
static SESSIONS: SpinLock<BTreeMap<u32, Arc<Tty>>> = SpinLock::new(BTreeMap::new());
static CONSOLE: SpinLock<Option<Arc<Tty>>> = SpinLock::new(None);

impl Tty {
    fn make(index: u32, stream: Option<u32>, owner: (u32, u32)) -> Arc<Self> {
        Arc::new(Self {
            index,
            stream,
            state: SpinLock::new(State {
                ldisc: Ldisc::new(),
                locked: Termios::default(),
                winsize: Winsize::default(),
                session: 0,
                foreground: 0,
                packet: false,
                packet_status: 0,
            }),
            attr: SpinLock::new(Attr { mode: c::S_IFCHR | 0o620, uid: owner.0, gid: owner.1 }),
            queue: WaitQueue::new(),
            master_queue: WaitQueue::new(),
            slaves: AtomicU32::new(0),
            master_open: AtomicBool::new(true),
            used: AtomicBool::new(false),
            locked: AtomicBool::new(stream.is_none()),
            pump_in: SpinFlag::default(),
            pump_out: SpinFlag::default(),
        })
    }

    /// A new pseudoterminal.
    ///
    /// # Errors
    /// ENOSPC where there are too many.
    pub fn new_pty(uid: u32, gid: u32) -> Result<Arc<Self>> {
        let mut ptys = PTYS.lock();
        let index = (0..MAX_PTYS).find(|n| !ptys.contains_key(n)).ok_or(Errno::ENOSPC)?;
        let tty = Self::make(index, None, (uid, gid));
        ptys.insert(index, tty.clone());
        Ok(tty)
    }

    /// A terminal whose master is a stream of the host. The first of a container is its console.
    pub fn new_console(stream: u32, rows: u16, cols: u16, uid: u32) -> Arc<Self> {
        let tty = {
            let mut ptys = PTYS.lock();
            let index = (0..MAX_PTYS).find(|n| !ptys.contains_key(n)).unwrap_or(MAX_PTYS);
            let tty = Self::make(index, Some(stream), (uid, 5));
            ptys.insert(index, tty.clone());
            tty
        };
        let mut size = Winsize { rows, cols, ..Winsize::default() };
        if rows == 0 || cols == 0 {
            let _ = streams::terminal(stream, linux_raw_sys::ioctl::TIOCGWINSZ, size.as_mut_bytes());
        }
        tty.state.lock().winsize = size;
        CONSOLE.lock().get_or_insert_with(|| tty.clone());
        let _ = streams::poll(stream, c::POLLIN);
        tty
    }

    /// Device number of the slave.
    pub fn rdev(&self) -> u64 {
        makedev(136 + self.index / 256, self.index % 256)
    }

    fn hung_up(&self) -> bool {
        !self.master_open.load(Ordering::Acquire)
    }

    /// Passes signals of input on to the foreground process group.
    fn deliver(&self, signals: Signals) {
        if signals.is_empty() {
            return;
        }
        let group = self.state.lock().foreground;
        for signal in signals {
            if group != 0 {
                hooks::kernel().signal_group(group, signal);
            }
        }
    }

    /// Takes input from the master's side.
    fn receive(&self, bytes: &[u8]) {
        let signals = self.state.lock().ldisc.input(bytes);
        self.deliver(signals);
        self.queue.wake(Events::IN | Events::RDNORM | Events::OUT | Events::WRNORM);
        self.flush();
    }

    /// Output is there: wakes the master, or writes to the host stream.
    fn flush(&self) {
        match self.stream {
            None => self.master_queue.wake(Events::IN | Events::RDNORM),
            Some(stream) => self.pump_out.run(|| self.pump_output(stream)),
        }
    }

    fn pump_output(&self, stream: u32) {
        let Ok(page) = KernelPage::alloc() else { return };
        loop {
            let (chunk, mark) = self.state.lock().ldisc.outgoing(page.len());
            if chunk.is_empty() {
                return;
            }
            page.write(0, &chunk);
            match streams::write(stream, &page, chunk.len()) {
                Ok(n) => {
                    self.state.lock().ldisc.gone(n, mark);
                    self.queue.wake(Events::OUT | Events::WRNORM);
                }
                Err(Errno::EAGAIN) => {
                    if streams::poll(stream, c::POLLOUT).is_ok_and(|e| e & c::POLLOUT != 0) {
                        continue;
                    }
                    return;
                }
                Err(_) => {
                    // Nobody can see the output any more.
                    self.state.lock().ldisc.flush_output();
                    return;
                }
            }
        }
    }

    fn pump_input(&self, stream: u32) {
        let Ok(page) = KernelPage::alloc() else { return };
        loop {
            if !self.state.lock().ldisc.accepts() {
                return;
            }
            match streams::read(stream, &page, 1024) {
                Ok(0) => return self.hang_up(),
                Ok(n) => {
                    let mut bytes = alloc::vec![0; n.min(page.len())];
                    page.read(0, &mut bytes);
                    let signals = self.state.lock().ldisc.input(&bytes);
                    self.deliver(signals);
                    // Writers too: output that was stopped may have been started again.
                    self.queue.wake(Events::IN | Events::RDNORM | Events::OUT | Events::WRNORM);
                }
                Err(Errno::EAGAIN) => {
                    if streams::poll(stream, c::POLLIN).is_ok_and(|e| e & (c::POLLIN | c::POLLHUP) != 0) {
                        continue;
                    }
                    return;
                }
                Err(_) => return self.hang_up(),
            }
        }
    }

    /// The host says that the console's stream may be ready.
    fn stream_event(&self) {
        let Some(stream) = self.stream else { return };
        self.pump_in.run(|| {
            if !self.hung_up() {
                self.pump_input(stream);
            }
        });
        self.flush();
    }

    /// The master went away: SIGHUP and SIGCONT to the session's leader and the foreground, and no more data.
    fn hang_up(&self) {
        if !self.master_open.swap(false, Ordering::AcqRel) {
            return;
        }
        let (session, group) = {
            let mut state = self.state.lock();
            (core::mem::take(&mut state.session), core::mem::take(&mut state.foreground))
        };
        if session != 0 {
            let old = SESSIONS.lock().remove(&session);
            drop(old);
            hooks::kernel().signal_process(session, c::SIGHUP);
            hooks::kernel().signal_process(session, c::SIGCONT);
        }
        if group != 0 && group != session {
            hooks::kernel().signal_group(group, c::SIGHUP);
            hooks::kernel().signal_group(group, c::SIGCONT);
        }
        self.queue.wake(Events::HUP | Events::IN | Events::OUT);
    }

    /// Window size.
    pub fn winsize(&self) -> Winsize {
        self.state.lock().winsize
    }

    /// Takes the window size of the host's terminal.
    pub fn read_winsize(&self) {
        let Some(stream) = self.stream else { return };
        let mut size = Winsize::default();
        if streams::terminal(stream, linux_raw_sys::ioctl::TIOCGWINSZ, size.as_mut_bytes()).is_ok() {
            self.set_winsize(size);
        }
    }

    /// Sets the window size; SIGWINCH tells the foreground process group of a change.
    pub fn set_winsize(&self, size: Winsize) {
        let group = {
            let mut state = self.state.lock();
            let old = state.winsize;
            state.winsize = size;
            let changed = old.as_bytes() != size.as_bytes();
            if changed { state.foreground } else { 0 }
        };
        if group != 0 {
            hooks::kernel().signal_group(group, c::SIGWINCH);
        }
    }

    /// Makes it the controlling terminal of a session.
    pub fn set_session(self: &Arc<Self>, sid: u32, pgid: u32) {
        {
            let mut state = self.state.lock();
            state.session = sid;
            state.foreground = pgid;
        }
        let old = SESSIONS.lock().insert(sid, self.clone());
        drop(old);
    }

    /// Session and foreground process group, 0 for none.
    pub fn session(&self) -> (u32, u32) {
        let state = self.state.lock();
        (state.session, state.foreground)
    }
}

/// Process, process group and session of the caller.
struct Ids {
    pid: u32,
    pgid: u32,
    sid: u32,
}

fn ids() -> Option<Ids> {
    let (pid, _) = hooks::kernel().current()?;
    let info = hooks::kernel().ids(pid)?;
    Some(Ids { pid, pgid: info.0, sid: info.1 })
}

/// The controlling terminal of a session.
pub fn controlling(sid: u32) -> Option<Arc<Tty>> {
    SESSIONS.lock().get(&sid).cloned()
}

/// The terminal in /dev/pts with a number.
pub fn by_index(index: u32) -> Option<Arc<Tty>> {
    PTYS.lock().get(&index).cloned()
}

/// Numbers of the terminals in /dev/pts.
pub fn indices() -> Vec<u32> {
    PTYS.lock().keys().copied().collect()
}

/// The container's console.
pub fn console() -> Option<Arc<Tty>> {
    CONSOLE.lock().clone()
}

/// A session's leader has ended: its terminal becomes free, the foreground gets SIGHUP and SIGCONT.
pub fn session_ended(sid: u32) {
    let Some(tty) = SESSIONS.lock().remove(&sid) else { return };
    let group = {
        let mut state = tty.state.lock();
        state.session = 0;
        core::mem::take(&mut state.foreground)
    };
    if group != 0 {
        hooks::kernel().signal_group(group, c::SIGHUP);
        hooks::kernel().signal_group(group, c::SIGCONT);
    }
}

/// A terminal was opened without O_NOCTTY: a session leader without one takes it as its controlling terminal.
pub fn opened(_task: &CurrentTask, file: &OpenFile) {
    let Some(slave) = file.downcast::<slave::Slave>() else { return };
    let Some(ids) = ids() else { return };
    let tty = slave.tty();
    if ids.pid == ids.sid && controlling(ids.sid).is_none() && tty.session().0 == 0 && file.can_read() {
        tty.set_session(ids.sid, ids.pgid);
    }
}

/// Opens /dev/tty, /dev/console, /dev/ptmx and /dev/pts/N by their numbers.
///
/// # Errors
/// ENXIO where there is none.
pub fn open_device(major: u32, minor: u32, request: &OpenRequest<'_>) -> Result<Arc<dyn FileOps>> {
    match (major, minor) {
        (5, 0) => {
            let tty = ids().and_then(|i| controlling(i.sid)).ok_or(Errno::ENXIO)?;
            open_slave(&tty)
        }
        (5, 1) => open_slave(&console().ok_or(Errno::ENXIO)?),
        (5, 2) => open_ptmx(request),
        (136..=143, minor) => open_slave(&by_index((major - 136) * 256 + minor).ok_or(Errno::ENXIO)?),
        _ => Err(Errno::ENXIO),
    }
}

/// The host says that streams may be ready (EVENT_STREAM).
pub fn stream_event() {
    let of_host: Vec<Arc<Tty>> = PTYS.lock().values().filter(|tty| tty.stream.is_some()).cloned().collect();
    of_host.iter().for_each(|tty| tty.stream_event());
}

/// The host says that the console's window has another size (EVENT_WINCH).
pub fn winch_event() {
    if let Some(tty) = console() {
        tty.read_winsize();
    }
}

/// The process that a terminal of the host was made for has ended: the terminal goes, once its output has.
pub fn release(tty: &Arc<Tty>) {
    if let Some(stream) = tty.stream {
        tty.flush();
        tty.hang_up();
        let old = PTYS.lock().remove(&tty.index);
        drop(old);
        streams::close(stream);
    }
}
