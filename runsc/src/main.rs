//! `runsc`: a container runtime that gives every container its own small kernel.
//!
//! This crate is the command line and the sandbox process. A command makes everything that a sandbox works with
//! (descriptors of files, streams, the KVM device, sockets), forks, and the child goes into its jail and becomes the
//! machine; see [`sandbox`].
#![forbid(unsafe_code)]

mod cli;
mod commands;
mod error;
mod log;
mod sandbox;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;

/// Exit code of a failure of the runtime itself.
const FAILURE: u8 = 1;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli.settled(),
        Err(error) => {
            // Help and version are no failures.
            let failed = error.use_stderr();
            let _ = error.print();
            return if failed { ExitCode::from(FAILURE) } else { ExitCode::SUCCESS };
        }
    };
    if let Err(error) = log::open(&cli.global, cli.command.name()) {
        eprintln!("runsc: {error}");
        return ExitCode::from(FAILURE);
    }
    match commands::run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            log::fatal(&error::plain(&error.to_string()));
            ExitCode::from(error.exit_code())
        }
    }
}
