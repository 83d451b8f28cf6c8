//! Finds sockets that nothing leads to but their own queues: descriptions that were sent over a socket which is itself
//! in flight, and closed everywhere else.
//!
//! A description is a candidate where all references to it are in queues. Candidates that can be received from some
//! socket that is not one, directly or through others, stay; the queues of the rest are thrown away. No reference
//! comes to be outside of queues without a move out of one, and moves are counted: where one happened while this
//! looked, it looks again.

use super::UnixSocket;
use crate::errno::{Errno, Result};
use crate::net::control::{self, InFlight};
use crate::net::{Socket, count, try_all};
use crate::sync::{Events, Mutex, WaitQueue};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

/// One collects at a time.
static COLLECTING: Mutex<()> = Mutex::new(());
/// Looks before it is given up until the next occasion.
const ATTEMPTS: usize = 3;

/// What one socket's queues hold.
struct Held {
    ino: u64,
    socket: Arc<dyn Socket>,
    files: Vec<InFlight>,
}

/// A description in queues.
struct Description {
    key: usize,
    /// References from queues.
    queued: usize,
    /// References at all.
    references: usize,
    /// Number of its socket.
    socket: u64,
}

/// A socket that all references to are in queues.
struct Candidate {
    ino: u64,
    reached: bool,
}

fn unix(socket: &Arc<dyn Socket>) -> Option<&UnixSocket> {
    socket.as_any().downcast_ref()
}

/// An empty list with room. How much there is to look at is up to programs, and some of the sockets are closed when
/// memory is short: so all of it is asked for.
fn room<T>(len: usize) -> Result<Vec<T>> {
    let mut list = Vec::new();
    list.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
    Ok(list)
}

/// Sockets that wait to be accepted.
fn waiting(socket: &UnixSocket) -> Result<Vec<Arc<UnixSocket>>> {
    let waiting = socket.waiting.lock();
    let mut list = room(waiting.len())?;
    list.extend(waiting.iter().cloned());
    Ok(list)
}

/// All unix sockets, by number.
fn scan() -> Result<Vec<Held>> {
    let sockets = try_all()?;
    let mut out = room(sockets.len())?;
    for socket in sockets {
        let Some(own) = unix(&socket) else { continue };
        let mut files = Vec::new();
        own.in_flight(&mut files)?;
        for unaccepted in waiting(own)? {
            unaccepted.in_flight(&mut files)?;
        }
        out.push(Held { ino: socket.common().ino, socket, files });
    }
    out.sort_unstable_by_key(|held| held.ino);
    Ok(out)
}

fn find(held: &[Held], ino: u64) -> Option<&Held> {
    held.binary_search_by_key(&ino, |held| held.ino).ok().and_then(|at| held.get(at))
}

/// Sockets that all references to are in queues, by number, and whether they can be received all the same.
fn candidates(held: &[Held]) -> Result<Vec<Candidate>> {
    let files = || held.iter().flat_map(|h| &h.files);
    let mut descriptions: Vec<Description> = room(files().count())?;
    descriptions.extend(files().filter_map(|file| {
        let socket = file.socket?;
        Some(Description { key: file.key, queued: 1, references: file.references, socket })
    }));
    descriptions.sort_unstable_by_key(|d| d.key);
    descriptions.dedup_by(|next, first| {
        let same = next.key == first.key;
        first.queued += usize::from(same);
        same
    });
    descriptions.retain(|d| d.queued == d.references);
    let mut candidates = room(descriptions.len())?;
    candidates.extend(descriptions.iter().map(|d| Candidate { ino: d.socket, reached: false }));
    candidates.sort_unstable_by_key(|c: &Candidate| c.ino);
    candidates.dedup_by_key(|c| c.ino);
    Ok(candidates)
}

/// Sockets that cannot be reached.
fn unreachable(held: &[Held]) -> Result<Vec<Candidate>> {
    let mut candidates = candidates(held)?;
    // Each is put in once: those that are no candidates now, a candidate when it is reached.
    let mut reached = room(held.len() + candidates.len())?;
    let is_candidate = |h: &&Held| candidates.binary_search_by_key(&h.ino, |c| c.ino).is_ok();
    reached.extend(held.iter().filter(|h| !is_candidate(h)).map(|h| h.ino));
    while let Some(ino) = reached.pop() {
        let files = find(held, ino).map(|h| h.files.as_slice()).unwrap_or_default();
        for socket in files.iter().filter_map(|f| f.socket) {
            let found = candidates.binary_search_by_key(&socket, |c| c.ino).ok();
            if let Some(candidate) = found.and_then(|at| candidates.get_mut(at))
                && !candidate.reached
            {
                candidate.reached = true;
                reached.push(socket);
            }
        }
    }
    candidates.retain(|c| !c.reached);
    Ok(candidates)
}

/// Sockets up to which one that is closed looks itself. With more, what a process with many sockets does at its end
/// would grow with the square of their number.
const FEW: usize = 64;

/// There may be garbage, which [`collect_due`] is to look for.
static DUE: AtomicBool = AtomicBool::new(false);
/// Woken when that was set.
pub static WANTED: WaitQueue = WaitQueue::new();

/// A socket was closed: looks for what only it led to, or lets a task of the kernel look, once for many.
pub fn closed() {
    if !control::sockets_in_flight() {
        return;
    }
    if count() <= FEW {
        collect();
    } else if !DUE.swap(true, Ordering::SeqCst) {
        WANTED.wake(Events::IN);
    }
}

/// Whether [`collect_due`] has something to do.
pub fn is_due() -> bool {
    DUE.load(Ordering::SeqCst)
}

/// Does what [`closed`] left.
pub fn collect_due() {
    if DUE.swap(false, Ordering::SeqCst) {
        collect();
    }
}

/// Throws away what the queues of unreachable sockets hold. Where memory is too short to find out, the next occasion will
/// do.
fn collect() {
    // Closing what is found comes back here.
    let Some(_guard) = COLLECTING.try_lock() else { return };
    for _ in 0..ATTEMPTS {
        let moves = control::moves();
        let Ok(held) = scan() else { return };
        let Ok(gone) = unreachable(&held) else { return };
        if control::moves() != moves {
            continue;
        }
        for socket in gone.iter().filter_map(|c| find(&held, c.ino)).filter_map(|h| unix(&h.socket)) {
            for unaccepted in waiting(socket).unwrap_or_default() {
                unaccepted.drop_queues();
            }
            socket.drop_queues();
        }
        return;
    }
}
