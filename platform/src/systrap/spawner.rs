//! Spawners: one small process for each vCPU, which forks its stubs.
//!
//! A spawner has three pages and two descriptors (the user zone's file, its command socket), so that forking it is
//! quick and gives nothing away. It has the filter of its stubs already, and with it made the listener at which
//! their notifications arrive.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use abi::PAGE_SIZE;
use abi::systrap::{STUB_AREA, STUB_AREA_SIZE, STUB_IMAGE_FD, STUB_MEMFD, STUB_SIGNALS};

use super::raw;
use super::stub::{self, Entries, SPAWNER_CODE, SPAWNER_DATA};
use super::{filter, raw::check};
use crate::Error;
use crate::memory::errno;

/// Descriptors from here up are used while the lower ones are arranged.
const SPARE_FD: libc::c_int = 100;

/// Forks a spawner that takes its commands from `commands` and whose stubs map `frames`. Returns the listener of its
/// stubs. The process must have one thread.
pub fn start(
    commands: BorrowedFd<'_>,
    frames: BorrowedFd<'_>,
    images: &[BorrowedFd<'_>],
) -> Result<OwnedFd, Error> {
    let (ours, theirs) = raw::socket_pair()?;
    // SAFETY: the process has one thread, so the child's copy of it is consistent; the child does not return.
    match unsafe { libc::fork() } {
        0 => {
            drop(ours);
            let Err(error) = become_spawner(commands, frames, images, &theirs);
            let text = error.to_string();
            // SAFETY: the buffer has the length that is passed.
            unsafe { libc::send(theirs.as_raw_fd(), text.as_ptr().cast(), text.len(), libc::MSG_NOSIGNAL) };
            crate::process::exit_now(crate::process::FAILED)
        }
        -1 => Err(Error::os("starting a spawner (fork)")),
        _ => {
            drop(theirs);
            receive_listener(&ours)
        }
    }
}

/// Waits for the descriptor that a spawner sends, or for its complaint.
fn receive_listener(socket: &OwnedFd) -> Result<OwnedFd, Error> {
    let fail = |reason: String| Error::Unavailable { name: "systrap", reason };
    let mut text = [0u8; 512];
    let mut control = [0u64; 4];
    let mut vector = libc::iovec { iov_base: text.as_mut_ptr().cast(), iov_len: text.len() };
    // SAFETY: all-zero is a valid msghdr; its pointers are set to live buffers of the lengths that are given, and
    // the control part is read only where the kernel says that it holds a descriptor.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut vector;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        let got = libc::recvmsg(socket.as_raw_fd(), &mut message, libc::MSG_CMSG_CLOEXEC);
        let got = usize::try_from(got).map_err(|_| Error::os("waiting for a spawner (recvmsg)"))?;
        let head = libc::CMSG_FIRSTHDR(&message);
        if !head.is_null() && (*head).cmsg_type == libc::SCM_RIGHTS {
            return Ok(OwnedFd::from_raw_fd(libc::CMSG_DATA(head).cast::<i32>().read_unaligned()));
        }
        if got == 0 {
            return Err(fail("a spawner of stubs could not install its filter (seccomp)".into()));
        }
        Err(fail(String::from_utf8_lossy(&text[..got]).into_owned()))
    }
}

