//! The commands, one module each.

mod create;
mod debug;
mod delete;
mod do_command;
mod kill;
mod list;
mod platforms;
mod run;
mod spec;
mod start;
mod state;

use crate::cli::{Cli, Command};
use crate::error::Error;

/// Runs the command; returns its exit code.
pub fn run(cli: Cli) -> Result<u8, Error> {
    let global = &cli.global;
    match &cli.command {
        Command::Run(options) => run::run(global, options),
        Command::Create(options) => create::create(global, options),
        Command::Start(id) => start::start(global, &id.id),
        Command::State(id) => state::state(global, &id.id),
        Command::Kill(options) => kill::kill(global, options),
        Command::Delete(options) => delete::delete(global, options),
        Command::List(options) => list::list(global, options),
        Command::Do(options) => do_command::run(global, options),
        Command::Spec(options) => spec::spec(options),
        Command::Debug(command) => debug::debug(global, command),
        Command::Platforms => platforms::platforms(global),
    }
}
