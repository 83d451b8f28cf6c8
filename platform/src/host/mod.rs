//! Serves host calls: what the sentry may ask of its host, the same for every platform.
//!
//! A host call is a request of code that may be hostile. Its block is copied once before it is looked at, every
//! argument is checked, and no call blocks for long.

pub(crate) mod changes;
pub mod control;
pub mod files;
mod input;
mod notify;
mod paths;
pub mod streams;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex, OnceLock};

use abi::boot::Zone;
use abi::hostcall::{GpaRange, HostCallBlock, MAX_RANGES, Request};
use zerocopy::IntoBytes;

use self::control::{Control, MachineInfo};
use self::files::{Directory, Files};
use self::streams::{Stream, Streams};
use crate::memory::{GuestMemory, OutOfRange};
use crate::{Error, Events, clock};

/// Most bytes of one text (a log line, a panic message).
const MAX_TEXT: u64 = 4096;
/// Most bytes of one request for random numbers.
const MAX_RANDOM: u64 = 4096;

/// How a sandbox ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The first process ended with this wait status.
    Exited(i32),
    /// The sentry or its machine failed.
    Failed(String),
}

/// What the caller of [`HostServices::serve`] does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Served {
    /// Store the result and go on.
    Return(i64),
    /// Start the further vCPUs, then go on.
    StartCpus,
    /// End the sandbox.
    End(Outcome),
}

/// Takes the lines that the sentry logs: severity as of `LogWrite`, text.
pub type LogSink = Box<dyn Fn(u64, &str) + Send + Sync>;
/// Called once at the end of the sandbox; returns the exit code of the process.
pub type Finish = Box<dyn Fn(&Outcome) -> i32 + Send + Sync>;
/// Told of the answer to `create`.
pub type Created = Box<dyn Fn(Result<(), abi::control::Failure>) + Send + Sync>;

/// Takes another file for the log, where there is one; returns whether the sandbox has a log.
pub type SetLog = Box<dyn Fn(Option<std::fs::File>) -> bool + Send + Sync>;

/// What the services of a sandbox are made of.
pub struct Parts {
    /// Guest memory.
    pub memory: Arc<GuestMemory>,
    /// Donated directories and files, by index.
    pub directories: Vec<Directory>,
    /// Streams, by index.
    pub streams: Vec<Stream>,
    /// Where control connections come from.
    pub listener: Option<UnixListener>,
    /// A signal descriptor that reports window-size changes.
    pub winch: Option<OwnedFd>,
    /// SHA-256 of the sentry image, in hexadecimal; snapshots name it.
    pub sentry: &'static str,
    /// Takes log lines.
    pub log: LogSink,
    /// Takes another file for the log lines.
    pub set_log: SetLog,
    /// Told when the container is created.
    pub created: Created,
    /// Called at the end.
    pub finish: Finish,
}

/// Serves the host calls of one sandbox.
pub struct HostServices {
    memory: Arc<GuestMemory>,
    files: Files,
    streams: Arc<Streams>,
    control: Arc<Control>,
    machine: Arc<OnceLock<MachineInfo>>,
    events: Arc<OnceLock<Arc<dyn Events>>>,
    cpus_started: OnceLock<()>,
    log: LogSink,
    finish: Mutex<Finish>,
}

impl HostServices {
    /// Makes the services; starts the thread that watches streams and control connections.
    pub fn new(parts: Parts) -> Result<Arc<Self>, Error> {
        let events: Arc<OnceLock<Arc<dyn Events>>> = Arc::new(OnceLock::new());
        let machine = Arc::new(OnceLock::new());
        let (memory, known) = (Arc::clone(&parts.memory), Arc::clone(&machine));
        let streams = Arc::new(Streams::new(parts.streams)?);
        let control = Arc::new(Control::new(
            parts.created,
            parts.set_log,
            memory,
            Arc::clone(&streams),
            known,
            parts.sentry,
        ));
        let files = Files::new(parts.directories);
        input::Watcher {
            memory: Arc::clone(&parts.memory),
            streams: Arc::clone(&streams),
            files: Arc::clone(&files.notify),
            control: Arc::clone(&control),
            events: Arc::clone(&events),
            listener: parts.listener,
            winch: parts.winch,
        }
        .start()?;
        Ok(Arc::new(Self {
            memory: parts.memory,
            files,
            streams,
            control,
            machine,
            events,
            cpus_started: OnceLock::new(),
            log: parts.log,
            finish: Mutex::new(parts.finish),
        }))
    }

    /// Sets the way by which events reach the guest; once.
    pub fn set_events(&self, events: Arc<dyn Events>) {
        let _ = self.events.set(events);
    }

    /// Sets what the machine is like; once.
    pub fn set_machine(&self, machine: MachineInfo) {
        let _ = self.machine.set(machine);
    }

    /// Counts a vCPU that has left the machine: the platform calls it each time.
    pub fn count_exit(&self) {
        self.control.count_exit();
    }

