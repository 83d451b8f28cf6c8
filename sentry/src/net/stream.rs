//! The buffer in which a stream socket receives: bytes in order, with marks for what came beside them.

use super::control::{self, Creds, InFlight, Rights};
use crate::errno::{Errno, Result};
use crate::mm::frames::FrameRef;
use crate::mm::io::{Sink, Source};
use crate::sync::Mutex;
use alloc::collections::VecDeque;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const PAGE: usize = abi::PAGE_SIZE as usize;
/// Segments beyond those that full frames need: each that brings descriptors has a frame of its own.
const EXTRA_SEGMENTS: usize = 64;

struct Segment {
    frame: FrameRef,
    offset: usize,
    len: usize,
    creds: Option<Creds>,
    rights: Option<Rights>,
    /// Nothing may be added to it: it brought descriptors.
    sealed: bool,
}

#[derive(Default)]
struct State {
    segments: VecDeque<Segment>,
    /// A frame kept for the next bytes.
    spare: Option<FrameRef>,
    /// Bytes taken out so far.
    position: u64,
    /// Position of the urgent byte.
    mark: Option<u64>,
    /// The urgent byte, until it is read.
    urgent: Option<u8>,
}

/// How to read.
#[derive(Default, Clone, Copy)]
pub struct Reading {
    /// Leave it there.
    pub peek: bool,
    /// Stop where the sender changes.
    pub by_sender: bool,
    /// The urgent byte stays among the others.
    pub inline: bool,
}

/// What came beside the bytes of a read.
#[derive(Default)]
pub struct Beside {
    /// Of the sender, once bytes were read.
    pub creds: Option<Option<Creds>>,
    /// Descriptions: reading ends with these.
    pub rights: Option<Rights>,
}

/// The buffer.
#[derive(Default)]
pub struct StreamBuffer {
    state: Mutex<State>,
    /// Bytes in it, for poll without the lock.
    bytes: AtomicUsize,
    /// An urgent byte waits.
    urgent: AtomicBool,
}

impl StreamBuffer {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.bytes.load(Ordering::SeqCst)
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether an urgent byte waits.
    pub fn has_urgent(&self) -> bool {
        self.urgent.load(Ordering::SeqCst)
    }

    /// Throws everything away.
    pub fn clear(&self) {
        let old = {
            let mut state = self.state.lock();
            self.bytes.store(0, Ordering::SeqCst);
            state.spare = None;
            core::mem::take(&mut state.segments)
        };
        drop(old);
    }

