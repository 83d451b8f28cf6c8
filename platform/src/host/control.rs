//! Control commands: from connections of the command line to the sentry, and the answers back.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};

use abi::control::{Answer, Command, Counters, Failure, Reply, Request, SavedMachine};
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use abi::boot::PlatformKind;

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
    /// The last descriptor that came along.
    file: Option<File>,
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
    /// Every vCPU stands at its barrier.
    frozen: bool,
}

/// Commands and answers of a sandbox.
pub struct Control {
    state: Mutex<State>,
    thawed: Condvar,
    memory: Arc<GuestMemory>,
    machine: Arc<OnceLock<MachineInfo>>,
    sentry: &'static str,
    created: Created,
    exits: AtomicU64,
}

/// What a machine is like, for those who save its memory.
#[derive(Debug, Clone, Copy)]
pub struct MachineInfo {
    /// Kind of platform.
    pub platform: PlatformKind,
    /// XCR0 that its vCPUs run with.
    pub xcr0: u64,
    /// Bytes of a standard-format XSAVE area.
    pub xsave_size: u64,
    /// Number of vCPUs.
    pub cpus: u32,
}

impl Control {
    /// No commands yet; `created` is told of the answer to `create`, `sentry` is the digest of the sentry image.
    pub fn new(
        created: Created,
        memory: Arc<GuestMemory>,
        machine: Arc<OnceLock<MachineInfo>>,
        sentry: &'static str,
    ) -> Self {
        Self {
            state: Mutex::default(),
            thawed: Condvar::new(),
            memory,
            machine,
            sentry,
            created,
            exits: AtomicU64::new(0),
        }
    }

    /// Counts a vCPU that has left the machine.
    pub fn count_exit(&self) {
        self.exits.fetch_add(1, Ordering::Relaxed);
    }

    /// Serves a command that is not for the sentry, which cannot serve any while it is frozen. `None`: it is for the
    /// sentry.
    fn serve_here(&self, request: &Request, file: Option<File>) -> Option<Result<Answer, Failure>> {
        let failure = |errno, context: &str| Err(Failure { errno, context: context.into() });
        let state = self.state();
        Some(match (request, state.frozen) {
            (Request::Counters, _) => {
                Ok(Answer::Counters(Counters { exits: self.exits.load(Ordering::Relaxed) }))
            }
            (Request::Freeze, true) => failure(libc::EALREADY, "the sandbox is frozen already"),
            (Request::Thaw, true) => Ok(Answer::Ok),
            (Request::Save, true) => match (file, self.machine.get()) {
                (Some(file), Some(machine)) => self.save(&file, machine),
                _ => failure(libc::EBADF, "no file to save to came along"),
            },
            (Request::Thaw | Request::Save, false) => failure(libc::EINVAL, "the sandbox is not frozen"),
            _ => return None,
        })
    }

    /// Writes the frozen memory. The state's lock is held meanwhile, so no thaw comes between.
    fn save(&self, file: &File, machine: &MachineInfo) -> Result<Answer, Failure> {
        let extents = self.memory.save(file).map_err(|e| Failure {
            errno: e.raw_os_error().unwrap_or(libc::EIO),
            context: "writing the memory of the sandbox".into(),
        })?;
        Ok(Answer::Saved(SavedMachine {
            platform: machine.platform as u32,
            xcr0: machine.xcr0,
            xsave_size: machine.xsave_size,
            cpus: machine.cpus,
            sentry: self.sentry.into(),
            extents,
        }))
    }

    /// Serves `Frozen`: answers the command that froze the sandbox, and waits for the thaw. Where nobody waits for the
    /// answer any more, nobody would thaw it either: it runs on.
    pub fn frozen(&self, command: u64) -> Result<i64, i32> {
        let mut state = self.state();
        let Some(waiting) = state.waiting.remove(&command) else { return Ok(0) };
        state.frozen = true;
        send(&waiting.stream, &Reply::Done { id: waiting.id, result: Ok(Answer::Ok) });
        while state.frozen {
            state = self.thawed.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        Ok(0)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Queues a command of a connection for the sentry, and returns whether it did: one that is not for the sentry is
    /// answered at once, and so is one that cannot be kept.
    fn push(&self, stream: &Arc<UnixStream>, command: Command, file: Option<File>) -> bool {
        let outer = command.id;
        if let Some(result) = self.serve_here(&command.request, file) {
            let thaws = matches!((&command.request, &result), (Request::Thaw, Ok(_)));
            send(stream, &Reply::Done { id: outer, result });
            if thaws {
                // After the answer: once it runs the sandbox may end at once.
                self.state().frozen = false;
                self.thawed.notify_all();
            }
            return false;
        }
        let mut state = self.state();
        state.next += 1;
        let id = state.next;
        let message = postcard::to_allocvec(&Command { id, request: command.request });
        match message {
            Ok(message) if state.queue.len() < MAX_QUEUED && message.len() as u64 <= MAX_FRAME => {
                state.queue.push_back(message);
                state.waiting.insert(id, Waiting { stream: Arc::clone(stream), id: outer });
                true
            }
            _ => {
                drop(state);
                let failure =
                    Failure { errno: libc::EAGAIN, context: "too many commands are waiting".into() };
                send(stream, &Reply::Done { id: outer, result: Err(failure) });
                false
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
        Ok(Self { stream: Arc::new(stream), input: Vec::new(), file: None })
    }

    /// The socket.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Reads what is there and queues the commands that are complete. Returns whether a command was queued, or
    /// `None` at the end of the connection or where it sent what is no command.
    pub fn input(&mut self, control: &Control) -> Option<bool> {
        let mut chunk = [0; 4096];
        match self.stream.recv_with_fd(&mut chunk) {
            Ok((0, _)) => return None,
            Ok((len, file)) => {
                self.input.extend_from_slice(&chunk[..len]);
                self.file = file.or(self.file.take());
            }
            Err(e) if matches!(e.errno(), libc::EAGAIN | libc::EINTR) => {}
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
            queued |= control.push(&self.stream, command, self.file.take());
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
