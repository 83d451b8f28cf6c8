//! `runsc pause` and `runsc resume`: freezes a container and lets it run on.

use std::time::Duration;

use abi::control::Request;
use oci::state::Status;

use crate::cli::Global;
use crate::error::Error;
use crate::sandbox::control::Client;
use crate::sandbox::launch::store;

/// Time that a sandbox gets to freeze.
const PATIENCE: Duration = Duration::from_secs(30);

/// Freezes the container `id`.
pub fn pause(global: &Global, id: &str) -> Result<u8, Error> {
    change(global, id, Status::Running, Request::Freeze, Status::Paused, "container not running")
}

/// Lets the frozen container `id` run on.
pub fn resume(global: &Global, id: &str) -> Result<u8, Error> {
    change(global, id, Status::Paused, Request::Thaw, Status::Running, "container not paused")
}

fn change(
    global: &Global,
    id: &str,
    from: Status,
    request: Request,
    to: Status,
    refusal: &str,
) -> Result<u8, Error> {
    let container = store(global)?.get(id)?;
    let mut state = container.state()?;
    // A created container has no program to freeze, but may be paused as with runc.
    let created = from == Status::Running && state.status == Status::Created;
    if state.status != from && !created {
        return Err(Error::Status(refusal.into()));
    }
    Client::connect(container.dir())?.ask(request, Some(PATIENCE))?;
    state.status = to;
    container.save(&state)?;
    Ok(0)
}
