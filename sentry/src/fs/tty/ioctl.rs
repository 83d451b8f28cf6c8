//! Requests on terminals, ioctl_tty(2).

use super::slave::{check_background, open_slave};
use super::{SESSIONS, Tty, controlling, ids};
use crate::errno::{Errno, Result};
use crate::kernel::cred::cap;
use crate::kernel::task::CurrentTask;
use crate::sync::Events;
use crate::vfs::file::OpenFile;
use crate::vfs::hooks;
use crate::vfs::uapi::{Termio, Termios, Termios2, Winsize};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as c;
use linux_raw_sys::ioctl as i;

// Not in linux-raw-sys: arguments of TCFLSH and TCXONC, and status bits of packet mode, from asm-generic/termbits.h
// and asm-generic/ioctls.h.
const TCIFLUSH: u64 = 0;
const TCOFLUSH: u64 = 1;
const TCIOFLUSH: u64 = 2;
const TCOOFF: u64 = 0;
const TCOON: u64 = 1;
const TIOCPKT_FLUSHREAD: u8 = 1;
const TIOCPKT_FLUSHWRITE: u8 = 2;

/// Control characters that struct termio has: NCC.
const OLD_CHARACTERS: usize = 8;

/// `new` with what `locked` has set taken from `old`: TIOCSLCKTRMIOS.
fn keep_locked(new: Termios, old: &Termios, locked: &Termios) -> Termios {
    let keep = |new: u32, old: u32, locked: u32| new & !locked | old & locked;
    let mut cc = new.cc;
    for ((to, from), locked) in cc.iter_mut().zip(old.cc).zip(locked.cc) {
        if locked != 0 {
            *to = from;
        }
    }
    Termios {
        iflag: keep(new.iflag, old.iflag, locked.iflag),
        oflag: keep(new.oflag, old.oflag, locked.oflag),
        cflag: keep(new.cflag, old.cflag, locked.cflag),
        lflag: keep(new.lflag, old.lflag, locked.lflag),
        line: if locked.line != 0 { old.line } else { new.line },
        cc,
    }
}

/// The settings in the form of System V, which leaves the upper halves out.
fn old_form(t: &Termios) -> Termio {
    let mut out = Termio {
        iflag: t.iflag as u16,
        oflag: t.oflag as u16,
        cflag: t.cflag as u16,
        lflag: t.lflag as u16,
        line: t.line,
        ..Termio::default()
    };
    out.cc.copy_from_slice(&t.cc[..OLD_CHARACTERS]);
    out
}

/// What settings become by those of System V.
fn with_old_form(mut t: Termios, old: &Termio) -> Termios {
    let low = |whole: u32, half: u16| whole & 0xffff_0000 | u32::from(half);
    t.iflag = low(t.iflag, old.iflag);
    t.oflag = low(t.oflag, old.oflag);
    t.cflag = low(t.cflag, old.cflag);
    t.lflag = low(t.lflag, old.lflag);
    t.line = old.line;
    t.cc[..OLD_CHARACTERS].copy_from_slice(&old.cc);
    t
}

fn set_termios(tty: &Tty, new: Termios, request: u32) {
    {
        let mut state = tty.state.lock();
        let new = keep_locked(new, &state.ldisc.termios, &state.locked);
        if matches!(request, i::TCSETSF | i::TCSETSF2 | i::TCSETAF) {
            state.ldisc.flush_input();
        }
        state.ldisc.set_termios(new);
    }
    tty.queue.wake(Events::IN | Events::OUT);
    tty.flush();
}

