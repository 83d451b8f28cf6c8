//! `mkrofs`: makes images and looks into them. Ends with 0, with 1 after a failure, with 2 if it was called wrongly.

mod bar;
mod cli;
mod make;

use clap::Parser;
use cli::Cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = make::make(&cli.make);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mkrofs: {error}");
            ExitCode::FAILURE
        }
    }
}
