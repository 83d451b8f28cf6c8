//! `bench`: the same operations natively, in this sandbox and in its peers, in turns, and one table of medians.
//!
//! A program of our own (`bench/ops`) runs once in each place and does what it is told, so that the places take turns
//! at every operation: what else the machine does hits all alike. Each step has a time limit, since a peer may hang.
#![forbid(unsafe_code)]

mod commands;
mod counters;
mod idle;
mod operations;
mod place;
mod programs;
mod report;
mod session;
mod stats;
mod work;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use self::place::Place;
use self::work::Work;

/// What went wrong, in words for the user.
pub type Failure = Box<dyn std::error::Error>;

/// Measures operations and whole commands natively, in runsc's sandbox, and in runc, crun and gVisor, in turns.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Short loops and few rounds.
    #[arg(long)]
    quick: bool,
    /// Prints JSON, with every sample, instead of tables.
    #[arg(long)]
    json: bool,
    /// Measures these operations (names as in the table) alone.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    only: Vec<String>,
    /// Leaves the operations out.
    #[arg(long, conflicts_with = "only")]
    no_operations: bool,
    /// Measures these scripts of programs (`bench/programs`) alone.
    #[arg(long, value_delimiter = ',', value_name = "NAMES", conflicts_with_all = ["only", "no_operations"])]
    programs: Vec<String>,
    /// Measures in these places alone: native, kvm, systrap, runc, crun, gvisor. Without it, in all that are there.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    places: Vec<String>,
    /// The runsc that is measured; without it the one beside this program.
    #[arg(long, value_name = "FILE")]
    runsc: Option<PathBuf>,
    /// gVisor's runsc; without it `RUNSC_GVISOR` of the environment.
    #[arg(long, value_name = "FILE")]
    gvisor: Option<PathBuf>,
    /// Image of this machine's root (mkrofs): its places are measured too, as `kvm-image` and `systrap-image`.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// vCPUs of runsc's sandboxes; without it as many as the host has CPUs.
    #[arg(long, value_name = "N")]
    cpus: Option<u32>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<String, Failure> {
    let work = Work::new()?;
    let places = places(options)?;
    for place in &places {
        place.state(&work)?;
    }
    let pace = if options.quick { operations::QUICK } else { operations::FULL };
    let all = options.only.is_empty() && options.programs.is_empty();
    let rounds = |full: usize, quick: usize| if options.quick { quick } else { full };
    let operations = match options.no_operations || !options.programs.is_empty() {
        true => Vec::new(),
        false => operations::measure(&work, &places, &options.only, pace)?,
    };
    let commands = if all { commands::measure(&work, &places, rounds(21, 5))? } else { Vec::new() };
    let programs = match options.only.is_empty() {
        true => programs::measure(&work, &places, &options.programs, rounds(5, 1))?,
        false => Vec::new(),
    };
    let idle = if all { idle::measure(&work, &places)? } else { Vec::new() };
    let report = report::Report {
        places: &places,
        operations: &operations,
        commands: &commands,
        programs: &programs,
        idle: &idle,
    };
    Ok(if options.json { report.json() } else { report.tables() })
}

/// The places that are asked for, or else all that are there.
fn places(options: &Options) -> Result<Vec<Place>, Failure> {
    let runsc = match &options.runsc {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("runsc"),
    };
    let gvisor = options.gvisor.clone().or_else(|| std::env::var_os("RUNSC_GVISOR").map(PathBuf::from));
    let all = place::all(&runsc, gvisor.as_deref(), options.cpus, options.image.as_deref());
    if options.places.is_empty() {
        return Ok(all.into_iter().filter(Place::usable).collect());
    }
    options
        .places
        .iter()
        .map(|name| {
            all.iter()
                .find(|place| place.name == name && place.usable())
                .cloned()
                .ok_or_else(|| format!("--places: {name:?} is unknown, or not usable here").into())
        })
        .collect()
}
