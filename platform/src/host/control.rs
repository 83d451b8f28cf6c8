//! Control commands: from connections of the command line to the sentry, and the answers back.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::Write;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};

use abi::control::{Answer, Command, Counters, Failure, Reply, Request, SavedMachine};
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use abi::boot::PlatformKind;

use abi::spec::ProcessSpec;

use super::streams::{Stream, Streams};
use super::{Created, SetLog, fault};
use crate::memory::GuestMemory;

/// Most bytes of a serialised command or answer.
pub const MAX_FRAME: u64 = 64 << 10;
/// Most descriptors that come with a command.
pub const MAX_FILES: usize = 64;
/// Most commands that wait for the sentry.
const MAX_QUEUED: usize = 64;

/// A connection of the command line. Frames are a length (4 bytes, little-endian) and a postcard message.
pub struct Connection {
    stream: Arc<UnixStream>,
    input: Vec<u8>,
    /// Descriptors that came along and were not used yet.
    files: VecDeque<OwnedFd>,
}

/// A command that the sentry has not answered yet.
struct Waiting {
    stream: Arc<UnixStream>,
    id: u64,
    /// It starts a process: whether that is killed when the connection closes.
    starts: Option<bool>,
    /// The connection has closed.
    gone: bool,
}

#[derive(Default)]
struct State {
    next: u64,
    queue: VecDeque<Vec<u8>>,
    waiting: HashMap<u64, Waiting>,
    /// Commands that started a process which has not ended, and its process id in the container.
    running: HashMap<u64, (Waiting, u32)>,
    /// Commands that wait for the end of the first process.
    waits: Vec<Waiting>,
    /// Commands that want to be told of processes killed for want of memory.
    watches: Vec<Waiting>,
    /// Every vCPU stands at its barrier.
    frozen: bool,
}