    /// Ends the sandbox and with it this process. Of several threads that call it, the first wins.
    pub fn end(&self, outcome: &Outcome) -> ! {
        if let Outcome::Exited(status) = outcome {
            self.control.ended(*status);
        }
        let finish = self.finish.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let code = finish(outcome);
        crate::process::exit_now(code)
    }

    /// Serves one call. `block` is the caller's private copy.
    pub fn serve(&self, block: &HostCallBlock) -> Served {
        let Some(request) = Request::decode(block) else {
            return Served::Return(-i64::from(libc::ENOSYS));
        };
        let result = match request {
            Request::SandboxExit(call) => return Served::End(Outcome::Exited(call.status as i32)),
            Request::Panic(call) => {
                let text = self.text(call.gpa, call.len.min(MAX_TEXT)).unwrap_or_else(|_| "(no text)".into());
                return Served::End(Outcome::Failed(format!("the sentry met a bug of its own: {text}")));
            }
            Request::CpuStart(_) => match self.cpus_started.set(()) {
                Ok(()) => return Served::StartCpus,
                Err(()) => Err(libc::EALREADY),
            },
            other => self.serve_plain(&other),
        };
        Served::Return(result.unwrap_or_else(|errno| -i64::from(errno)))
    }

    fn serve_plain(&self, request: &Request) -> Result<i64, i32> {
        let memory = &self.memory;
        match *request {
            Request::LogWrite(call) => {
                let text = self.text(call.gpa, call.len)?;
                (self.log)(call.level, &text);
                Ok(0)
            }
            Request::MemGrow(call) => {
                let zone = match call.zone {
                    z if z == Zone::Kernel as u64 => Zone::Kernel,
                    z if z == Zone::User as u64 => Zone::User,
                    _ => return Err(libc::EINVAL),
                };
                memory.grow(call.len, zone).map(|gpa| gpa as i64)
            }
            Request::ImageMap(call) => memory.map_image(call.gpa).map(|len| len as i64),
            Request::ImageCheck(_) => Ok(i64::from(memory.check_images())),
            Request::MemRelease(call) => {
                for range in self.ranges(call.ranges_gpa, call.count)? {
                    memory.release(range.gpa, range.len)?;
                }
                Ok(0)
            }
            Request::Random(call) => {
                if call.len > MAX_RANDOM {
                    return Err(libc::EINVAL);
                }
                let mut bytes = vec![0; call.len as usize];
                clock::random(&mut bytes).map_err(|_| libc::EIO)?;
                memory.write(call.gpa, &bytes).map_err(fault)?;
                Ok(0)
            }
            Request::ClockRead(call) => {
                memory.write_struct(call.gpa, &clock::sample()).map_err(fault)?;
                Ok(0)
            }
            Request::CpuYield(_) => {
                std::thread::yield_now();
                Ok(0)
            }
            Request::FileStatAt(call) => {
                let path = self.path(call.path_gpa, call.path_len)?;
                self.store(call.stat_gpa, &self.files.stat_at(call.root, &path)?)
            }
            Request::FileReadlink(call) => {
                let path = self.path(call.path_gpa, call.path_len)?;
                self.store_bytes(call.buf_gpa, call.buf_len, &self.files.readlink(call.root, &path)?)
            }
            Request::FileOpen(call) => {
                let path = self.path(call.path_gpa, call.path_len)?;
                self.files.open(call.root, &path, call.flags, call.mode)
            }
            Request::FileClose(call) => self.files.close(call.handle),
            Request::FileRead(call) => {
                let ranges = self.ranges(call.ranges_gpa, call.count)?;
                self.files.read(memory, call.handle, call.offset, &ranges)
            }
            Request::FileReadAt(call) => {
                let path = self.path(call.path_gpa, call.path_len)?;
                let ranges = self.ranges(call.ranges_gpa, call.count)?;
                self.files.read_at(memory, call.root, &path, call.offset, &ranges)
            }
            Request::FileListAt(call) => {
                let path = self.path(call.path_gpa, call.path_len)?;
                let entries = self.files.list_at(call.root, &path, call.buf_len)?;
                self.store_bytes(call.buf_gpa, call.buf_len, &entries)
            }
            Request::FileWrite(call) => {
                let ranges = self.ranges(call.ranges_gpa, call.count)?;
                self.files.write(memory, call.handle, call.offset, &ranges)
            }
            Request::FileReadDir(call) => {
                let entries = self.files.read_dir(call.handle, call.rewind != 0, call.buf_len)?;
                self.store_bytes(call.buf_gpa, call.buf_len, &entries)
            }
            Request::FileChange(call) => {
                let (path_len, other_len) = (call.lens & 0xffff_ffff, call.lens >> 32);
                let path = self.path(call.path_gpa, path_len)?;
                let other = self.path(call.path_gpa.checked_add(path_len).ok_or(libc::EFAULT)?, other_len)?;
                self.files.change(call.root, &path, &other, call.operation, call.first, call.second)
            }
            Request::FileWatch(call) => {
                let path = self.path(call.path_gpa, call.path_len)?;
                self.files.watch(call.root, &path, call.mask)
            }
            Request::FileUnwatch(call) => self.files.notify.remove(call.watch),
            Request::FileEvents(call) => {
                let (events, armed) = self.files.notify.take(call.buf_len)?;
                if armed {
                    self.streams.look_again();
                }
                self.store_bytes(call.buf_gpa, call.buf_len, &events)
            }
            Request::FileSetAttr(call) => {
                let values = [call.first, call.second, call.third, call.fourth];
                self.files.set_attr(call.handle, call.operation, values)
            }
            Request::FileLink(call) => {
                let path = self.path(call.path_gpa, call.path_len)?;
                self.files.link(call.handle, call.root, &path)
            }
            Request::FileTruncate(call) => self.files.truncate_handle(call.handle, call.size),
            Request::FileSync(call) => self.files.sync(call.handle, call.data != 0),
            Request::FileStatHandle(call) => self.store(call.stat_gpa, &self.files.stat_handle(call.handle)?),
            Request::FileGetXattr(call) => {
                let (path_len, name_len) = (call.lens & 0xffff_ffff, call.lens >> 32);
                let path = self.path(call.path_gpa, path_len)?;
                let name_gpa = call.path_gpa.checked_add(path_len).ok_or(libc::EFAULT)?;
                let name = self.path(name_gpa, name_len)?;
                self.store_bytes(call.buf_gpa, call.buf_len, &self.files.get_xattr(call.root, &path, &name)?)
            }
            Request::StreamRead(call) => self.streams.read(memory, call.stream, call.gpa, call.len),
            Request::StreamWrite(call) => self.streams.write(memory, call.stream, call.gpa, call.len),
            Request::StreamPoll(call) => self.streams.poll(call.stream, call.events),
            Request::StreamSeek(call) => self.streams.seek(call.stream, call.offset as i64, call.whence),
            Request::StreamStat(call) => self.store(call.stat_gpa, &self.streams.stat(call.stream)?),
            Request::StreamTerminal(call) => {
                self.streams.terminal(memory, call.stream, call.request, call.gpa)
            }
            Request::StreamClose(call) => self.streams.close(call.stream),
            Request::Frozen(call) => self.control.frozen(call.command),
            Request::ControlReceive(call) => self.control.receive(memory, call.gpa, call.len),
            Request::ControlReply(call) => {
                if call.len > control::MAX_FRAME {
                    return Err(libc::EMSGSIZE);
                }
                self.control.reply(&self.bytes(call.gpa, call.len)?)
            }
            // Served by `serve`, or by the platform that has stubs.
            Request::SandboxExit(_)
            | Request::Panic(_)
            | Request::CpuStart(_)
            | Request::StubSpawn(_)
            | Request::StubKill(_) => Err(libc::ENOSYS),
        }
    }

