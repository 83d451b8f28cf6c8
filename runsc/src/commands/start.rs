//! `runsc start`: lets the program of a created container run.

use abi::control::Request;
use oci::bundle::Bundle;
use oci::hooks;
use oci::state::Status;

use crate::cli::Global;
use crate::error::Error;
use crate::log;
use crate::sandbox::control::Client;
use crate::sandbox::launch::store;

/// Starts the container `id`.
pub fn start(global: &Global, id: &str) -> Result<u8, Error> {
    let container = store(global)?.get(id)?;
    let mut state = container.state()?;
    let refuse = |text: &str| Err(Error::Status(text.to_string()));
    match state.status {
        Status::Created => {}
        Status::Stopped => return refuse("cannot start a container that has stopped"),
        Status::Running => return refuse("cannot start an already running container"),
        Status::Paused => return refuse("cannot start a paused container"),
        Status::Creating => return refuse("cannot start a container that is being created"),
    }
    Client::connect(container.dir())?.ask(Request::Start, None)?;
    state.status = Status::Running;
    container.save(&state)?;
    // The configuration may be gone or changed by now; the program runs all the same.
    match Bundle::load(&state.bundle) {
        Ok(bundle) => {
            let list = bundle.spec.hooks().as_ref().and_then(|hooks| hooks.poststart().as_ref());
            hooks::run("poststart", list, &state)?;
        }
        Err(error) => log::write("debug", &format!("poststart hooks: {error}")),
    }
    Ok(0)
}
