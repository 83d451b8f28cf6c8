//! Standard streams, console and preserved descriptors of a container.

use std::fs::File;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use abi::spec::{ProcessSpec, StreamKind, StreamSpec};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use platform::host::streams::Stream;
use platform::{process, terminal};

use crate::error::Error;

/// Where the terminal of a container comes from.
pub enum Console {
    /// The process has no terminal.
    None,
    /// The terminal that this command was started on.
    Own(OwnedFd),
    /// A new one, whose master went to the console socket.
    New(OwnedFd),
}

impl Console {
    /// Decides for a process; `detached` tells whether this command returns before the container ends.
    pub fn new(wanted: bool, socket: Option<&Path>, detached: bool) -> Result<Self, Error> {
        match (wanted, socket) {
            (false, None) => Ok(Self::None),
            (false, Some(_)) => Err(Error::Usage(
                "cannot use console socket if runsc will not detach or allocate tty; set process.terminal"
                    .into(),
            )),
            (true, Some(socket)) => new_terminal(socket).map(Self::New),
            (true, None) if detached => Err(Error::Usage(
                "cannot allocate tty if runsc will detach without setting console socket".into(),
            )),
            (true, None) => {
                let stdin = std::io::stdin();
                if !nix::unistd::isatty(stdin.as_fd()).unwrap_or(false) {
                    return Err(Error::Usage(
                        "process.terminal is set but standard input is not a terminal; unset it or give --console-socket"
                            .into(),
                    ));
                }
                let own =
                    stdin.as_fd().try_clone_to_owned().map_err(|e| Error::os("copying standard input", e))?;
                Ok(Self::Own(own))
            }
        }
    }
}

/// Makes a terminal and sends its master to the socket; returns the slave, raw.
fn new_terminal(socket: &Path) -> Result<OwnedFd, Error> {
    let fail = |e: std::io::Error| {
        Error::os(format!("sending the terminal to the console socket {}", socket.display()), e)
    };
    let stream = UnixStream::connect(socket).map_err(fail)?;
    let (master, slave) = terminal::open_pair()?;
    terminal::make_raw(slave.as_fd())?;
    let name = nix::unistd::ttyname(slave.as_fd())
        .map(|p| p.display().to_string())
        .unwrap_or_else(|_| "/dev/ptmx".into());
    let fds = [master.as_raw_fd()];
    let message = [ControlMessage::ScmRights(&fds)];
    let data = [IoSlice::new(name.as_bytes())];
    sendmsg::<()>(stream.as_raw_fd(), &data, &message, MsgFlags::empty(), None)
        .map_err(|e| fail(e.into()))?;
    Ok(slave)
}

/// Descriptors that the sandbox serves, and what the sentry is told of them.
pub fn collect(process: &mut ProcessSpec, console: &Console, preserve: u32) -> Result<Vec<Stream>, Error> {
    let mut streams = Vec::new();
    match console {
        Console::Own(fd) | Console::New(fd) => {
            if process.console_size == (0, 0) {
                process.console_size = terminal::window_size(fd.as_fd()).unwrap_or((0, 0));
            } else {
                terminal::set_window_size(fd.as_fd(), process.console_size);
            }
            let fd = fd.try_clone().map_err(|e| Error::os("copying the console", e))?;
            let spec = add(&mut streams, fd, 0)?;
            process.streams.extend([spec; 3]);
        }
        Console::None => {
            for number in 0..3 {
                let fd = match process::adopt(number) {
                    Some(fd) => fd,
                    None => null()?,
                };
                process.streams.push(add(&mut streams, fd, number)?);
            }
        }
    }
    for number in 0..preserve {
        let number = i32::try_from(number).ok().and_then(|n| n.checked_add(3)).unwrap_or(i32::MAX);
        let fd = process::adopt(number)
            .ok_or_else(|| Error::Usage(format!("--preserve-fds: descriptor {number} is not open")))?;
        process.streams.push(add(&mut streams, fd, number)?);
    }
    Ok(streams)
}

fn null() -> Result<OwnedFd, Error> {
    File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map(OwnedFd::from)
        .map_err(|e| Error::os("opening /dev/null", e))
}

/// Adds a descriptor, whose number for the caller is `number`.
fn add(streams: &mut Vec<Stream>, fd: OwnedFd, number: i32) -> Result<StreamSpec, Error> {
    let kind = kind(fd.as_fd(), number)?;
    let flags = fcntl(&fd, FcntlArg::F_GETFL).map_err(|e| Error::os("looking at a descriptor", e))?;
    let flags = OFlag::from_bits_truncate(flags);
    let access = flags & OFlag::O_ACCMODE;
    let (readable, writable) = (access != OFlag::O_WRONLY, access != OFlag::O_RDONLY);
    // A second open file description that does not block; that of the user is left as it is.
    let own = match kind {
        StreamKind::Pipe | StreamKind::Terminal => {
            process::reopen_nonblocking(fd.as_fd(), readable, writable)
        }
        _ => None,
    };
    let nonblocking = own.is_some();
    streams.push(Stream { fd: own.unwrap_or(fd), kind, readable, writable, nonblocking });
    let append = flags.contains(OFlag::O_APPEND);
    Ok(StreamSpec { stream: streams.len() as u32 - 1, kind, readable, writable, append })
}

fn kind(fd: BorrowedFd<'_>, number: i32) -> Result<StreamKind, Error> {
    let fail = |e: std::io::Error| Error::os("looking at a descriptor", e);
    let file = File::from(fd.try_clone_to_owned().map_err(fail)?);
    let kind = file.metadata().map_err(fail)?.file_type();
    Ok(match kind {
        k if k.is_fifo() => StreamKind::Pipe,
        k if k.is_socket() => StreamKind::Socket,
        k if k.is_char_device() && nix::unistd::isatty(&file).unwrap_or(false) => StreamKind::Terminal,
        k if k.is_char_device() => StreamKind::Device,
        k if k.is_file() || k.is_block_device() => StreamKind::File,
        _ => {
            let reason = format!(
                "descriptor {number} is a directory or of an unknown kind; give files, pipes, terminals or sockets"
            );
            return Err(Error::Usage(reason));
        }
    })
}
