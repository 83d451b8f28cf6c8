//! The command line: names and meanings are those of runc where runc has them.

mod containers;
mod inspect;

pub use self::containers::*;
pub use self::inspect::*;

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
