//! The command line: names and meanings are those of runc where runc has them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

const VERSION: &str =
    concat!("version ", env!("CARGO_PKG_VERSION"), "\ncommit: ", env!("RUNSC_COMMIT"), "\nspec: 1.3.0");

/// Container runtime that gives every container its own small kernel
#[derive(Debug, Parser)]
#[command(name = "runsc", version = VERSION, disable_version_flag = true, disable_help_subcommand = true)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// Print the version
    #[arg(short = 'v', long, action = ArgAction::Version)]
    version: Option<bool>,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Takes options that may stand before and behind the command together.
    #[must_use]
    pub fn settled(mut self) -> Self {
        let trace = match &self.command {
            Command::Run(run) => run.create.trace,
            Command::Create(create) => create.trace,
            Command::Do(options) => options.trace,
            Command::Debug(Debug { action: Some(DebugAction::Restore(restore)), .. }) => restore.trace,
            _ => Trace::default(),
        };
        self.global.strace |= trace.strace;
        self
    }
}

/// Options before the command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Directory of container states [default: /run/runsc, or runsc in $XDG_RUNTIME_DIR]
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// File that messages are appended to
    #[arg(long, global = true, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Format of messages
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Log debug messages
    #[arg(long, global = true)]
    pub debug: bool,
    /// Debug log of the sandbox: a file, or a directory if it ends in `/`; %ID%, %COMMAND% and %TIMESTAMP% are replaced
    #[arg(long, global = true, value_name = "PATH")]
    pub debug_log: Option<String>,
    /// Print each system call of the container to the debug log
    #[arg(long)]
    pub strace: bool,
    /// Which of them: names, separated by commas [default: all]
    #[arg(long, global = true, value_name = "LIST", value_delimiter = ',')]
    pub strace_syscalls: Vec<String>,
    /// Bytes of a buffer that are shown of it
    #[arg(long, global = true, value_name = "N", default_value_t = 64)]
    pub strace_log_size: u32,
    /// What happens when a task is stuck in the sentry: in one system call, on its CPU
    #[arg(long, global = true, value_enum, default_value_t = WatchdogAction::Log)]
    pub watchdog_action: WatchdogAction,
    /// How long it must be in it; 0 for no watchdog
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_duration_or_none, default_value = "3m")]
    pub watchdog_timeout: Duration,
    /// Honour set-user-id and set-group-id bits of programs in the container
    #[arg(long, global = true)]
    pub allow_suid: bool,
    /// How programs are run
    #[arg(long, global = true, value_enum, default_value_t = Platform::Auto)]
    pub platform: Platform,
    /// Number of virtual CPUs [default: those of the host, or what the CPU quota is worth]
    #[arg(long, global = true, value_parser = clap::value_parser!(u32).range(1..=32))]
    pub cpus: Option<u32>,
    /// Memory of the sandbox in bytes, or with a unit: 512M [default: the container's limit, or that of the host]. With
    /// `update`: the container's limit, -1 for none
    #[arg(long, global = true, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory: Option<String>,
    /// Accepted for compatibility; only paths of control groups are supported
    #[arg(long, global = true, hide = true)]
    pub systemd_cgroup: bool,
    /// Accepted for compatibility
    #[arg(long, global = true, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    pub rootless: Option<Option<String>>,
    /// Accepted for compatibility
    #[arg(long, global = true, hide = true)]
    pub criu: Option<PathBuf>,
}

/// Format of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines of text.
    Text,
    /// One JSON object a line.
    Json,
}

/// What a watchdog does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WatchdogAction {
    /// Logs what the task does.
    Log,
    /// Ends the sandbox too.
    Panic,
}

/// The trace, behind a command that makes a sandbox.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Trace {
    /// Print each system call of the container to the debug log
    #[arg(long)]
    pub strace: bool,
}

/// How programs are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Platform {
    /// KVM where its self-test passes, else systrap.
    Auto,
    /// A virtual machine.
    Kvm,
    /// Processes trapped by seccomp.
    Systrap,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create and run a container
    Run(Run),
    /// Create a container
    Create(Create),
    /// Start the program of a created container
    Start(Id),
    /// Print the state of a container
    State(Id),
    /// Run a further process in a container
    Exec(Box<Exec>),
    /// Send a signal to the first process of a container
    Kill(Kill),
    /// Change what a container may use
    Update(Box<Update>),
    /// Print what a container uses
    Events(Events),
    /// Print what this runtime supports
    Features,
    /// Wait for the end of a container and print what it ended with
    Wait(Id),
    /// Freeze a container
    Pause(Id),
    /// Let a paused container run on
    Resume(Id),
    /// List the processes of a container
    Ps(Ps),
    /// Delete a container
    Delete(Delete),
    /// List containers
    List(List),
    /// Run a command in a sandbox that sees the host's files, and writes to memory only
    Do(Do),
    /// Write a template of config.json
    Spec(Spec),
    /// Tell which platforms this host has, and which is taken
    Platforms,
    /// Look whether this host has what sandboxes need
    Doctor(Doctor),
    /// Print help about a command, or the table of system calls: `runsc help syscalls`
    Help(Help),
    /// Look into a sandbox while it runs
    Debug(Debug),
}

/// Options of `debug`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    arg_required_else_help = true
)]
pub struct Debug {
    /// Print what each task is in: its system call, or where its program made the last one
    #[arg(long)]
    pub stacks: bool,
    /// Print the processes
    #[arg(long)]
    pub ps: bool,
    /// Switch the trace of system calls: `all`, `off`, or names separated by commas. It goes to the debug log; one that
    /// --debug-log names here takes its place
    #[arg(long, value_name = "all|off|LIST")]
    pub strace: Option<String>,
    /// Set what goes to the debug log
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,
    /// Identifier of the container
    #[arg(value_name = "CONTAINER-ID", required = true)]
    pub id: Option<String>,
    /// For those who work on the runtime itself.
    #[command(subcommand)]
    pub action: Option<DebugAction>,
}