/// Requests that both sides know; `master`: through the master.
pub fn terminal(task: &CurrentTask, tty: &Arc<Tty>, request: u32, arg: u64, master: bool) -> Result<u64> {
    match request {
        i::TCGETS => {
            let termios = tty.state.lock().ldisc.termios;
            task.write_obj(arg, &termios)?;
        }
        i::TCGETS2 => {
            let t = tty.state.lock().ldisc.termios;
            let t2 = Termios2 {
                iflag: t.iflag,
                oflag: t.oflag,
                cflag: t.cflag,
                lflag: t.lflag,
                line: t.line,
                cc: t.cc,
                ispeed: 38400,
                ospeed: 38400,
            };
            task.write_obj(arg, &t2)?;
        }
        i::TCSETS | i::TCSETSW | i::TCSETSF => {
            let new: Termios = task.read_obj(arg)?;
            if !master {
                check_background(tty, c::SIGTTOU)?;
            }
            set_termios(tty, new, request);
        }
        i::TCSETS2 | i::TCSETSW2 | i::TCSETSF2 => {
            let t: Termios2 = task.read_obj(arg)?;
            if !master {
                check_background(tty, c::SIGTTOU)?;
            }
            let new = Termios {
                iflag: t.iflag,
                oflag: t.oflag,
                cflag: t.cflag,
                lflag: t.lflag,
                line: t.line,
                cc: t.cc,
            };
            set_termios(tty, new, request);
        }
        i::TCGETA => {
            let termios = tty.state.lock().ldisc.termios;
            task.write_obj(arg, &old_form(&termios))?;
        }
        i::TCSETA | i::TCSETAW | i::TCSETAF => {
            let old: Termio = task.read_obj(arg)?;
            if !master {
                check_background(tty, c::SIGTTOU)?;
            }
            let termios = tty.state.lock().ldisc.termios;
            set_termios(tty, with_old_form(termios, &old), request);
        }
        i::TIOCGLCKTRMIOS => {
            let locked = tty.state.lock().locked;
            task.write_obj(arg, &locked)?;
        }
        i::TIOCSLCKTRMIOS => {
            if !task.cred().has(cap::SYS_ADMIN) {
                return Err(Errno::EPERM);
            }
            let locked: Termios = task.read_obj(arg)?;
            tty.state.lock().locked = locked;
        }
        i::TIOCGWINSZ => task.write_obj(arg, &tty.winsize())?,
        i::TIOCSWINSZ => {
            let size: Winsize = task.read_obj(arg)?;
            tty.set_winsize(size);
        }
        i::FIONREAD if !master => {
            let n = tty.state.lock().ldisc.pending();
            task.write_obj(arg, &(n as i32))?;
        }
        i::TIOCOUTQ => {
            let n = tty.state.lock().ldisc.out.len();
            task.write_obj(arg, &(n as i32))?;
        }
        i::TCFLSH => flush(tty, arg, master)?,
        i::TCXONC => {
            let mut state = tty.state.lock();
            match arg {
                TCOOFF => state.ldisc.stopped = true,
                TCOON => state.ldisc.stopped = false,
                2 | 3 => {}
                _ => return Err(Errno::EINVAL),
            }
            drop(state);
            tty.queue.wake(Events::OUT | Events::WRNORM);
        }
        i::TCSBRK | i::TCSBRKP | i::TIOCSBRK | i::TIOCCBRK | i::TIOCEXCL | i::TIOCNXCL => {}
        i::TIOCGEXCL | i::TIOCGETD => task.write_obj(arg, &0i32)?,
        i::TIOCSETD => {
            let n: i32 = task.read_obj(arg)?;
            if n != 0 {
                return Err(Errno::EINVAL);
            }
        }
        i::TIOCMGET => return Err(Errno::ENOTTY),
        i::TIOCSTI => return Err(Errno::EIO),
        _ => return job_control(task, tty, request, arg, master),
    }
    Ok(0)
}

fn flush(tty: &Tty, what: u64, master: bool) -> Result<()> {
    // Seen from the master, input is what the slave wrote.
    let (input, output) = match what {
        TCIFLUSH => (!master, master),
        TCOFLUSH => (master, !master),
        TCIOFLUSH => (true, true),
        _ => return Err(Errno::EINVAL),
    };
    let mut state = tty.state.lock();
    if input {
        state.ldisc.flush_input();
        state.packet_status |= TIOCPKT_FLUSHREAD;
    }
    if output {
        state.ldisc.flush_output();
        state.packet_status |= TIOCPKT_FLUSHWRITE;
    }
    drop(state);
    tty.queue.wake(Events::OUT | Events::WRNORM);
    tty.master_queue.wake(Events::OUT | Events::WRNORM | Events::PRI);
    Ok(())
}

