//! Commands that come from outside (`runsc start`, `kill`, ...) into the sentry, and what it answers (postcard).

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
    /// Switches the system-call trace.
    Strace {
        /// On or off.
        on: bool,
    },
    /// Freezes the sandbox: answers when every task is switched out.
    Freeze,
    /// Lets a frozen sandbox run on.
    Thaw,
    /// Asks for the list of processes.
    Processes,
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
    /// Processes of the container.
    Processes(Vec<ProcessInfo>),
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
