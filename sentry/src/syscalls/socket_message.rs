//! sendto(2), recvfrom(2), sendmsg(2), recvmsg(2), sendmmsg(2), recvmmsg(2).

use super::Args;
use super::path::read_iovecs;
use super::poll::deadline_timespec;
use super::socket::{read_address, socket_of, write_address};
use crate::errno::{Errno, Result};
use crate::kernel::cred::cap;
use crate::kernel::task::CurrentTask;
use crate::net::control::{Control, Creds, MAX_FILES, Rights};
use crate::net::{Receive, Send, Socket, msg};
use crate::vfs::rw::MAX_RW;
use crate::vfs::{OpenFile, uapi};
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::{general as c, net as n};

/// Most bytes of control messages, /proc/sys/net/core/optmem_max.
const MAX_CONTROL: usize = 131_072;
/// Length of struct cmsghdr.
const HEADER: usize = 16;
const SCM_RIGHTS: u32 = 1;
const SCM_CREDENTIALS: u32 = 2;
/// Most messages of one call, UIO_MAXIOV.
const MAX_MESSAGES: u32 = 1024;
/// Length of struct mmsghdr, and where its msg_len is.
const MMSGHDR: u64 = 64;
const MSG_LEN: u64 = 56;

/// struct msghdr as the program has it.
struct Header {
    name: u64,
    name_len: i32,
    iov: u64,
    iov_len: u64,
    control: u64,
    control_len: usize,
}

impl Header {
    fn read(task: &CurrentTask, addr: u64) -> Result<Self> {
        let raw: [u64; 7] = task.read_obj(addr)?;
        let [name, name_len, iov, iov_len, control, control_len, _] = raw;
        if iov_len > 1024 {
            return Err(Errno::EMSGSIZE);
        }
        let name_len = name_len as i32;
        if name_len < 0 {
            return Err(Errno::EINVAL);
        }
        let control_len = usize::try_from(control_len).map_err(|_| Errno::ENOBUFS)?;
        Ok(Self { name, name_len: name_len.min(128), iov, iov_len, control, control_len })
    }
}

fn must_not_wait(file: &OpenFile, flags: u32) -> bool {
    file.nonblock() || flags & msg::DONTWAIT != 0
}

fn length(raw: u64) -> usize {
    usize::try_from(raw).unwrap_or(usize::MAX).min(MAX_RW)
}

/// Credentials that a program gives must be its own, unless it may take any.
fn check_creds(task: &CurrentTask, data: &[u8]) -> Result<Creds> {
    let word = |at: usize| -> Result<u32> {
        let raw = data.get(at..at + 4).and_then(|w| w.try_into().ok()).ok_or(Errno::EINVAL)?;
        Ok(u32::from_ne_bytes(raw))
    };
    let (given, cred) = (Creds { pid: word(0)?, uid: word(4)?, gid: word(8)? }, task.cred());
    let pid = given.pid == task.pid() || cred.has(cap::SYS_ADMIN);
    let uid = [cred.uid, cred.euid, cred.suid].contains(&given.uid) || cred.has(cap::SETUID);
    let gid = [cred.gid, cred.egid, cred.sgid].contains(&given.gid) || cred.has(cap::SETGID);
    if pid && uid && gid { Ok(given) } else { Err(Errno::EPERM) }
}

/// Takes the control messages of a program apart.
fn read_control(task: &CurrentTask, domain: u32, addr: u64, len: usize) -> Result<Control> {
    let mut out = Control::default();
    if addr == 0 || len == 0 {
        return Ok(out);
    }
    if len > MAX_CONTROL {
        return Err(Errno::ENOBUFS);
    }
    let mut raw = alloc::vec![0; len];
    task.read_bytes(addr, &mut raw)?;
    let mut files: Vec<Arc<OpenFile>> = Vec::new();
    let mut rest = raw.as_slice();
    while rest.len() >= HEADER {
        let word = |at: usize| rest.get(at..at + 4).and_then(|w| w.try_into().ok()).map(u32::from_ne_bytes);
        let size = rest.first_chunk().map_or(0, |l| usize::from_ne_bytes(*l));
        let (level, kind) = (word(8).unwrap_or(0), word(12).unwrap_or(0));
        let data = rest.get(HEADER..size).filter(|_| size >= HEADER).ok_or(Errno::EINVAL)?;
        match (level, kind) {
            (n::SOL_SOCKET, SCM_RIGHTS) if domain == n::AF_UNIX => {
                for fd in data.chunks_exact(4) {
                    if files.len() == MAX_FILES {
                        return Err(Errno::EINVAL);
                    }
                    let fd = fd.try_into().map_or(-1, i32::from_ne_bytes);
                    files.push(task.files().get_any(fd)?);
                }
            }
            (n::SOL_SOCKET, SCM_CREDENTIALS) if domain == n::AF_UNIX => {
                if data.len() != 12 {
                    return Err(Errno::EINVAL);
                }
                out.creds = Some(check_creds(task, data)?);
            }
            (n::SOL_SOCKET, _) => return Err(Errno::EINVAL),
            // What the headers of packets shall say.
            _ if domain != n::AF_UNIX => out.more.push((level, kind, data.to_vec())),
            _ => {}
        }
        rest = rest.get(size.next_multiple_of(8)..).unwrap_or_default();
    }
    if !files.is_empty() {
        let cred = task.cred();
        let exempt = cred.has(cap::SYS_RESOURCE) || cred.has(cap::SYS_ADMIN);
        let limit = (!exempt).then(|| task.rlimit(c::RLIMIT_NOFILE).0);
        out.rights = Some(Rights::new(files, cred.uid, limit)?);
    }
    Ok(out)
}