    /// Shows the descriptions in it.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn show_rights(&self, out: &mut alloc::vec::Vec<InFlight>) -> Result<()> {
        let state = self.state.lock();
        state.segments.iter().filter_map(|s| s.rights.as_ref()).try_for_each(|rights| rights.show(out))
    }

    /// Takes as much from a source as there is room for below `capacity` bytes. `rights` go with the first byte.
    ///
    /// # Errors
    /// EAGAIN where there is no room; EFAULT, ENOMEM where nothing could be taken.
    pub fn push(
        &self,
        source: &mut dyn Source,
        capacity: usize,
        creds: Option<Creds>,
        rights: &mut Option<Rights>,
    ) -> Result<usize> {
        let total = source.remaining();
        let mut state = self.state.lock();
        let mut have = self.bytes.load(Ordering::Relaxed);
        let mut done = 0;
        let mut failure = None;
        while failure.is_none() && source.remaining() > 0 && have < capacity {
            let room = capacity - have;
            if rights.is_none()
                && let Some(last) = state.segments.back_mut()
                && !last.sealed
                && last.creds == creds
                && last.offset + last.len < PAGE
            {
                let end = last.offset + last.len;
                let want = room.min(PAGE - end).min(source.remaining());
                match source.take_to_frame(&last.frame, end, want) {
                    Ok(0) => break,
                    Ok(n) => {
                        last.len += n;
                        done += n;
                        have += n;
                        if n < want {
                            break;
                        }
                    }
                    Err(e) => failure = Some(e),
                }
                continue;
            }
            if state.segments.len() > capacity / PAGE + EXTRA_SEGMENTS {
                break;
            }
            let frame = match state.spare.take().map_or_else(FrameRef::alloc_uninit, Ok) {
                Ok(frame) => frame,
                Err(e) => {
                    failure = Some(e);
                    break;
                }
            };
            let want = room.min(PAGE).min(source.remaining());
            match source.take_to_frame(&frame, 0, want) {
                Ok(0) => break,
                Ok(n) => {
                    let rights = rights.take();
                    let sealed = rights.is_some();
                    if sealed {
                        control::note_move();
                    }
                    state.segments.push_back(Segment { frame, offset: 0, len: n, creds, rights, sealed });
                    done += n;
                    have += n;
                    if n < want {
                        break;
                    }
                }
                Err(e) => failure = Some(e),
            }
        }
        self.bytes.store(have, Ordering::SeqCst);
        match failure {
            Some(e) if done == 0 => Err(e),
            None if done == 0 && total > 0 => Err(Errno::EAGAIN),
            _ => Ok(done),
        }
    }

    /// Marks the byte that was added last as urgent.
    pub fn mark_urgent(&self) {
        let mut state = self.state.lock();
        let mut byte = [0];
        let Some(last) = state.segments.back() else { return };
        last.frame.read(last.offset + last.len - 1, &mut byte);
        state.mark = Some(state.position + self.bytes.load(Ordering::Relaxed) as u64 - 1);
        state.urgent = Some(byte[0]);
        self.urgent.store(true, Ordering::SeqCst);
    }

    /// The urgent byte, MSG_OOB; `peek` leaves it.
    ///
    /// # Errors
    /// EINVAL where there is none.
    pub fn read_urgent(&self, peek: bool) -> Result<u8> {
        let mut state = self.state.lock();
        let byte = state.urgent.ok_or(Errno::EINVAL)?;
        if !peek {
            state.urgent = None;
            self.urgent.store(false, Ordering::SeqCst);
        }
        Ok(byte)
    }

    /// Whether the next byte is the urgent one, SIOCATMARK.
    pub fn at_mark(&self) -> bool {
        let state = self.state.lock();
        state.mark == Some(state.position)
    }

    /// Moves what is there to a sink, up to a change of what came beside it.
    ///
    /// # Errors
    /// EAGAIN where nothing is there; EFAULT where nothing could be put.
    pub fn read(&self, sink: &mut dyn Sink, how: Reading, beside: &mut Beside) -> Result<usize> {
        if self.is_empty() {
            return Err(Errno::EAGAIN);
        }
        let mut state = self.state.lock();
        if !how.inline && state.mark == Some(state.position) && !how.peek {
            self.skip_mark(&mut state);
        }
        if state.segments.is_empty() {
            return Err(Errno::EAGAIN);
        }
        // A read ends before the urgent byte.
        let mut limit = match state.mark {
            Some(mark) if mark > state.position => {
                usize::try_from(mark - state.position).unwrap_or(usize::MAX)
            }
            _ => usize::MAX,
        };
        let (mut done, mut at) = (0, 0);
        let mut failure = None;
        while sink.remaining() > 0 && limit > 0 {
            let Some(segment) = state.segments.get_mut(at) else { break };
            match beside.creds {
                None => beside.creds = Some(segment.creds),
                Some(creds) if how.by_sender && creds != segment.creds => break,
                Some(_) => {}
            }
            let want = segment.len.min(sink.remaining()).min(limit);
            let moved = match sink.put_frame(&segment.frame, segment.offset, want) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) => {
                    failure = Some(e);
                    break;
                }
            };
            done += moved;
            limit -= moved;
            if how.peek {
                if let Some(rights) = &segment.rights {
                    beside.rights = Some(rights.duplicate());
                    break;
                }
                at += 1;
            } else {
                segment.offset += moved;
                segment.len -= moved;
                let rights = segment.rights.take();
                if rights.is_some() {
                    control::note_move();
                }
                let empty = segment.len == 0;
                state.position += moved as u64;
                if empty && let Some(gone) = state.segments.pop_front() {
                    state.spare = Some(gone.frame);
                }
                if rights.is_some() {
                    beside.rights = rights;
                    break;
                }
            }
            if moved < want {
                break;
            }
        }
        if !how.peek && done > 0 {
            self.bytes.fetch_sub(done, Ordering::SeqCst);
            if how.inline && state.mark.is_some_and(|m| m < state.position) {
                state.mark = None;
                state.urgent = None;
                self.urgent.store(false, Ordering::SeqCst);
            }
        }
        match failure {
            Some(e) if done == 0 => Err(e),
            _ => Ok(done),
        }
    }

    /// Leaves the urgent byte out of the stream.
    fn skip_mark(&self, state: &mut State) {
        let Some(segment) = state.segments.front_mut() else { return };
        segment.offset += 1;
        segment.len -= 1;
        let empty = segment.len == 0;
        if empty && let Some(gone) = state.segments.pop_front() {
            state.spare = Some(gone.frame);
        }
        state.position += 1;
        state.mark = None;
        state.urgent = None;
        self.urgent.store(false, Ordering::SeqCst);
        self.bytes.fetch_sub(1, Ordering::SeqCst);
    }
}
