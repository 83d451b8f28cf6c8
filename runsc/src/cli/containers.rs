//! Options of commands on containers.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{Trace, parse_duration};

/// A container.
#[derive(Debug, Args)]
pub struct Id {
    /// Identifier of the container
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}

/// Options of `create` and `run`.
#[derive(Debug, Clone, Args)]
pub struct Create {
    /// The trace.
    #[command(flatten)]
    pub trace: Trace,
    /// Directory of the bundle
    #[arg(short, long, default_value = ".", value_name = "DIR")]
    pub bundle: PathBuf,
    /// Image that is the root file system, in place of root.path in config.json
    #[arg(long, value_name = "IMAGE")]
    pub rootfs_image: Option<PathBuf>,
    /// Socket that receives the master of the container's terminal
    #[arg(long, value_name = "PATH")]
    pub console_socket: Option<PathBuf>,
    /// File that the process id of the sandbox is written to
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Number of descriptors beyond standard error that the container gets
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub preserve_fds: u32,
    /// Accepted for compatibility
    #[arg(long, hide = true)]
    pub no_pivot: bool,
    /// Accepted for compatibility
    #[arg(long, hide = true)]
    pub no_new_keyring: bool,
    /// Identifier of the container
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// What `create` has too.
    #[command(flatten)]
    pub create: Create,
    /// Return when the container runs
    #[arg(short, long)]
    pub detach: bool,
    /// Do not delete the container when it ends
    #[arg(long)]
    pub keep: bool,
    /// Accepted for compatibility
    #[arg(long, hide = true)]
    pub no_subreaper: bool,
}

/// Options of `exec`.
#[derive(Debug, Args)]
pub struct Exec {
    /// Socket that receives the master of the process's terminal
    #[arg(long, value_name = "PATH")]
    pub console_socket: Option<PathBuf>,
    /// Working directory of the process
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<String>,
    /// Variable of the process's environment
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Give the process a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// User of the process
    #[arg(short, long, value_name = "UID[:GID]")]
    pub user: Option<String>,
    /// Further group of the process
    #[arg(short = 'g', long, value_name = "GID")]
    pub additional_gids: Vec<u32>,
    /// File with the process, as config.json has it
    #[arg(short, long, value_name = "FILE")]
    pub process: Option<PathBuf>,
    /// Return when the process runs
    #[arg(short, long)]
    pub detach: bool,
    /// File that the id of the process that stands for it is written to
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Accepted for compatibility
    #[arg(long, hide = true)]
    pub process_label: Option<String>,
    /// Accepted for compatibility
    #[arg(long, hide = true)]
    pub apparmor: Option<String>,
    /// Keep the process from gaining privileges
    #[arg(long)]
    pub no_new_privs: bool,
    /// Capability that the process gets too
    #[arg(short, long, value_name = "CAP")]
    pub cap: Vec<String>,
    /// Number of descriptors beyond standard error that the process gets
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub preserve_fds: u32,
    /// Accepted for compatibility: the container has one control group
    #[arg(long, hide = true)]
    pub cgroup: Option<String>,
    /// Start it in a paused container too: it runs once that is resumed
    #[arg(long)]
    pub ignore_paused: bool,
    /// Identifier of the container
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
    /// Program and its arguments
    #[arg(
        required_unless_present = "process",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    pub command: Vec<String>,
}

/// Options of `events`.
#[derive(Debug, Args)]
pub struct Events {
    /// Time between lines: a number with ms, s or m
    #[arg(long, default_value = "5s", value_parser = parse_duration, value_name = "TIME")]
    pub interval: Duration,
    /// Print one line and end
    #[arg(long)]
    pub stats: bool,
    /// Identifier of the container
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}

/// Options of `ps`.
#[derive(Debug, Args)]
pub struct Ps {
    /// Format
    #[arg(short, long, value_enum, default_value_t = PsFormat::Table)]
    pub format: PsFormat,
    /// Identifier of the container
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
    /// Accepted for compatibility: options of ps(1)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub options: Vec<String>,
}

/// Options of `update`.
#[derive(Debug, Args)]
pub struct Update {
    /// File with the resources to update as JSON, as linux.resources in config.json, or `-` for standard input; other
    /// options are ignored then
    #[arg(short, long, value_name = "FILE")]
    pub resources: Option<PathBuf>,
    /// Weight of block input and output, 10 to 1000
    #[arg(long, value_name = "N")]
    pub blkio_weight: Option<u16>,
    /// Period of the CPU quota, microseconds
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    pub cpu_period: Option<String>,
    /// CPU time in each period, microseconds; -1 for no limit
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    pub cpu_quota: Option<String>,
    /// CPU time that may be saved up for later periods, microseconds
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    pub cpu_burst: Option<String>,
    /// 1: run only when nothing else does
    #[arg(long, value_name = "0|1", allow_hyphen_values = true)]
    pub cpu_idle: Option<String>,
    /// CPU shares: weight beside other containers
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub cpu_share: Option<String>,
    /// Period of realtime scheduling, microseconds
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    pub cpu_rt_period: Option<String>,
    /// Time of realtime scheduling in each period, microseconds
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    pub cpu_rt_runtime: Option<String>,
    /// CPUs to use, as a list
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes to use, as a list
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Soft limit of memory
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory_reservation: Option<String>,
    /// Limit of memory and swap together; -1 for no limit
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// Most tasks; -1 for no limit
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub pids_limit: Option<i64>,
    /// Accepted for compatibility
    #[arg(long, hide = true)]
    pub l3_cache_schema: Option<String>,
    /// Accepted for compatibility
    #[arg(long, hide = true)]
    pub mem_bw_schema: Option<String>,
    /// Identifier of the container
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}

/// Format of `ps`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PsFormat {
    /// Columns.
    Table,
    /// A JSON array of the process ids that the host knows.
    Json,
}

/// Options of `kill`.
#[derive(Debug, Args)]
pub struct Kill {
    /// Send it to every process of the container
    #[arg(short, long)]
    pub all: bool,
    /// Identifier of the container
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
    /// Name or number of the signal
    #[arg(default_value = "TERM")]
    pub signal: String,
}

/// Options of `delete`.
#[derive(Debug, Args)]
pub struct Delete {
    /// Kill it if it runs; no error if it does not exist
    #[arg(short, long)]
    pub force: bool,
    /// Identifier of the container
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}

/// Options of `list`.
#[derive(Debug, Args)]
pub struct List {
    /// Format
    #[arg(short, long, value_enum, default_value_t = ListFormat::Table)]
    pub format: ListFormat,
    /// Identifiers only
    #[arg(short, long)]
    pub quiet: bool,
}

/// Format of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// Columns.
    Table,
    /// The same as table.
    Text,
    /// A JSON array.
    Json,
}

/// Options of `do`.
#[derive(Debug, Args)]
pub struct Do {
    /// The trace.
    #[command(flatten)]
    pub trace: Trace,
    /// Directory or image that becomes the root
    #[arg(long = "rootfs", default_value = "/", value_name = "DIR|IMAGE")]
    pub rootfs: PathBuf,
    /// Working directory [default: the present one]
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    /// Program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Options of `spec`.
#[derive(Debug, Args)]
pub struct Spec {
    /// Directory of the bundle
    #[arg(short, long, default_value = ".", value_name = "DIR")]
    pub bundle: PathBuf,
    /// Working directory of the program
    #[arg(long, default_value = "/")]
    pub cwd: String,
    /// Program and its arguments [default: sh on a terminal]
    #[arg(last = true)]
    pub args: Vec<String>,
}