    /// A copy of `len` bytes of guest memory; the caller has bounded `len`.
    fn bytes(&self, gpa: u64, len: u64) -> Result<Vec<u8>, i32> {
        self.memory.host(gpa, len).map_err(fault)?;
        let mut bytes = vec![0; len as usize];
        self.memory.read(gpa, &mut bytes).map_err(fault)?;
        Ok(bytes)
    }

    fn text(&self, gpa: u64, len: u64) -> Result<String, i32> {
        if len > MAX_TEXT {
            return Err(libc::EINVAL);
        }
        Ok(String::from_utf8_lossy(&self.bytes(gpa, len)?).into_owned())
    }

    fn path(&self, gpa: u64, len: u64) -> Result<Vec<u8>, i32> {
        if len > abi::hostcall::MAX_PATH {
            return Err(libc::ENAMETOOLONG);
        }
        self.bytes(gpa, len)
    }

    fn ranges(&self, gpa: u64, count: u64) -> Result<Vec<GpaRange>, i32> {
        if count > MAX_RANGES {
            return Err(libc::EINVAL);
        }
        let mut ranges = vec![GpaRange { gpa: 0, len: 0 }; count as usize];
        self.memory.read(gpa, ranges.as_mut_slice().as_mut_bytes()).map_err(fault)?;
        Ok(ranges)
    }

    fn store<T: IntoBytes + zerocopy::Immutable>(&self, gpa: u64, value: &T) -> Result<i64, i32> {
        self.memory.write_struct(gpa, value).map_err(fault)?;
        Ok(0)
    }

    /// Stores at most `room` bytes and returns their number.
    fn store_bytes(&self, gpa: u64, room: u64, bytes: &[u8]) -> Result<i64, i32> {
        let kept = &bytes[..bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
        self.memory.write(gpa, kept).map_err(fault)?;
        Ok(kept.len() as i64)
    }

    /// Ends the process after a failure on the host side; for callers that never return.
    pub fn fail(&self, error: &Error) -> Infallible {
        self.end(&Outcome::Failed(error.to_string()))
    }
}

/// A range that is not guest memory, as the sentry is told of it.
pub(crate) fn fault(_: OutOfRange) -> i32 {
    libc::EFAULT
}
