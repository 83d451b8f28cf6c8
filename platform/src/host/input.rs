//! The thread that watches for input: armed streams, control connections, window-size changes, events of host files.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, OnceLock};

use abi::boot::{EVENT_CONTROL, EVENT_FILES, EVENT_IMAGES, EVENT_STREAM, EVENT_WINCH};

use super::control::{Connection, Control};
use super::notify::Notifier;
use super::streams::Streams;
use crate::memory::GuestMemory;
use crate::memory::images::Images;
use crate::{Error, Events};

/// Most control connections at once.
const MAX_CONNECTIONS: usize = 32;
/// Bytes of a `struct signalfd_siginfo`.
const SIGINFO_LEN: usize = size_of::<libc::signalfd_siginfo>();

/// What the thread watches.
pub struct Watcher {
    /// Guest memory, for its images.
    pub memory: Arc<GuestMemory>,
    /// Streams of the container.
    pub streams: Arc<Streams>,
    /// Watched host files.
    pub files: Arc<Notifier>,
    /// Control commands.
    pub control: Arc<Control>,
    /// The way to the guest.
    pub events: Arc<OnceLock<Arc<dyn Events>>>,
    /// Where control connections come from.
    pub listener: Option<UnixListener>,
    /// A signal descriptor.
    pub winch: Option<OwnedFd>,
}

impl Watcher {
    /// Starts the thread.
    pub fn start(self) -> Result<(), Error> {
        if let Some(listener) = &self.listener {
            listener
                .set_nonblocking(true)
                .map_err(|source| Error::Os { operation: "setting up the control socket".into(), source })?;
        }
        std::thread::Builder::new()
            .name("input".into())
            .stack_size(128 << 10)
            .spawn(move || self.run())
            .map(|_| ())
            .map_err(|source| Error::Os { operation: "starting the input thread".into(), source })
    }

    fn raise(&self, bits: u64) {
        if let Some(events) = self.events.get() {
            events.raise(bits);
        }
    }

    fn run(self) {
        let mut connections: Vec<Connection> = Vec::new();
        loop {
            // Kept while it is polled.
            let files = self.files.armed();
            let mut fds = vec![
                pollfd(self.streams.wake_fd(), libc::POLLIN),
                pollfd(self.listener.as_ref().map_or(-1, AsRawFd::as_raw_fd), libc::POLLIN),
                pollfd(self.winch.as_ref().map_or(-1, AsRawFd::as_raw_fd), libc::POLLIN),
                pollfd(files.as_ref().map_or(-1, |fd| fd.as_raw_fd()), libc::POLLIN),
                pollfd(
                    self.memory.images().and_then(Images::watch_fd).map_or(-1, |fd| fd.as_raw_fd()),
                    libc::POLLIN,
                ),
            ];
            let fixed = fds.len();
            fds.extend(connections.iter().map(|c| pollfd(c.stream().as_raw_fd(), libc::POLLIN)));
            let armed = self.streams.armed();
            fds.extend(armed.iter().map(|(_, stream, events)| pollfd(stream.fd.as_raw_fd(), *events)));
            // SAFETY: `fds` is a valid array of that length.
            let ready = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, -1) };
            if ready < 0 {
                continue;
            }
            let (head, rest) = fds.split_at(fixed);
            let (from_connections, from_streams) = rest.split_at(connections.len());
            if head[0].revents != 0 {
                self.streams.take_wake();
            }
            if head[2].revents != 0 && self.take_signal() {
                self.raise(EVENT_WINCH);
            }
            if head[3].revents != 0 && self.files.disarm() {
                self.raise(EVENT_FILES);
            }
            if head[4].revents != 0
                && let Some(images) = self.memory.images()
            {
                images.take_changes();
                if self.memory.check_images() {
                    self.raise(EVENT_IMAGES);
                }
            }
            let ready: Vec<_> = armed
                .iter()
                .zip(from_streams)
                .filter(|(_, fd)| fd.revents != 0)
                .map(|((index, ..), _)| *index)
                .collect();
            if !ready.is_empty() {
                self.streams.disarm(&ready);
                self.raise(EVENT_STREAM);
            }
            let states: Vec<bool> = from_connections.iter().map(|fd| fd.revents != 0).collect();
            self.serve_connections(&mut connections, &states);
            if head[1].revents != 0 {
                self.accept(&mut connections);
            }
        }
    }

    fn serve_connections(&self, connections: &mut Vec<Connection>, ready: &[bool]) {
        let mut queued = false;
        let mut index = 0;
        connections.retain_mut(|connection| {
            let now = ready.get(index).copied().unwrap_or(false);
            index += 1;
            if !now {
                return true;
            }
            match connection.input(&self.control) {
                Some(some) => {
                    queued |= some;
                    true
                }
                None => {
                    queued |= self.control.forget(connection);
                    false
                }
            }
        });
        if queued {
            self.raise(EVENT_CONTROL);
        }
    }

    fn accept(&self, connections: &mut Vec<Connection>) {
        let Some(listener) = &self.listener else { return };
        while let Ok((stream, _)) = listener.accept() {
            if connections.len() < MAX_CONNECTIONS
                && let Ok(connection) = Connection::new(stream)
            {
                connections.push(connection);
            }
        }
    }

    /// Takes one signal from the descriptor.
    fn take_signal(&self) -> bool {
        let Some(fd) = &self.winch else { return false };
        let mut info = [0u8; SIGINFO_LEN];
        // SAFETY: `info` has the length that is passed.
        unsafe { libc::read(fd.as_raw_fd(), info.as_mut_ptr().cast(), info.len()) > 0 }
    }
}

fn pollfd(fd: i32, events: i16) -> libc::pollfd {
    libc::pollfd { fd, events, revents: 0 }
}