fn finish_send(
    task: &CurrentTask,
    socket: &Arc<dyn Socket>,
    flags: u32,
    result: Result<usize>,
) -> Result<u64> {
    if result == Err(Errno::EPIPE) && flags & msg::NOSIGNAL == 0 && socket.signals_pipe() {
        task.send_signal(c::SIGPIPE);
    }
    result.map(|done| done as u64)
}

/// sendto(2).
pub fn sendto(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (file, socket) = socket_of(task, args.i32(0))?;
    let flags = args.u32(3);
    let to = if args.u64(4) == 0 { None } else { Some(read_address(task, args.u64(4), args.i32(5))?) };
    let mut what = Send {
        flags,
        nonblock: must_not_wait(&file, flags),
        to: to.as_deref(),
        control: Control::default(),
        task: Some(task),
    };
    let mut source = task.source(&[(args.u64(1), length(args.u64(2)))]);
    let result = socket.send(&mut *source, &mut what);
    finish_send(task, &socket, flags, result)
}

fn send_one(
    task: &CurrentTask,
    file: &OpenFile,
    socket: &Arc<dyn Socket>,
    addr: u64,
    flags: u32,
) -> Result<u64> {
    let header = Header::read(task, addr)?;
    let iov = read_iovecs(task, header.iov, header.iov_len)?;
    let to = match header.name {
        0 => None,
        name => Some(read_address(task, name, header.name_len)?),
    };
    let control = read_control(task, socket.common().domain, header.control, header.control_len)?;
    let mut what = Send {
        flags,
        nonblock: must_not_wait(file, flags),
        to: to.as_deref().filter(|to| !to.is_empty()),
        control,
        task: Some(task),
    };
    let mut source = task.source(&iov);
    let result = socket.send(&mut *source, &mut what);
    finish_send(task, socket, flags, result)
}

/// sendmsg(2).
pub fn sendmsg(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (file, socket) = socket_of(task, args.i32(0))?;
    send_one(task, &file, &socket, args.u64(1), args.u32(2))
}

/// sendmmsg(2).
pub fn sendmmsg(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (file, socket) = socket_of(task, args.i32(0))?;
    let count = args.u32(2).min(MAX_MESSAGES);
    for i in 0..u64::from(count) {
        let at = args.u64(1).checked_add(i * MMSGHDR).ok_or(Errno::EFAULT)?;
        let sent = send_one(task, &file, &socket, at, args.u32(3))
            .and_then(|sent| task.write_obj(at + MSG_LEN, &(sent as u32)));
        match sent {
            Ok(()) => {}
            Err(e) if i == 0 => return Err(e),
            Err(_) => return Ok(i),
        }
    }
    Ok(count.into())
}

/// recvfrom(2).
pub fn recvfrom(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (file, socket) = socket_of(task, args.i32(0))?;
    let flags = args.u32(3);
    let mut what = Receive { flags, nonblock: must_not_wait(&file, flags), ..Receive::default() };
    let mut sink = task.sink(&[(args.u64(1), length(args.u64(2)))]);
    let done = socket.receive(&mut *sink, &mut what)?;
    if args.u64(4) != 0 {
        write_address(task, args.u64(4), args.u64(5), &what.from)?;
    }
    Ok(done as u64)
}

/// Lays control messages out for the program.
struct ControlWriter {
    out: Vec<u8>,
    room: usize,
    truncated: bool,
}

impl ControlWriter {
    /// Adds a message, cut where it does not fit.
    fn put(&mut self, level: u32, kind: u32, data: &[u8]) {
        if self.room < self.out.len() + HEADER {
            self.truncated = true;
            return;
        }
        let fits = data.len().min(self.room - self.out.len() - HEADER);
        self.truncated |= fits < data.len();
        self.out.extend_from_slice(&((HEADER + fits) as u64).to_ne_bytes());
        self.out.extend_from_slice(&level.to_ne_bytes());
        self.out.extend_from_slice(&kind.to_ne_bytes());
        self.out.extend_from_slice(data.get(..fits).unwrap_or_default());
        let aligned = self.out.len().next_multiple_of(8).min(self.room);
        self.out.resize(aligned, 0);
    }