/// Options of `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `help`.
#[derive(Debug, Args)]
pub struct Help {
    /// Format of the table of system calls
    #[arg(short, long, value_enum, default_value_t = TableFormat::Table)]
    pub format: TableFormat,
    /// A command, or `syscalls`
    #[arg(value_name = "COMMAND|syscalls")]
    pub topic: Vec<String>,
}

/// Format of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TableFormat {
    /// Columns.
    Table,
    /// Values separated by commas.
    Csv,
    /// A JSON array.
    Json,
    /// A document.
    Markdown,
}

/// Lowest severity that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Errors only.
    Error,
    /// And warnings.
    Warning,
    /// And progress.
    Info,
    /// And details.
    Debug,
}

/// Commands of `debug` for those who work on the runtime itself.
#[derive(Debug, Subcommand)]
pub enum DebugAction {
    /// Freeze a sandbox: every task is switched out
    #[command(hide = true)]
    Freeze(Id),
    /// Let a frozen sandbox run on
    #[command(hide = true)]
    Thaw(Id),
    /// Freeze and thaw a sandbox many times at random moments
    #[command(hide = true)]
    Churn(Churn),
    /// Write the memory of a sandbox into a directory
    #[command(hide = true)]
    Save(Save),
    /// Make a sandbox of such a directory
    #[command(hide = true)]
    Restore(Restore),
}

/// Options of `debug churn`.
#[derive(Debug, Args)]
pub struct Churn {
    /// How often; 0: until the container ends
    #[arg(long, default_value_t = 1000)]
    pub count: u32,
    /// Longest time between a thaw and the next freeze, microseconds
    #[arg(long, default_value_t = 2000)]
    pub pause: u64,
    /// Seed of the moments
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Identifier of the container
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}

/// Options of `debug save`.
#[derive(Debug, Args)]
pub struct Save {
    /// Directory that is made
    #[arg(long, value_name = "DIR")]
    pub image_path: PathBuf,
    /// Do not let the sandbox run on
    #[arg(long)]
    pub leave_frozen: bool,
    /// Identifier of the container
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}

/// Options of `debug restore`.
#[derive(Debug, Args)]
pub struct Restore {
    /// The trace.
    #[command(flatten)]
    pub trace: Trace,
    /// Directory that `debug save` made
    #[arg(long, value_name = "DIR")]
    pub image_path: PathBuf,
    /// Directory of the bundle: the one that the saved container was made of
    #[arg(short, long, default_value = ".", value_name = "DIR")]
    pub bundle: PathBuf,
    /// Return when the container runs
    #[arg(short, long)]
    pub detach: bool,
    /// Identifier of the container
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}

impl Command {
    /// Name, for %COMMAND%.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::Create(_) => "create",
            Self::Start(_) => "start",
            Self::State(_) => "state",
            Self::Exec(_) => "exec",
            Self::Kill(_) => "kill",
            Self::Update(_) => "update",
            Self::Events(_) => "events",
            Self::Features => "features",
            Self::Wait(_) => "wait",
            Self::Pause(_) => "pause",
            Self::Resume(_) => "resume",
            Self::Ps(_) => "ps",
            Self::Delete(_) => "delete",
            Self::List(_) => "list",
            Self::Do(_) => "do",
            Self::Spec(_) => "spec",
            Self::Platforms => "platforms",
            Self::Doctor(_) => "doctor",
            Self::Help(_) => "help",
            Self::Debug(_) => "debug",
        }
    }
}

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
    /// Directory that becomes the root
    #[arg(long = "rootfs", default_value = "/", value_name = "DIR")]
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

/// The same, or 0.
fn parse_duration_or_none(text: &str) -> Result<Duration, String> {
    if text == "0" { Ok(Duration::ZERO) } else { parse_duration(text) }
}

/// A number with `ms`, `s` or `m`; more than 0.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let parsed = [("ms", 1), ("s", 1000), ("m", 60_000)]
        .iter()
        .find_map(|(suffix, ms)| Some((text.strip_suffix(suffix)?.parse::<u64>().ok()?, *ms)));
    match parsed.and_then(|(number, ms): (u64, u64)| number.checked_mul(ms)) {
        Some(ms) if ms > 0 => Ok(Duration::from_millis(ms)),
        _ => Err(format!("{text:?} is not a time such as 5s")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn callers_forms_are_accepted() {
        for line in [
            "runsc --root /r --log /l --log-format json create --bundle /b --pid-file /p --no-pivot c1",
            "runsc --root /r kill --all c1 9",
            "runsc delete --force c1",
            "runsc run -d -b /b --console-socket /s c1",
            "runsc list --format=json",
            "runsc --memory 512M do -- sh -c exit",
            "runsc --root /r update --resources=- c1",
            "runsc debug --strace openat,close --stacks c1",
            "runsc debug freeze c1",
            "runsc help syscalls --format csv",
            "runsc help debug save",
            "runsc do --strace -- true",
            "runsc --strace --strace-syscalls=read,write do true",
            "runsc update --memory -1 --cpu-quota -1 --pids-limit -1 c1",
        ] {
            Cli::try_parse_from(line.split(' ')).expect(line);
        }
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_duration("20ms"), Ok(Duration::from_millis(20)));
        assert_eq!(parse_duration("1m"), Ok(Duration::from_secs(60)));
        assert!(["", "5", "s", "0s", "-1s"].iter().all(|text| parse_duration(text).is_err()));
    }
}
