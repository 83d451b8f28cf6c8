//! socket(2), socketpair(2), bind(2), listen(2), accept(2), connect(2), shutdown(2), getsockname(2), getsockopt(2).

use super::Args;
use crate::errno::{Errno, Result};
use crate::kernel::task::CurrentTask;
use crate::net::common::{BOTH, RECEIVE, SEND};
use crate::net::unix::UnixSocket;
use crate::net::{self, Socket, SocketFile};
use crate::vfs::OpenFile;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::{general as c, net as n};

/// Longest address, struct sockaddr_storage.
const MAX_ADDRESS: usize = 128;
/// Longest value of an option.
const MAX_OPTION: usize = 4096;
/// Bits of the second argument of socket(2) that are the type.
const TYPE_MASK: u32 = 0xf;

/// The socket behind a descriptor, and its description.
///
/// # Errors
/// EBADF, ENOTSOCK.
pub fn socket_of(task: &CurrentTask, fd: i32) -> Result<(Arc<OpenFile>, Arc<dyn Socket>)> {
    let file = task.files().get(fd)?;
    let socket = file.downcast::<SocketFile>().ok_or(Errno::ENOTSOCK)?.socket().clone();
    Ok((file, socket))
}

/// Copies an address of the program.
///
/// # Errors
/// EINVAL for a length out of range; EFAULT.
pub fn read_address(task: &CurrentTask, addr: u64, len: i32) -> Result<Vec<u8>> {
    let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
    if len > MAX_ADDRESS {
        return Err(Errno::EINVAL);
    }
    let mut raw = alloc::vec![0; len];
    task.read_bytes(addr, &mut raw)?;
    Ok(raw)
}

/// Gives an address to the program, as much as fits, and its whole length.
///
/// # Errors
/// EINVAL for a negative length; EFAULT.
pub fn write_address(task: &CurrentTask, addr: u64, len_addr: u64, address: &[u8]) -> Result<()> {
    let room: i32 = task.read_obj(len_addr)?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    task.write_bytes(addr, address.get(..room.min(address.len())).unwrap_or_default())?;
    task.write_obj(len_addr, &(address.len() as u32))
}