fn job_control(task: &CurrentTask, tty: &Arc<Tty>, request: u32, arg: u64, master: bool) -> Result<u64> {
    let ids = ids().ok_or(Errno::ENOTTY)?;
    let mine = tty.session().0 == ids.sid && tty.session().0 != 0;
    match request {
        i::TIOCSCTTY => {
            if mine && ids.pid == ids.sid {
                return Ok(0);
            }
            if ids.pid != ids.sid || controlling(ids.sid).is_some() {
                return Err(Errno::EPERM);
            }
            let other = tty.session().0;
            if other != 0 {
                if arg != 1 || !task.cred().has(cap::SYS_ADMIN) {
                    return Err(Errno::EPERM);
                }
                let old = SESSIONS.lock().remove(&other);
                drop(old);
            }
            tty.set_session(ids.sid, ids.pgid);
        }
        i::TIOCNOTTY => {
            if !mine {
                return Err(Errno::ENOTTY);
            }
            if ids.pid == ids.sid {
                super::session_ended(ids.sid);
            }
        }
        i::TIOCGPGRP => {
            if !mine && !master {
                return Err(Errno::ENOTTY);
            }
            task.write_obj(arg, &(tty.session().1 as i32))?;
        }
        i::TIOCSPGRP => {
            let pgid: i32 = task.read_obj(arg)?;
            check_background(tty, c::SIGTTOU)?;
            if !mine {
                return Err(Errno::ENOTTY);
            }
            let pgid = u32::try_from(pgid).map_err(|_| Errno::EINVAL)?;
            if !hooks::kernel().group_in_session(pgid, ids.sid) {
                return Err(Errno::EPERM);
            }
            tty.state.lock().foreground = pgid;
        }
        i::TIOCGSID => {
            if !mine && !master || tty.session().0 == 0 {
                return Err(Errno::ENOTTY);
            }
            task.write_obj(arg, &(tty.session().0 as i32))?;
        }
        _ => return Err(Errno::ENOTTY),
    }
    Ok(0)
}

/// Requests of the master.
pub fn master(task: &CurrentTask, tty: &Arc<Tty>, file: &OpenFile, request: u32, arg: u64) -> Result<u64> {
    match request {
        i::TIOCGPTN => task.write_obj(arg, &tty.index)?,
        i::TIOCSPTLCK => {
            let on: i32 = task.read_obj(arg)?;
            tty.locked.store(on != 0, Ordering::Release);
        }
        i::TIOCGPTLCK => task.write_obj(arg, &i32::from(tty.locked.load(Ordering::Acquire)))?,
        i::TIOCPKT => {
            let on: i32 = task.read_obj(arg)?;
            let mut state = tty.state.lock();
            state.packet = on != 0;
            state.packet_status = 0;
        }
        i::TIOCGPKT => {
            let on = tty.state.lock().packet;
            task.write_obj(arg, &i32::from(on))?;
        }
        i::TIOCGPTPEER => return open_peer(task, tty, file, arg as u32),
        i::FIONREAD => {
            let n = tty.state.lock().ldisc.out.len();
            task.write_obj(arg, &(n as i32))?;
        }
        i::TIOCSIG => {
            let group = tty.session().1;
            if group != 0 {
                hooks::kernel().signal_group(group, arg as u32);
            }
        }
        _ => return terminal(task, tty, request, arg, true),
    }
    Ok(0)
}

fn open_peer(task: &CurrentTask, tty: &Arc<Tty>, file: &OpenFile, flags: u32) -> Result<u64> {
    let inode = crate::fs::devpts::slave_inode(tty);
    let dentry = match &file.path.mnt.sb.fstype {
        &"devpts" => crate::vfs::dentry::Dentry::loose(
            inode,
            &file.path.mnt.root,
            alloc::format!("{}", tty.index).as_bytes(),
        ),
        _ => {
            crate::vfs::dentry::Dentry::anonymous(inode, alloc::format!("/dev/pts/{}", tty.index).as_bytes())
        }
    };
    let mnt =
        if file.path.mnt.sb.fstype == "devpts" { file.path.mnt.clone() } else { crate::vfs::anon::mount() };
    let slave = OpenFile::new(crate::vfs::Path { mnt, dentry }, open_slave(tty)?, flags);
    let cloexec = flags & c::O_CLOEXEC != 0;
    Ok(task.files().install(slave, cloexec, task.rlimit(c::RLIMIT_NOFILE).0)? as u64)
}
