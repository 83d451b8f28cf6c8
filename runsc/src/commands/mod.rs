//! The commands, one module each.

mod create;
mod debug;
mod delete;
mod do_command;
mod doctor;
mod events;
mod exec;
mod features;
mod help;
mod kill;
mod list;
mod pause;
mod platforms;
mod ps;
mod run;
mod signals;
mod spec;
mod start;
mod state;
mod update;
mod wait;

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
        Command::Exec(options) => exec::exec(global, options),
        Command::Kill(options) => kill::kill(global, options),
        Command::Delete(options) => delete::delete(global, options),
        Command::List(options) => list::list(global, options),
        Command::Do(options) => do_command::run(global, options),
        Command::Spec(options) => spec::spec(options),
        Command::Debug(command) => debug::debug(global, command),
        Command::Update(options) => update::update(global, options),
        Command::Doctor(options) => doctor::doctor(global, options),
        Command::Help(options) => help::help(options),
        Command::Events(options) => events::events(global, options),
        Command::Features => features::features(),
        Command::Wait(id) => wait::wait(global, &id.id),
        Command::Pause(id) => pause::pause(global, &id.id),
        Command::Resume(id) => pause::resume(global, &id.id),
        Command::Ps(options) => ps::ps(global, options),
        Command::Platforms => platforms::platforms(global),
    }
}
