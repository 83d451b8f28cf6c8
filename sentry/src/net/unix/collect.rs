//! Finds sockets that nothing leads to but their own queues: descriptions that were sent over a socket which is itself
//! in flight, and closed everywhere else.
//!
//! A description is a candidate where all references to it are in queues. Candidates that can be received from some
//! socket that is not one, directly or through others, stay; the queues of the rest are thrown away. No reference
//! comes to be outside of queues without a move out of one, and moves are counted: where one happened while this
//! looked, it looks again.

use super::UnixSocket;
use crate::net::control::{self, InFlight};
use crate::net::{Socket, all};
use crate::sync::Mutex;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// One collects at a time.
static COLLECTING: Mutex<()> = Mutex::new(());
/// Looks before it is given up until the next occasion.
const ATTEMPTS: usize = 3;

/// What one socket's queues hold.
struct Held {
    socket: Arc<dyn Socket>,
    files: Vec<InFlight>,
}

fn unix(socket: &Arc<dyn Socket>) -> Option<&UnixSocket> {
    socket.as_any().downcast_ref()
}

fn scan() -> BTreeMap<u64, Held> {
    let mut out = BTreeMap::new();
    for socket in all() {
        let Some(own) = unix(&socket) else { continue };
        let mut files = Vec::new();
        own.in_flight(&mut files);
        let waiting: Vec<_> = own.waiting.lock().iter().cloned().collect();
        for unaccepted in waiting {
            unaccepted.in_flight(&mut files);
        }
        out.insert(socket.common().ino, Held { socket, files });
    }
    out
}

/// Sockets that cannot be reached, by their number.
fn unreachable(held: &BTreeMap<u64, Held>) -> BTreeSet<u64> {
    // Description: references from queues, references at all, its socket.
    let mut counts: BTreeMap<usize, (usize, usize, u64)> = BTreeMap::new();
    for file in held.values().flat_map(|h| &h.files) {
        let Some(socket) = file.socket else { continue };
        counts.entry(file.key).or_insert((0, file.references, socket)).0 += 1;
    }
    let mut candidates: BTreeSet<u64> =
        counts.values().filter(|(queued, all, _)| queued == all).map(|(_, _, socket)| *socket).collect();
    let mut reached: Vec<u64> = held.keys().filter(|ino| !candidates.contains(ino)).copied().collect();
    while let Some(ino) = reached.pop() {
        let files = held.get(&ino).map(|h| h.files.as_slice()).unwrap_or_default();
        for socket in files.iter().filter_map(|f| f.socket) {
            if candidates.remove(&socket) {
                reached.push(socket);
            }
        }
    }
    candidates
}

/// Throws away what the queues of unreachable sockets hold.
pub fn collect() {
    if !control::sockets_in_flight() {
        return;
    }
    // Closing what is found comes back here.
    let Some(_guard) = COLLECTING.try_lock() else { return };
    for _ in 0..ATTEMPTS {
        let moves = control::moves();
        let held = scan();
        let gone = unreachable(&held);
        if control::moves() != moves {
            continue;
        }
        for socket in gone.iter().filter_map(|ino| held.get(ino)).filter_map(|h| unix(&h.socket)) {
            let waiting: Vec<_> = socket.waiting.lock().iter().cloned().collect();
            for unaccepted in waiting {
                unaccepted.drop_queues();
            }
            socket.drop_queues();
        }
        return;
    }
}