/// Turns this process, a fresh fork, into a spawner.
fn become_spawner(
    commands: BorrowedFd<'_>,
    frames: BorrowedFd<'_>,
    images: &[BorrowedFd<'_>],
    handshake: &OwnedFd,
) -> Result<std::convert::Infallible, Error> {
    raw::die_with_parent()?;
    // Raised above all that are in use, then put where they belong.
    let places = [(frames, STUB_MEMFD as i32), (commands, stub::COMMAND_FD)];
    let first = STUB_IMAGE_FD as i32;
    let unused = first as u32 + images.len() as u32;
    let images = images.iter().zip(first..).map(|(fd, place)| (*fd, place));
    let mut raised = Vec::new();
    for (fd, place) in places.into_iter().chain(images) {
        raised.push((raw::raise_fd(fd.as_raw_fd(), SPARE_FD)?, place));
    }
    raised.push((raw::raise_fd(handshake.as_raw_fd(), SPARE_FD)?, stub::HANDSHAKE_FD));
    let handlers = set_handlers();
    let pages = map_pages();
    raw::unregister_rseq();
    for (fd, place) in raised {
        raw::move_fd(fd, place)?;
    }
    handlers?;
    pages?;
    raw::close_range(0, STUB_MEMFD as u32 - 1)?;
    if unused < stub::COMMAND_FD as u32 {
        raw::close_range(unused, stub::COMMAND_FD as u32 - 1)?;
    }
    raw::close_range(stub::HANDSHAKE_FD as u32 + 1, u32::MAX)?;
    // SAFETY: the page holds the spawner's code, which uses no stack and unmaps everything else; nothing of this
    // program runs in this process any more.
    unsafe {
        std::arch::asm!("jmp {entry}", entry = in(reg) SPAWNER_CODE, options(noreturn));
    }
}

/// Sets the handlers and the stack of the stubs, which they inherit. A spawner that raises such a signal itself dies
/// of it: it has no such stack.
fn set_handlers() -> Result<(), Error> {
    let entries = Entries::new();
    for signal in STUB_SIGNALS {
        // In a handler all are blocked but SIGSYS, by which a stub gets a new signal frame.
        let flags = (libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER) as u64;
        let blocked = !(1 << (libc::SIGSYS - 1));
        raw::set_handler(signal, entries.handler, flags, entries.restorer, blocked)?;
    }
    let stack = libc::stack_t {
        ss_sp: (STUB_AREA + PAGE_SIZE) as *mut libc::c_void,
        ss_flags: 0,
        ss_size: (STUB_AREA_SIZE - PAGE_SIZE) as usize,
    };
    // SAFETY: `stack` is a valid struct; the memory that it names is mapped by each stub before it takes a signal.
    let done = unsafe { libc::sigaltstack(&stack, std::ptr::null_mut()) };
    check(done, "setting the stack of stubs (sigaltstack)")?;
    // Only those signals reach a stub; the ones of a terminal or a caller are for others.
    raw::block_all_but(&STUB_SIGNALS)
}

/// Puts data and code of the spawner, and the code of the stubs, at their addresses.
fn map_pages() -> Result<(), Error> {
    let len = 3 * PAGE_SIZE;
    raw::map_anonymous(SPAWNER_DATA, len)?;
    let (program, code) = (filter::stub(), stub::code());
    let at = |offset: u64| SPAWNER_DATA + offset;
    // A message of one byte and one descriptor, which the spawner fills in.
    let control = [libc::SOL_SOCKET, libc::SCM_RIGHTS, -1, 0];
    // SAFETY: three pages were just mapped there for writing; every part below lies within the first, at the aligned
    // offset that the code expects, and the code fills the other two exactly.
    unsafe {
        std::ptr::copy_nonoverlapping(code.as_ptr(), SPAWNER_CODE as *mut u8, code.len());
        let instructions = at(stub::INSTRUCTIONS) as *mut seccompiler::sock_filter;
        std::ptr::copy_nonoverlapping(program.as_ptr(), instructions, program.len());
        let head = libc::sock_fprog { len: program.len() as u16, filter: instructions.cast() };
        (at(stub::PROGRAM) as *mut libc::sock_fprog).write(head);
        let ancillary = at(stub::ANCILLARY);
        (ancillary as *mut u64).write(16 + 4);
        ((ancillary + 8) as *mut [i32; 4]).write(control);
        let vector = libc::iovec { iov_base: at(0) as *mut libc::c_void, iov_len: 1 };
        (at(stub::VECTOR) as *mut libc::iovec).write(vector);
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = at(stub::VECTOR) as *mut libc::iovec;
        message.msg_iovlen = 1;
        message.msg_control = ancillary as *mut libc::c_void;
        message.msg_controllen = 24;
        (at(stub::MESSAGE) as *mut libc::msghdr).write(message);
    }
    raw::make_code(SPAWNER_CODE, 2 * PAGE_SIZE)
}

/// What came of a command: a result and, for a new stub, its descriptor in the spawner.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    /// Process id, 0, or a negated errno.
    pub result: i64,
    /// Descriptor.
    pub handle: u64,
}

/// Gives a spawner a command and waits for its answer, which comes at once. An error means that it is gone.
pub fn command(socket: &OwnedFd, kind: u64, argument: u64) -> io::Result<Done> {
    let fd = socket.as_raw_fd();
    let words = [kind, argument];
    let mut answer = [0u64; 2];
    // SAFETY: both buffers have the length that is passed.
    let sent = unsafe { libc::send(fd, words.as_ptr().cast(), stub::MESSAGE_LEN, libc::MSG_NOSIGNAL) };
    if sent != stub::MESSAGE_LEN as isize {
        return Err(io::Error::last_os_error());
    }
    loop {
        // SAFETY: as above.
        let got = unsafe { libc::recv(fd, answer.as_mut_ptr().cast(), stub::MESSAGE_LEN, 0) };
        if got == stub::MESSAGE_LEN as isize {
            return Ok(Done { result: answer[0] as i64, handle: answer[1] });
        }
        if got >= 0 || errno() != libc::EINTR {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
