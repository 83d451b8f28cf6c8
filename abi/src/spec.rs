//! Description of a container, as the VMM hands it to the sentry (postcard).

use crate::resources::Resources;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What a sandbox starts with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchSpec {
    /// The first container.
    pub container: ContainerSpec,
    /// Images of file systems, by index.
    pub images: Vec<ImageSpec>,
    /// Print system calls to the debug log (`--strace`).
    pub strace: Option<Strace>,
    /// Look for tasks that are stuck in the sentry.
    pub watchdog: Option<Watchdog>,
    /// Honour set-user-id and set-group-id bits of programs (`--allow-suid`).
    pub allow_suid: bool,
    /// Lowest severity that goes to the debug log (0 error to 3 debug).
    pub log_level: u8,
}

/// An image of a file system, as a file of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSpec {
    /// Guest-physical address of its first byte; a multiple of 2 MiB.
    pub gpa: u64,
    /// Its bytes.
    pub len: u64,
}

/// A trace of system calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strace {
    /// Names of the calls; empty for all.
    pub calls: Vec<String>,
    /// Bytes of a buffer that are shown.
    pub log_size: u32,
}

/// A watchdog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watchdog {
    /// How long a task may be in one system call without waiting, milliseconds.
    pub limit_ms: u32,
    /// End the sandbox; otherwise it is only logged.
    pub panics: bool,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Identifier.
    pub id: String,
    /// Host name in its UTS namespace.
    pub hostname: String,
    /// NIS domain name.
    pub domainname: String,
    /// Its first process.
    pub process: ProcessSpec,
    /// The root file system.
    pub root: MountSpec,
    /// Further mounts, in order.
    pub mounts: Vec<MountSpec>,
    /// Device nodes beside the standard ones, in order.
    pub devices: Vec<DeviceSpec>,
    /// Paths that appear empty.
    pub masked_paths: Vec<String>,
    /// Paths that appear read-only.
    pub readonly_paths: Vec<String>,
    /// sysctl settings.
    pub sysctl: Vec<(String, String)>,
    /// Filter of system calls that its processes begin with.
    pub seccomp: Option<SeccompSpec>,
    /// What it may use.
    pub resources: Resources,
    /// Start the process at once (`run`); otherwise wait for [`Start`](crate::control::Request::Start).
    pub start: bool,
}

/// A process to start in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Arguments; the first names the program.
    pub args: Vec<Vec<u8>>,
    /// Environment, `NAME=value`.
    pub env: Vec<Vec<u8>>,
    /// Working directory.
    pub cwd: Vec<u8>,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// File-mode creation mask.
    pub umask: u32,
    /// Capability sets as bit masks: effective, permitted, inheritable, bounding, ambient.
    pub capabilities: [u64; 5],
    /// Set no_new_privs.
    pub no_new_privs: bool,
    /// Resource limits: number (`RLIMIT_*`), soft, hard.
    pub rlimits: Vec<(u32, u64, u64)>,
    /// OOM score adjustment.
    pub oom_score_adj: i32,
    /// Whether a guest terminal is made for it; its master is stream 0 then.
    pub terminal: bool,
    /// Window size of the terminal: rows, columns.
    pub console_size: (u16, u16),
    /// Streams behind file descriptors: index 0 to 2 are stdin, stdout and stderr, then those of --preserve-fds.
    pub streams: Vec<StreamSpec>,
}

/// A filter of system calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompSpec {
    /// What calls answer that no rule is for, as a filter returns it: seccomp(2).
    pub default: u32,
    /// Rules.
    pub rules: Vec<SeccompRule>,
    /// Whether what is not allowed is logged.
    pub log: bool,
}

/// A rule for some system calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompRule {
    /// Names of the calls.
    pub names: Vec<String>,
    /// What they answer.
    pub answer: u32,
    /// What must hold of their arguments, all of it.
    pub args: Vec<SeccompArg>,
}

/// A condition of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompArg {
    /// Which argument: 0 to 5.
    pub index: u8,
    /// What it is compared with; the mask of a masked comparison.
    pub value: u64,
    /// What it is compared with under the mask.
    pub value_two: u64,
    /// How.
    pub comparison: Comparison,
}

/// How an argument is compared, as unsigned numbers of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `argument & value == value_two & value`
    MaskedEqual,
}

/// A host descriptor that the VMM holds for the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamSpec {
    /// Index in the stream host calls.
    pub stream: u32,
    /// What it is.
    pub kind: StreamKind,
    /// Whether it can be read.
    pub readable: bool,
    /// Whether it can be written.
    pub writable: bool,
    /// Whether it was opened with O_APPEND.
    pub append: bool,
}

/// What stands behind a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamKind {
    /// A pipe or fifo.
    Pipe,
    /// A regular file.
    File,
    /// A terminal.
    Terminal,
    /// A socket.
    Socket,
    /// A character device that is no terminal, such as /dev/null.
    Device,
}

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    /// Where, absolute in the container.
    pub destination: String,
    /// What.
    pub source: MountSource,
    /// Read-only.
    pub readonly: bool,
    /// Options that are kept for the file system (`size=`, `mode=`, ...) and flags (`nosuid`, `noexec`, ...).
    pub options: Vec<String>,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A donated host directory, read-only on the host, under a writable upper in memory.
    Overlay {
        /// Index of the donated directory.
        root: u32,
    },
    /// An image of a file system under a writable upper in memory.
    Image {
        /// Index of the image.
        image: u32,
    },
    /// A donated host directory or file, shared both ways (a bind mount).
    Bind {
        /// Index of the donated directory or file.
        root: u32,
        /// Whether the source is a directory.
        directory: bool,
    },
    /// A file system of the sentry by its type: proc, sysfs, tmpfs, devtmpfs, devpts, mqueue, cgroup.
    Internal {
        /// Its type.
        fstype: String,
    },
}

/// A node to be made in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSpec {
    /// Where, absolute in the container.
    pub path: String,
    /// What.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What a device node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceKind {
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// A named pipe; it has no numbers.
    Fifo,
}
