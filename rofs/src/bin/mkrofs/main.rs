//! `mkrofs`: makes images and looks into them. Ends with 0, with 1 after a failure, with 2 if it was called wrongly.
#![forbid(unsafe_code)]

mod bar;
mod cli;
mod extract;
mod look;
mod make;
mod stored;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use cli::{Cli, Command};
use rofs::Failure;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mkrofs: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<(), Failure> {
    match &cli.command {
        None => match &cli.make.info {
            Some(image) => look::info(image),
            None => {
                if cli.make.store.is_none() && cli.make.paths.len() < 2 {
                    let reason = "no SOURCE is named for the image";
                    Cli::command().error(ErrorKind::MissingRequiredArgument, reason).exit();
                }
                make::make(&cli.make)
            }
        },
        Some(Command::Info { image }) => look::info(image),
        Some(Command::Ls { long, recursive, image, path }) => look::ls(image, path, *long, *recursive),
        Some(Command::Cat { image, paths }) => look::cat(image, paths),
        Some(Command::Stat { image, paths }) => look::stat(image, paths),
        Some(Command::Verify { image, quiet }) => look::verify(image, *quiet),
        Some(Command::Extract { image, dir, quiet }) => extract::extract(image, dir, *quiet),
        Some(Command::Fetch { index, source, output, quiet }) => stored::fetch(index, source, output, *quiet),
        Some(Command::Prefetch { index, list }) => stored::prefetch(index, list),
        Some(Command::Gc { store, dry_run }) => stored::gc(store, *dry_run),
    }
}