fn kind_and_flags(raw: u32) -> Result<(u32, u32, bool)> {
    let flags = raw & !TYPE_MASK;
    if flags & !(c::O_CLOEXEC | c::O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let kind = raw & TYPE_MASK;
    if kind == 0 || kind > 10 {
        return Err(if kind == 0 { Errno::ESOCKTNOSUPPORT } else { Errno::EINVAL });
    }
    Ok((kind, flags & c::O_NONBLOCK, flags & c::O_CLOEXEC != 0))
}

fn install(task: &CurrentTask, socket: Arc<dyn Socket>, flags: u32, cloexec: bool) -> Result<i32> {
    task.files().install(net::file(socket, flags), cloexec, task.rlimit(c::RLIMIT_NOFILE).0)
}

/// socket(2).
pub fn socket(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (kind, flags, cloexec) = kind_and_flags(args.u32(1))?;
    if args.i32(2) < 0 {
        return Err(Errno::EINVAL);
    }
    let made = net::create(task, args.u32(0), kind, args.u32(2))?;
    Ok(install(task, made, flags, cloexec)? as u64)
}

/// socketpair(2).
pub fn socketpair(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (kind, flags, cloexec) = kind_and_flags(args.u32(1))?;
    let (domain, protocol) = (args.u32(0), args.u32(2));
    // Made for its errors: what can be made and has no pairs is refused as such.
    drop(net::create(task, domain, kind, protocol)?);
    if domain != n::AF_UNIX {
        return Err(Errno::EOPNOTSUPP);
    }
    let kind = if kind == n::SOCK_RAW { n::SOCK_DGRAM } else { kind };
    let (a, b) = UnixSocket::pair(kind);
    let (a, b) = (net::file(a, flags), net::file(b, flags));
    let (files, limit) = (task.files(), task.rlimit(c::RLIMIT_NOFILE).0);
    let first = files.install(a, cloexec, limit)?;
    let fds = match files.install(b, cloexec, limit) {
        Ok(second) => [first, second],
        Err(e) => {
            let _ = files.close(first);
            return Err(e);
        }
    };
    if let Err(e) = task.write_obj(args.u64(3), &fds) {
        for fd in fds {
            let _ = files.close(fd);
        }
        return Err(e);
    }
    Ok(0)
}

/// bind(2).
pub fn bind(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (_, socket) = socket_of(task, args.i32(0))?;
    let address = read_address(task, args.u64(1), args.i32(2))?;
    socket.bind(task, &address).map(|()| 0)
}

/// connect(2).
pub fn connect(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (file, socket) = socket_of(task, args.i32(0))?;
    let address = read_address(task, args.u64(1), args.i32(2))?;
    if address.len() < 2 {
        return Err(Errno::EINVAL);
    }
    socket.connect(task, &address, file.nonblock()).map(|()| 0)
}

/// listen(2).
pub fn listen(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (_, socket) = socket_of(task, args.i32(0))?;
    socket.listen(args.i32(1)).map(|()| 0)
}

fn do_accept(task: &CurrentTask, args: &Args, flags: u32) -> Result<u64> {
    if flags & !(c::O_CLOEXEC | c::O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let (file, socket) = socket_of(task, args.i32(0))?;
    let (made, address) = socket.accept(file.nonblock())?;
    // From here on it is closed when it cannot be handed over.
    let made_file = net::file(made, flags & c::O_NONBLOCK);
    if args.u64(1) != 0 {
        write_address(task, args.u64(1), args.u64(2), &address)?;
    }
    let limit = task.rlimit(c::RLIMIT_NOFILE).0;
    Ok(task.files().install(made_file, flags & c::O_CLOEXEC != 0, limit)? as u64)
}

/// accept(2).
pub fn accept(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_accept(task, args, 0)
}

/// accept4(2).
pub fn accept4(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_accept(task, args, args.u32(3))
}

/// shutdown(2).
pub fn shutdown(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (_, socket) = socket_of(task, args.i32(0))?;
    let directions = match args.u32(1) {
        n::SHUT_RD => RECEIVE,
        n::SHUT_WR => SEND,
        n::SHUT_RDWR => BOTH,
        _ => return Err(Errno::EINVAL),
    };
    socket.shut_down(directions).map(|()| 0)
}

/// getsockname(2).
pub fn getsockname(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (_, socket) = socket_of(task, args.i32(0))?;
    write_address(task, args.u64(1), args.u64(2), &socket.name()?).map(|()| 0)
}

/// getpeername(2).
pub fn getpeername(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (_, socket) = socket_of(task, args.i32(0))?;
    write_address(task, args.u64(1), args.u64(2), &socket.peer_name()?).map(|()| 0)
}

/// setsockopt(2).
pub fn setsockopt(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (_, socket) = socket_of(task, args.i32(0))?;
    let len = usize::try_from(args.i32(4)).map_err(|_| Errno::EINVAL)?;
    let mut value = alloc::vec![0; len.min(MAX_OPTION)];
    task.read_bytes(args.u64(3), &mut value)?;
    socket.set_option(args.u32(1), args.u32(2), &value).map(|()| 0)
}

/// getsockopt(2).
pub fn getsockopt(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (_, socket) = socket_of(task, args.i32(0))?;
    let room: i32 = task.read_obj(args.u64(4))?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    let value = socket.get_option(args.u32(1), args.u32(2))?;
    let part = value.get(..room.min(value.len())).unwrap_or_default();
    task.write_bytes(args.u64(3), part)?;
    task.write_obj(args.u64(4), &(part.len() as u32))?;
    Ok(0)
}