    /// Descriptors that fit into what is left.
    fn room_for_files(&self) -> usize {
        self.room.saturating_sub(self.out.len() + HEADER) / 4
    }
}

fn write_control(
    task: &CurrentTask,
    header: &Header,
    flags: u32,
    control: Control,
    out_flags: &mut u32,
) -> Result<usize> {
    let room = if header.control == 0 { 0 } else { header.control_len.min(MAX_CONTROL) };
    let mut writer = ControlWriter { out: Vec::new(), room, truncated: false };
    for (level, kind, data) in &control.more {
        writer.put(*level, *kind, data);
    }
    if let Some(creds) = control.creds {
        writer.put(n::SOL_SOCKET, SCM_CREDENTIALS, &creds.to_bytes());
    }
    let mut installed: Vec<i32> = Vec::new();
    if let Some(rights) = control.rights {
        let cloexec = flags & msg::CMSG_CLOEXEC != 0;
        let limit = task.rlimit(c::RLIMIT_NOFILE).0;
        let files = rights.land();
        let fits = writer.room_for_files();
        let total = files.len();
        for file in files.into_iter().take(fits) {
            match task.files().install(file, cloexec, limit) {
                Ok(fd) => installed.push(fd),
                Err(_) => break,
            }
        }
        writer.truncated |= installed.len() < total;
        if !installed.is_empty() {
            let data: Vec<u8> = installed.iter().flat_map(|fd| fd.to_ne_bytes()).collect();
            writer.put(n::SOL_SOCKET, SCM_RIGHTS, &data);
        }
    }
    if writer.truncated {
        *out_flags |= msg::CTRUNC;
    }
    if let Err(e) = task.write_bytes(header.control, &writer.out) {
        for fd in installed {
            let _ = task.files().close(fd);
        }
        return Err(e);
    }
    Ok(writer.out.len())
}

fn receive_one(
    task: &CurrentTask,
    file: &OpenFile,
    socket: &Arc<dyn Socket>,
    addr: u64,
    flags: u32,
) -> Result<u64> {
    let header = Header::read(task, addr)?;
    let iov = read_iovecs(task, header.iov, header.iov_len)?;
    let mut what = Receive { flags, nonblock: must_not_wait(file, flags), ..Receive::default() };
    let mut sink = task.sink(&iov);
    let done = socket.receive(&mut *sink, &mut what)?;
    let mut out_flags = what.out_flags | flags & msg::CMSG_CLOEXEC;
    let control_len = write_control(task, &header, flags, what.control, &mut out_flags)?;
    if header.name != 0 {
        let fits = what.from.len().min(header.name_len as usize);
        task.write_bytes(header.name, what.from.get(..fits).unwrap_or_default())?;
        task.write_obj(addr + 8, &(what.from.len() as u32))?;
    }
    task.write_obj(addr + 40, &(control_len as u64))?;
    task.write_obj(addr + 48, &out_flags)?;
    Ok(done as u64)
}

/// recvmsg(2).
pub fn recvmsg(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (file, socket) = socket_of(task, args.i32(0))?;
    receive_one(task, &file, &socket, args.u64(1), args.u32(2))
}

/// recvmmsg(2). As on Linux the time-out is looked at between messages only.
pub fn recvmmsg(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (file, socket) = socket_of(task, args.i32(0))?;
    let (count, mut flags) = (args.u32(2).min(MAX_MESSAGES), args.u32(3));
    let deadline = deadline_timespec(task, args.u64(4))?;
    socket.common().check_error()?;
    let mut done = 0;
    for i in 0..u64::from(count) {
        let at = args.u64(1).checked_add(i * MMSGHDR).ok_or(Errno::EFAULT)?;
        let got = receive_one(task, &file, &socket, at, flags & !msg::WAITFORONE)
            .and_then(|got| task.write_obj(at + MSG_LEN, &(got as u32)));
        match got {
            Ok(()) => done += 1,
            Err(e) if done == 0 => return Err(e),
            Err(_) => break,
        }
        if flags & msg::WAITFORONE != 0 {
            flags |= msg::DONTWAIT;
        }
        if let Some(deadline) = deadline {
            let left = deadline.saturating_sub(crate::time::monotonic_ns());
            let (sec, nsec) = ((left / crate::time::NS) as i64, (left % crate::time::NS) as i64);
            task.write_obj(args.u64(4), &uapi::Timespec { sec, nsec })?;
            if left == 0 {
                break;
            }
        }
    }
    Ok(done)
}
