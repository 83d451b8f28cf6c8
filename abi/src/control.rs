//! Commands that come from outside (`runsc start`, `kill`, ...) into the sentry, and what it answers (postcard).

use crate::resources::Resources;
use crate::spec::{ProcessSpec, Strace};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// A command with the number that its answer carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Number chosen by the VMM.
    pub id: u64,
    /// What to do.
    pub request: Request,
}

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Lets the created first process run.
    Start,
    /// Sends a signal to the first process, or to every process.
    Kill {
        /// Signal number.
        signal: i32,
        /// Every process of the container.
        all: bool,
    },
    /// Starts a further process in the container. Its streams are the descriptors that came with the command, in order:
    /// `stream` of each [`StreamSpec`](crate::spec::StreamSpec) is an index into these, which the VMM replaces. Answered
    /// by [`Answer::Started`]; [`Reply::Exited`] follows.
    Exec {
        /// The process.
        process: Box<ProcessSpec>,
        /// Kill it when the connection that started it closes.
        tied: bool,
    },
    /// Sends a signal to a process that [`Exec`](Self::Exec) has started.
    Signal {
        /// Its process id in the container.
        pid: u32,
        /// Signal number.
        signal: i32,
    },
    /// The terminal of a process that [`Exec`](Self::Exec) has started may have another size.
    Resize {
        /// Its process id in the container.
        pid: u32,
    },
    /// Switches the system-call trace. A descriptor that comes with the command is the debug log from now on.
    Strace {
        /// What is traced; `None` for nothing.
        trace: Option<Strace>,
    },
    /// Sets the lowest severity that goes to the debug log. A descriptor as with [`Strace`](Self::Strace).
    LogLevel {
        /// 0 errors to 3 details.
        level: u8,
    },
    /// Asks what each task is in: [`Answer::Text`].
    Stacks,
    /// Changes what the container may use. Where it is refused nothing has changed.
    Update {
        /// All of what it may use from now on.
        resources: Box<Resources>,
    },
    /// Freezes the sandbox: answered by the VMM when every task is switched out.
    Freeze,
    /// Lets a frozen sandbox run on. Served by the VMM.
    Thaw,
    /// Writes the memory of a frozen sandbox into the file whose descriptor came with the command: its extents one after
    /// the other, with holes where it is zero. Served by the VMM.
    Save,
    /// Waits for the end of the first process: [`Reply::Exited`] tells of it. Served by the VMM.
    Wait,
    /// Asks to be told of processes that are killed for want of memory, by [`Reply::OutOfMemory`]. Served by the VMM.
    Watch,
    /// Asks what the container uses.
    Usage,
    /// Asks for the list of processes.
    Processes,
    /// Asks for the counters of the sandbox process. Served by the VMM: the sentry is not disturbed.
    Counters,
}

/// What the sentry sends: an answer or an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Answer to the command with this number.
    Done {
        /// Number of the command.
        id: u64,
        /// Its result.
        result: Result<Answer, Failure>,
    },
    /// The process that the command with this number has started, or waits for, has ended.
    Exited {
        /// Number of the command.
        id: u64,
        /// Its wait status.
        status: i32,
    },
    /// Processes were killed for want of memory. To the sentry's VMM `id` is 0; to those who watch, the number of their
    /// command.
    OutOfMemory {
        /// Number of the command.
        id: u64,
        /// How many, since this was last told.
        kills: u64,
    },
    /// The container's root and mounts are made and its program is found and loaded: `create` is complete.
    Created {
        /// Why it failed, where it did.
        result: Result<(), Failure>,
    },
}

/// Result of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Nothing to say.
    Ok,
    /// Process id in the container of a process that was started.
    Started(u32),
    /// Processes of the container.
    Processes(Vec<ProcessInfo>),
    /// What the container uses.
    Usage(Usage),
    /// Lines for a person.
    Text(String),
    /// What the saved memory belongs to.
    Saved(SavedMachine),
    /// Counters of the sandbox process.
    Counters(Counters),
}

/// What a container uses, as the sentry counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Memory in use, bytes.
    pub memory: u64,
    /// Most memory that was in use at once, bytes.
    pub memory_peak: u64,
    /// Memory that there is, bytes.
    pub memory_limit: u64,
    /// Times that memory was short.
    pub shortages: u64,
    /// Processes that were killed for want of memory.
    pub kills: u64,
    /// Tasks: processes and their threads.
    pub tasks: u64,
}

/// What the sandbox process has counted since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Times that a vCPU left the machine for the host side: `KVM_RUN` returned (kvm), or the broker was woken
    /// (systrap).
    pub exits: u64,
}

/// A machine whose memory was saved: what a new one must be like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedMachine {
    /// A [`PlatformKind`](crate::boot::PlatformKind) as a number.
    pub platform: u32,
    /// XCR0 that its vCPUs ran with.
    pub xcr0: u64,
    /// Bytes of a standard-format XSAVE area.
    pub xsave_size: u64,
    /// Number of its vCPUs.
    pub cpus: u32,
    /// SHA-256 of the sentry image that it was made with, in hexadecimal.
    pub sentry: String,
    /// Extents of memory, in the order in which they lie in the file: guest-physical address, length, zone.
    pub extents: Vec<(u64, u64, u64)>,
}

/// A failure: errno and what failed, as runc words it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Positive errno.
    pub errno: i32,
    /// The object and operation, such as `exec: "/nosuch": stat /nosuch`.
    pub context: String,
}

/// One process, as `ps` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// Process id in the container.
    pub pid: u32,
    /// Its parent's.
    pub ppid: u32,
    /// Real user id.
    pub uid: u32,
    /// Command name.
    pub comm: String,
    /// State letter as in /proc/PID/stat.
    pub state: char,
    /// CPU time used, milliseconds.
    pub cpu_ms: u64,
}