/// Commands and answers of a sandbox.
pub struct Control {
    state: Mutex<State>,
    thawed: Condvar,
    memory: Arc<GuestMemory>,
    streams: Arc<Streams>,
    machine: Arc<OnceLock<MachineInfo>>,
    sentry: &'static str,
    created: Created,
    set_log: SetLog,
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
    /// No commands yet; `created` is told of the answer to `create`, `set_log` of another debug log, `sentry` is the digest of the sentry image.
    pub fn new(
        created: Created,
        set_log: SetLog,
        memory: Arc<GuestMemory>,
        streams: Arc<Streams>,
        machine: Arc<OnceLock<MachineInfo>>,
        sentry: &'static str,
    ) -> Self {
        Self {
            state: Mutex::default(),
            thawed: Condvar::new(),
            memory,
            streams,
            machine,
            sentry,
            created,
            set_log,
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
        if self.memory.images().is_some_and(|images| images.files().next().is_some()) {
            let context = "a sandbox whose files are in an image cannot be saved yet".into();
            return Err(Failure { errno: libc::EOPNOTSUPP, context });
        }
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
    fn push(&self, stream: &Arc<UnixStream>, mut command: Command, files: &mut VecDeque<OwnedFd>) -> bool {
        let outer = command.id;
        let mut starts = None;
        if let Request::Exec { process, tied } = &mut command.request {
            starts = Some(*tied);
            if let Err(failure) = self.adopt(process, files) {
                send(stream, &Reply::Done { id: outer, result: Err(failure) });
                return false;
            }
        }
        if matches!(command.request, Request::Wait | Request::Watch) {
            let waiting = Waiting { stream: Arc::clone(stream), id: outer, starts: None, gone: false };
            let mut state = self.state();
            if matches!(command.request, Request::Wait) {
                state.waits.push(waiting);
            } else {
                // Answered, so that whoever asks knows from when on it is told.
                send(stream, &Reply::Done { id: outer, result: Ok(Answer::Ok) });
                state.watches.push(waiting);
            }
            return false;
        }
        if let Request::Update { resources } = &command.request
            && let Some(bytes) = resources.machine_memory
        {
            self.memory.raise_limit(bytes);
        }
        let takes =
            matches!(command.request, Request::Save | Request::Strace { .. } | Request::LogLevel { .. });
        let mut file = if takes { files.pop_front() } else { None };
        if let Request::Strace { .. } | Request::LogLevel { .. } = command.request
            && !(self.set_log)(file.take().map(File::from))
        {
            let context = "the sandbox has no debug log; name one with --debug-log FILE".into();
            let result = Err(Failure { errno: libc::EBADF, context });
            send(stream, &Reply::Done { id: outer, result });
            return false;
        }
        if let Some(result) = self.serve_here(&command.request, file.map(File::from)) {
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
                let stream = Arc::clone(stream);
                state.waiting.insert(id, Waiting { stream, id: outer, starts, gone: false });
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
                let mut state = self.state();
                // Nobody waits for the answer to a command of a connection that has closed.
                let Some(waiting) = state.waiting.remove(&id) else { return Ok(0) };
                send(&waiting.stream, &Reply::Done { id: waiting.id, result: result.clone() });
                if let (Some(tied), Ok(Answer::Started(pid))) = (waiting.starts, result) {
                    if waiting.gone && tied {
                        state.kill(pid);
                    }
                    state.running.insert(id, (waiting, pid));
                }
            }
            Reply::OutOfMemory { kills, .. } => {
                for waiting in &self.state().watches {
                    send(&waiting.stream, &Reply::OutOfMemory { id: waiting.id, kills });
                }
            }
            Reply::Exited { id, status } => {
                let ended = self.state().running.remove(&id);
                if let Some((waiting, _)) = ended {
                    send(&waiting.stream, &Reply::Exited { id: waiting.id, status });
                }
            }
        }
        Ok(0)
    }

    /// The first process has ended with this wait status: tells those who wait for it.
    pub fn ended(&self, status: i32) {
        let waits = std::mem::take(&mut self.state().waits);
        for waiting in waits {
            send(&waiting.stream, &Reply::Exited { id: waiting.id, status });
        }
    }

    /// Forgets the commands of a closed connection, and kills the processes that are tied to it. Returns whether a
    /// command was queued.
    pub fn forget(&self, connection: &Connection) -> bool {
        let mut state = self.state();
        let theirs = |waiting: &Waiting| Arc::ptr_eq(&waiting.stream, &connection.stream);
        state.waiting.retain(|_, waiting| waiting.starts.is_some() || !theirs(waiting));
        state.waits.retain(|waiting| !theirs(waiting));
        state.watches.retain(|waiting| !theirs(waiting));
        state.waiting.values_mut().filter(|w| theirs(w)).for_each(|w| w.gone = true);
        let kills: Vec<u32> = state
            .running
            .values()
            .filter(|(waiting, _)| theirs(waiting) && waiting.starts == Some(true))
            .map(|(_, pid)| *pid)
            .collect();
        kills.iter().for_each(|pid| state.kill(*pid));
        !kills.is_empty()
    }

    /// Makes streams of the descriptors that came with a process to start, and puts their numbers into it.
    fn adopt(&self, process: &mut ProcessSpec, files: &mut VecDeque<OwnedFd>) -> Result<(), Failure> {
        let failure = |errno, context: &str| Failure { errno, context: context.into() };
        let count = process.streams.iter().map(|s| s.stream as usize + 1).max().unwrap_or(0);
        if count > files.len() {
            return Err(failure(libc::EBADF, "descriptors of the process's streams are missing"));
        }
        let mut numbers: Vec<u32> = Vec::new();
        for (index, fd) in files.drain(..count).enumerate() {
            let spec = process.streams.iter().find(|s| s.stream as usize == index);
            let added = spec.and_then(|spec| self.streams.add(Stream::of(fd, spec)));
            let Some(number) = added else {
                for number in numbers {
                    let _ = self.streams.close(u64::from(number));
                }
                return Err(failure(libc::EMFILE, "streams of the process"));
            };
            numbers.push(number);
        }
        for spec in &mut process.streams {
            spec.stream = numbers[spec.stream as usize];
        }
        Ok(())
    }
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(stream: UnixStream) -> std::io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream: Arc::new(stream), input: Vec::new(), files: VecDeque::new() })
    }

    /// The socket.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Reads what is there and queues the commands that are complete. Returns whether a command was queued, or
    /// `None` at the end of the connection or where it sent what is no command.
    pub fn input(&mut self, control: &Control) -> Option<bool> {
        let mut chunk = [0; 4096];
        match receive(&self.stream, &mut chunk, &mut self.files) {
            Ok(0) => return None,
            Ok(len) => self.input.extend_from_slice(&chunk[..len]),
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
            queued |= control.push(&self.stream, command, &mut self.files);
            self.input.drain(..4 + len);
        }
        Some(queued)
    }
}

/// Receives bytes, and descriptors that came along.
fn receive(
    stream: &UnixStream,
    buffer: &mut [u8],
    files: &mut VecDeque<OwnedFd>,
) -> Result<usize, vmm_sys_util::errno::Error> {
    let mut fds = [-1; MAX_FILES];
    let mut part = [libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() }];
    // SAFETY: the part is `buffer`, which takes any bytes.
    let (len, count) = unsafe { stream.recv_with_fds(&mut part, &mut fds) }?;
    // SAFETY: descriptors that were just received and that nobody else owns.
    files.extend(fds[..count].iter().map(|fd| unsafe { OwnedFd::from_raw_fd(*fd) }));
    // What no command takes is closed.
    files.truncate(MAX_FILES);
    Ok(len)
}

impl State {
    /// Queues SIGKILL for a process that was started.
    fn kill(&mut self, pid: u32) {
        self.next += 1;
        let request = Request::Signal { pid, signal: libc::SIGKILL };
        if let Ok(message) = postcard::to_allocvec(&Command { id: self.next, request }) {
            self.queue.push_back(message);
        }
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
