//! Watches on host files, for inotify(7) of the container.
//!
//! The host's inotify tells of everything that happens to a file, whoever does it: the container's own calls too, which
//! this process makes for it. So it is the one source of events of shared directories. What this process does beyond
//! what the container asked for (it opens a file to change its mode, say) is taken out.

use std::collections::VecDeque;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};

use super::changes::Place;
use super::files::Files;
use super::paths;
use crate::memory::errno;

/// Bytes of a `struct inotify_event` before its name.
const HEAD: usize = size_of::<libc::inotify_event>();
/// Bytes that one read fetches.
const BUFFER: usize = 16 << 10;
/// Most bytes that are given to the sentry at once.
const MAX_GIVEN: u64 = 64 << 10;
/// Most events that are kept while the sentry does not take them; more are in the host's queue.
const MAX_KEPT: usize = 16_384;
/// What may be watched for: all events, and which kind of file.
const MASK: u64 = (libc::IN_ALL_EVENTS | libc::IN_DONT_FOLLOW | libc::IN_MASK_ADD) as u64;

#[derive(Default)]
struct State {
    /// The inotify instance, and this process's directory; made for the first watch.
    host: Option<(Arc<OwnedFd>, OwnedFd)>,
    /// Events that were read, but not yet taken by the sentry.
    kept: VecDeque<Vec<u8>>,
    /// The input thread is to look for more.
    armed: bool,
}

/// The watches of a sandbox.
#[derive(Default)]
pub struct Notifier {
    state: Mutex<State>,
}

fn check(result: libc::c_int) -> Result<i64, i32> {
    if result < 0 { Err(errno()) } else { Ok(result.into()) }
}

impl State {
    fn host(&mut self) -> Result<(i32, i32), i32> {
        if self.host.is_none() {
            let home = paths::open_beneath(paths::here(), &c".".to_owned(), libc::O_PATH, 0)?;
            // SAFETY: takes flags.
            let fd = check(unsafe { libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC) })?;
            // SAFETY: a descriptor that the kernel just made and nobody else knows of.
            let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
            self.host = Some((Arc::new(fd), home));
        }
        self.host.as_ref().map(|(fd, home)| (fd.as_raw_fd(), home.as_raw_fd())).ok_or(libc::EIO)
    }

    /// Reads what the host has; `keep` says which events stay.
    fn fetch(&mut self, keep: impl Fn(u32, &[u8]) -> bool) {
        let Some((fd, _)) = &self.host else { return };
        let mut buffer = vec![0u8; BUFFER];
        while self.kept.len() < MAX_KEPT {
            // SAFETY: `buffer` has the length that is passed.
            let got = unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
            let Some(mut rest) = usize::try_from(got).ok().filter(|n| *n > 0).map(|n| &buffer[..n]) else {
                return;
            };
            while rest.len() >= HEAD {
                let word =
                    |at: usize| u32::from_ne_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
                let Some((event, tail)) = rest.split_at_checked(HEAD + word(12) as usize) else { break };
                let name = event[HEAD..].split(|b| *b == 0).next().unwrap_or_default();
                if keep(word(4), name) {
                    self.kept.push_back(event.to_vec());
                }
                rest = tail;
            }
        }
    }
}

impl Notifier {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Does something to the file at `path` without the events of `mask` that this has.
    ///
    /// An event of the same kind, of the same file, that somebody else causes at that very time goes with them: inotify
    /// joins equal events that follow each other, too.
    pub(super) fn without<R>(&self, mask: u32, path: &[u8], act: impl FnOnce() -> R) -> R {
        let mut state = self.state();
        if state.host.is_none() {
            drop(state);
            return act();
        }
        state.fetch(|_, _| true);
        let result = act();
        let own = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
        state.fetch(|kind, name| kind & mask == 0 || !(name.is_empty() || name == own));
        result
    }

    /// Ends a watch.
    pub fn remove(&self, watch: u64) -> Result<i64, i32> {
        let watch = i32::try_from(watch).map_err(|_| libc::EINVAL)?;
        let mut state = self.state();
        if state.host.is_none() {
            return Err(libc::EINVAL);
        }
        let (fd, _) = state.host()?;
        // SAFETY: takes numbers.
        check(unsafe { libc::inotify_rm_watch(fd, watch) })
    }

    /// Takes events, at most `room` bytes. With the last ones goes whether the input thread must look for more.
    pub fn take(&self, room: u64) -> Result<(Vec<u8>, bool), i32> {
        if room < 512 {
            return Err(libc::EINVAL);
        }
        let mut state = self.state();
        state.fetch(|_, _| true);
        let mut out = Vec::new();
        while let Some(event) = state.kept.front() {
            if (out.len() + event.len()) as u64 > room.min(MAX_GIVEN) {
                break;
            }
            out.extend_from_slice(event);
            state.kept.pop_front();
        }
        let arm = out.is_empty() && state.host.is_some() && !state.armed;
        state.armed |= arm;
        Ok((out, arm))
    }

    /// The descriptor to poll, where the sentry waits for events.
    pub(super) fn armed(&self) -> Option<Arc<OwnedFd>> {
        let state = self.state();
        state.host.as_ref().filter(|_| state.armed).map(|(fd, _)| Arc::clone(fd))
    }

    /// The sentry is told; whether it waited.
    pub(super) fn disarm(&self) -> bool {
        std::mem::take(&mut self.state().armed)
    }

    fn add(&self, dir: &OwnedFd, name: &CStr, mask: u64) -> Result<i64, i32> {
        let mut state = self.state();
        let (fd, home) = state.host()?;
        // inotify takes a path and no directory to begin at; nothing else in this process uses its own. Under the lock,
        // since all threads have the one.
        // SAFETY: takes a number.
        check(unsafe { libc::fchdir(dir.as_raw_fd()) })?;
        let mask = (mask & MASK) as u32 | libc::IN_DONT_FOLLOW | libc::IN_MASK_ADD;
        // SAFETY: the name is NUL-terminated.
        let watch = check(unsafe { libc::inotify_add_watch(fd, name.as_ptr(), mask) });
        // SAFETY: takes a number.
        check(unsafe { libc::fchdir(home) })?;
        watch
    }
}

impl Files {
    /// Watches what `path` names, a symbolic link itself; returns the watch's number.
    pub fn watch(&self, root: u64, path: &[u8], mask: u64) -> Result<i64, i32> {
        let root = self.root(root)?;
        if path.is_empty() {
            if !root.directory {
                return Err(libc::ENOTDIR);
            }
            let dir = paths::open_beneath(root.fd.as_fd(), &c".".to_owned(), libc::O_PATH, 0)?;
            return self.notify.add(&dir, c".", mask);
        }
        let place = Place::of(root, path)?;
        self.notify.add(&place.dir, &place.name, mask)
    }
}
