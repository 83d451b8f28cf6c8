//! Processes: making the sandbox process, ending it, and what it is given before it is jailed.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::Error;
use crate::memory::errno;

/// Exit code of a sandbox process that could not say why it failed.
pub const FAILED: i32 = 1;

/// Ends the process at once, without running what was registered for its end.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: takes a number and does not return.
    unsafe { libc::_exit(code) }
}

/// Lets this process be killed when its parent ends, if that has not ended yet.
///
/// # Errors
/// As PR_SET_PDEATHSIG of prctl(2).
pub fn end_with_parent() -> Result<(), Error> {
    // SAFETY: takes numbers.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) } != 0 {
        return Err(Error::os("asking to end with the command (prctl)"));
    }
    Ok(())
}

/// Forks a child that runs `body` and ends with its result, as the first process of a PID namespace of its own if
/// `own_pids`. Returns its process id. To be called while the process has a single thread: the child goes on with a
/// copy of it.
pub fn fork(own_pids: bool, body: impl FnOnce() -> i32) -> Result<i32, Error> {
    let back = if own_pids { Some(enter_new_pids()?) } else { None };
    // SAFETY: the process has one thread (see above), so the child's copy of it is consistent; it ends
    // without returning into the caller's frames.
    let pid = unsafe { libc::fork() };
    let failed = (pid < 0).then(|| Error::os("starting the sandbox process (fork)"));
    if pid == 0 {
        exit_now(body());
    }
    if let Some(back) = back {
        // SAFETY: takes a descriptor and a number; it puts children-to-be back into the namespace of this process.
        if unsafe { libc::setns(back.as_raw_fd(), libc::CLONE_NEWPID) } != 0 {
            let error = Error::os("returning to the PID namespace (setns)");
            if pid > 0 {
                kill_child(pid);
            }
            return Err(error);
        }
    }
    failed.map_or(Ok(pid), Err)
}

/// Makes a PID namespace for the next child; returns the present one.
fn enter_new_pids() -> Result<OwnedFd, Error> {
    let path = c"/proc/self/ns/pid";
    // SAFETY: the path is NUL-terminated.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(Error::os("opening /proc/self/ns/pid"));
    }
    // SAFETY: a descriptor that was just made and that nobody else knows of.
    let back = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: takes a number.
    if unsafe { libc::unshare(libc::CLONE_NEWPID) } != 0 {
        return Err(Error::os("making a PID namespace (unshare)"));
    }
    Ok(back)
}

/// A descriptor of `path` for the sandbox: a detached copy of the mount where that is allowed, so that `..` ends at
/// it, without devices and set-user-id, and read-only for `readonly`; else a plain descriptor.
pub fn donate_directory(path: &Path, readonly: bool) -> Result<OwnedFd, Error> {
    let name = || format!("opening the directory {}", path.display());
    let c_path = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::Os { operation: name(), source: std::io::ErrorKind::InvalidInput.into() })?;
    if let Some(fd) = detached_copy(&c_path, readonly) {
        return Ok(fd);
    }
    // SAFETY: the path is NUL-terminated.
    let fd = unsafe { libc::open(c_path.as_ptr(), libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(Error::os(name()));
    }
    // SAFETY: a descriptor that was just made and that nobody else knows of.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn detached_copy(path: &CString, readonly: bool) -> Option<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_RECURSIVE as u32;
    // SAFETY: the path is NUL-terminated.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    if fd < 0 {
        return None;
    }
    // SAFETY: a descriptor that was just made and that nobody else knows of.
    let tree = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let readonly = if readonly { libc::MOUNT_ATTR_RDONLY } else { 0 };
    let attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC | readonly,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: an empty path names the descriptor; `attr` is a valid struct of the size that is passed.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    (done == 0).then_some(tree)
}

