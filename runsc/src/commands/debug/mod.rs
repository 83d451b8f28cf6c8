//! `runsc debug`: looks into a sandbox while it runs.

mod actions;

use std::os::fd::AsFd;
use std::time::Duration;

use abi::control::{Answer, Request};
use oci::state::Status;

use crate::cli::{Debug, Global};
use crate::commands::ps;
use crate::error::Error;
use crate::log;
use crate::sandbox::control::Client;
use crate::sandbox::launch::store;
use crate::sandbox::tracing;

/// Time that a sandbox gets to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Does everything that is asked for, in a fixed order.
pub fn debug(global: &Global, options: &Debug) -> Result<u8, Error> {
    if let Some(action) = &options.action {
        return actions::act(global, action);
    }
    let id = options.id.as_deref().unwrap_or_default();
    if !(options.stacks || options.ps || options.strace.is_some() || options.log_level.is_some()) {
        return Err(Error::Usage("debug: say what: --stacks, --ps, --strace or --log-level".into()));
    }
    let mut client = connect(global, id)?;
    if let Some(level) = options.log_level {
        tell(global, &mut client, id, Request::LogLevel { level: level as u8 })?;
    }
    if let Some(text) = &options.strace {
        let trace = tracing::of_text(global, text);
        tell(global, &mut client, id, Request::Strace { trace })?;
    }
    if options.ps {
        ps::table(&mut client)?;
    }
    if options.stacks {
        match client.ask(Request::Stacks, Some(PATIENCE))? {
            Answer::Text(text) => print!("{text}"),
            _ => return Err(Error::Sandbox("it gave no answer that belongs to --stacks".into())),
        }
    }
    Ok(0)
}

/// A request about the debug log, with the file that takes its place where one is named.
fn tell(global: &Global, client: &mut Client, id: &str, request: Request) -> Result<(), Error> {
    let file = log::open_debug(global, "debug", id)?;
    let files: Vec<_> = file.iter().map(AsFd::as_fd).collect();
    let sent =
        if files.is_empty() { client.send(request)? } else { client.send_with_files(request, &files)? };
    client.answer(sent, Some(PATIENCE)).map(drop)
}

/// Connects to the sandbox of a container; one that is paused does not answer.
fn connect(global: &Global, id: &str) -> Result<Client, Error> {
    let container = store(global)?.find(id)?;
    if container.state()?.status == Status::Stopped {
        return Err(Error::Status("container not running".into()));
    }
    Client::connect(container.dir())
}
