//! Control commands: from connections of the command line to the sentry, and the answers back.

use std::collections::{HashMap, VecDeque};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard};

use abi::control::{Command, Failure, Reply};

use super::{Created, fault};
use crate::memory::GuestMemory;

/// Most bytes of a serialised command or answer.
pub const MAX_FRAME: u64 = 64 << 10;
/// Most commands that wait for the sentry.
const MAX_QUEUED: usize = 64;

/// A connection of the command line. Frames are a length (4 bytes, little-endian) and a postcard message.
pub struct Connection {
    stream: Arc<UnixStream>,
    input: Vec<u8>,
}

/// A command that the sentry has not answered yet.
struct Waiting {
    stream: Arc<UnixStream>,
    id: u64,
}

#[derive(Default)]
struct State {
    next: u64,
    queue: VecDeque<Vec<u8>>,
    waiting: HashMap<u64, Waiting>,
}

/// Commands and answers of a sandbox.
pub struct Control {
    state: Mutex<State>,
    created: Created,
}

impl Control {
    /// No commands yet; `created` is told of the answer to `create`.
    pub fn new(created: Created) -> Self {
        Self { state: Mutex::default(), created }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Queues a command of a connection; refuses it at once where it cannot be kept.
    fn push(&self, stream: &Arc<UnixStream>, command: Command) {
        let outer = command.id;
        let mut state = self.state();
        state.next += 1;
        let id = state.next;
        let message = postcard::to_allocvec(&Command { id, request: command.request });
        match message {
            Ok(message) if state.queue.len() < MAX_QUEUED && message.len() as u64 <= MAX_FRAME => {
                state.queue.push_back(message);
                state.waiting.insert(id, Waiting { stream: Arc::clone(stream), id: outer });
            }
            _ => {
                drop(state);
                let failure =
                    Failure { errno: libc::EAGAIN, context: "too many commands are waiting".into() };
                send(stream, &Reply::Done { id: outer, result: Err(failure) });
            }
        }
    }

    /// Serves `ControlReceive`.
    pub fn receive(&self, memory: &GuestMemory, gpa: u64, len: u64) -> Result<i64, i32> {
        if len < MAX_FRAME {
            return Err(libc::EINVAL);
        }
        let mut state = self.state();
        let message = state.queue.front().ok_or(libc::EAGAIN)?;
        memory.write(gpa, message).map_err(fault)?;
        let taken = message.len() as i64;
        state.queue.pop_front();
        Ok(taken)
    }

    /// Serves `ControlReply`.
    pub fn reply(&self, bytes: &[u8]) -> Result<i64, i32> {
        match postcard::from_bytes::<Reply>(bytes).map_err(|_| libc::EINVAL)? {
            Reply::Created { result } => (self.created)(result),
            Reply::Done { id, result } => {
                let waiting = self.state().waiting.remove(&id).ok_or(libc::EINVAL)?;
                send(&waiting.stream, &Reply::Done { id: waiting.id, result });
            }
        }
        Ok(0)
    }

    /// Forgets the commands of a closed connection.
    pub fn forget(&self, connection: &Connection) {
        self.state().waiting.retain(|_, waiting| !Arc::ptr_eq(&waiting.stream, &connection.stream));
    }
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(stream: UnixStream) -> std::io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream: Arc::new(stream), input: Vec::new() })
    }

    /// The socket.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Reads what is there and queues the commands that are complete. Returns whether a command was queued, or
    /// `None` at the end of the connection or where it sent what is no command.
    pub fn input(&mut self, control: &Control) -> Option<bool> {
        let mut chunk = [0; 4096];
        match (&*self.stream).read(&mut chunk) {
            Ok(0) => return None,
            Ok(len) => self.input.extend_from_slice(&chunk[..len]),
            Err(e)
                if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted) => {}
            Err(_) => return None,
        }
        let mut queued = false;
        while let Some((head, rest)) = self.input.split_first_chunk::<4>() {
            let len = u32::from_le_bytes(*head) as usize;
            if len as u64 > MAX_FRAME {
                return None;
            }
            let Some(message) = rest.get(..len) else { break };
            let command = postcard::from_bytes::<Command>(message).ok()?;
            control.push(&self.stream, command);
            queued = true;
            self.input.drain(..4 + len);
        }
        Some(queued)
    }
}

/// Sends an answer. A command line that went away, or does not read, gets none.
fn send(stream: &UnixStream, reply: &Reply) {
    if let Ok(message) = postcard::to_allocvec(reply) {
        let mut frame = (message.len() as u32).to_le_bytes().to_vec();
        frame.extend_from_slice(&message);
        let mut out = stream;
        let _ = out.write_all(&frame);
    }
}