/// Opens what `fd` refers to a second time, non-blocking. `None` where the host does not allow it.
pub fn reopen_nonblocking(fd: BorrowedFd<'_>, readable: bool, writable: bool) -> Option<OwnedFd> {
    let access = match (readable, writable) {
        (true, true) => libc::O_RDWR,
        (false, true) => libc::O_WRONLY,
        _ => libc::O_RDONLY,
    };
    let path = CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()?;
    let flags = access | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the path is NUL-terminated.
    let fd = unsafe { libc::open(path.as_ptr(), flags) };
    // SAFETY: a descriptor that was just made and that nobody else knows of.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Keeps the allocator to one arena: the threads of a sandbox process allocate little, and an arena for each costs
/// its start several system calls and address space.
pub fn use_one_arena() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes numbers; called while the process has one thread.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Blocks every signal that can be blocked, except the ones that a fault of this process raises.
pub fn block_signals() -> Result<(), Error> {
    // SAFETY: `set` is initialised by sigfillset before it is used; the calls take valid pointers.
    let done = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut set);
        for signal in [
            libc::SIGSYS,
            libc::SIGSEGV,
            libc::SIGBUS,
            libc::SIGILL,
            libc::SIGFPE,
            libc::SIGABRT,
            libc::SIGTRAP,
        ] {
            libc::sigdelset(&mut set, signal);
        }
        libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut())
    };
    if done == 0 { Ok(()) } else { Err(Error::os("blocking signals (sigprocmask)")) }
}

/// A descriptor that tells of changes of the terminal's window size. The signal has to be blocked.
pub fn window_change_fd() -> Result<OwnedFd, Error> {
    // SAFETY: `set` is initialised by sigemptyset before it is used; the calls take valid pointers.
    let fd = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGWINCH);
        libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    if fd < 0 {
        return Err(Error::os("watching the window size (signalfd)"));
    }
    // SAFETY: a descriptor that was just made and that nobody else knows of.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes `terminal` the controlling terminal of this process, which leads a new session.
pub fn control_terminal(terminal: BorrowedFd<'_>) -> Result<(), Error> {
    // SAFETY: takes a descriptor and numbers.
    if unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) } != 0 {
        return Err(Error::os("making the console the controlling terminal (TIOCSCTTY)"));
    }
    Ok(())
}

/// Takes ownership of an inherited descriptor, if it is open.
///
/// The caller names one that nothing else in the process owns, such as those of `--preserve-fds`.
pub fn adopt(fd: i32) -> Option<OwnedFd> {
    // SAFETY: takes numbers; answers EBADF for what is not open.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    // SAFETY: a descriptor that was just made and that nobody else knows of.
    (copy >= 0).then(|| unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Whether a child ended, without waiting: its wait status.
pub fn ended(pid: i32) -> Option<i32> {
    let mut status = 0;
    // SAFETY: `status` is a valid place for the answer.
    let got = unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) };
    (got == pid || (got < 0 && errno() == libc::ECHILD)).then_some(status)
}

/// Kills a child and takes its status.
pub fn kill_child(pid: i32) {
    // SAFETY: takes numbers; `pid` is a child that was not waited for yet, so the number is still its.
    unsafe {
        libc::kill(pid, libc::SIGKILL);
        libc::waitpid(pid, std::ptr::null_mut(), 0);
    }
}

/// Closes every descriptor beyond standard error except those of `kept`.
pub fn close_except(mut kept: Vec<i32>) -> Result<(), Error> {
    kept.sort_unstable();
    let mut from = 3u32;
    for end in kept.into_iter().filter_map(|fd| u32::try_from(fd).ok()).chain([u32::MAX]) {
        if end > from {
            // SAFETY: takes numbers. What is closed is owned by values of the command that this process was forked
            // from; the fork never drops them.
            let done = unsafe {
                libc::syscall(libc::SYS_close_range, from, if end == u32::MAX { end } else { end - 1 }, 0)
            };
            if done != 0 {
                return Err(Error::os("closing inherited descriptors (close_range)"));
            }
        }
        from = from.max(end.saturating_add(1));
    }
    Ok(())
}
