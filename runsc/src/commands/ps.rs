//! `runsc ps`: the processes of a container.

use std::time::Duration;

use abi::control::{Answer, Request};
use oci::state::Status;

use crate::cli::{Global, Ps, PsFormat};
use crate::error::Error;
use crate::sandbox::control::Client;
use crate::sandbox::launch::store;

/// Time that a sandbox gets to answer: a paused one does not.
const PATIENCE: Duration = Duration::from_secs(5);

/// Prints them: as a table of the container's own process ids, or as JSON the ids that the host knows, which is that of
/// the sandbox process.
pub fn ps(global: &Global, options: &Ps) -> Result<u8, Error> {
    let container = store(global)?.find(&options.id)?;
    let state = container.state()?;
    if state.status == Status::Stopped {
        return Err(Error::Status("container not running".into()));
    }
    if options.format == PsFormat::Json {
        println!("[{}]", state.pid);
        return Ok(0);
    }
    if state.status == Status::Paused {
        return Err(Error::Status("container is paused: resume it to see its processes".into()));
    }
    table(&mut Client::connect(container.dir())?)?;
    Ok(0)
}

/// Prints the table that a sandbox gives.
pub fn table(client: &mut Client) -> Result<(), Error> {
    let answer = client.ask(Request::Processes, Some(PATIENCE))?;
    let Answer::Processes(list) = answer else {
        return Err(Error::Sandbox("it gave no answer that belongs to a list of processes".into()));
    };
    println!("{:<8} {:>7} {:>7} {:>1} {:>8} CMD", "UID", "PID", "PPID", "S", "TIME");
    for process in list {
        let seconds = process.cpu_ms / 1000;
        let time = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        println!(
            "{:<8} {:>7} {:>7} {} {time:>8} {}",
            process.uid, process.pid, process.ppid, process.state, process.comm
        );
    }
    Ok(())
}
