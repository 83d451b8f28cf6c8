//! Terminals: pairs, raw mode, window size.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::Error;

/// Settings of a terminal, kept to be put back.
pub struct Saved(libc::termios);

/// Makes a pseudo-terminal: master and slave.
pub fn open_pair() -> Result<(OwnedFd, OwnedFd), Error> {
    let (mut master, mut slave) = (-1, -1);
    // SAFETY: both are valid places for descriptors; the other arguments may be null.
    let done = unsafe {
        libc::openpty(&mut master, &mut slave, std::ptr::null_mut(), std::ptr::null(), std::ptr::null())
    };
    if done != 0 {
        return Err(Error::os("making a pseudo-terminal (openpty)"));
    }
    for fd in [master, slave] {
        // SAFETY: takes numbers.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    // SAFETY: two descriptors that were just made and that nobody else knows of.
    Ok(unsafe { (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) })
}

/// Sets a terminal raw: the guest does the line editing. Returns what it was.
pub fn make_raw(terminal: BorrowedFd<'_>) -> Result<Saved, Error> {
    // SAFETY: `termios` is plain data for which all zeros is a valid value, and a valid place for the answer.
    let mut settings: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    if unsafe { libc::tcgetattr(terminal.as_raw_fd(), &mut settings) } != 0 {
        return Err(Error::os("reading the settings of the terminal (tcgetattr)"));
    }
    let saved = Saved(settings);
    // SAFETY: `settings` is a valid struct, changed in place.
    unsafe { libc::cfmakeraw(&mut settings) };
    // SAFETY: `settings` is a valid struct.
    if unsafe { libc::tcsetattr(terminal.as_raw_fd(), libc::TCSANOW, &settings) } != 0 {
        return Err(Error::os("setting the terminal raw (tcsetattr)"));
    }
    Ok(saved)
}

/// Puts the settings of a terminal back.
pub fn restore(terminal: BorrowedFd<'_>, saved: &Saved) {
    // SAFETY: a valid struct that tcgetattr filled in.
    unsafe { libc::tcsetattr(terminal.as_raw_fd(), libc::TCSADRAIN, &saved.0) };
}

/// Window size: rows, columns.
pub fn window_size(terminal: BorrowedFd<'_>) -> Option<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: `size` is a valid place for the answer.
    let done = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &mut size) };
    (done == 0).then_some((size.ws_row, size.ws_col))
}

/// Sets the window size.
pub fn set_window_size(terminal: BorrowedFd<'_>, (rows, columns): (u16, u16)) {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: `size` is a valid struct.
    unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &size) };
}
