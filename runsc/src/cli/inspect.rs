//! Options of commands that look: `debug`, `doctor`, `help`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Id, Trace};

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
