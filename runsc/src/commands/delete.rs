//! `runsc delete`: removes what is left of a container.

use std::time::{Duration, Instant};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use oci::bundle::Bundle;
use oci::state::{Container, State, Status, start_time};
use oci::{cgroup, hooks};

use crate::cli::{Delete, Global};
use crate::error::Error;
use crate::log;
use crate::sandbox::launch::store;

/// Time that a killed sandbox process gets to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked at.
const INTERVAL: Duration = Duration::from_millis(1);

/// Deletes a container.
pub fn delete(global: &Global, options: &Delete) -> Result<u8, Error> {
    match remove_checked(global, &options.id, options.force) {
        Err(Error::Oci(oci::Error::NotFound)) if options.force => Ok(0),
        other => other.map(|()| 0),
    }
}

/// Deletes a container of this command that has ended, or whose sandbox process is about to.
pub fn remove_ended(global: &Global, id: &str) -> Result<(), Error> {
    let container = store(global)?.get(id)?;
    let state = container.state()?;
    clean(container, state)
}

/// Deletes what is left of containers of `do` whose command and sandbox are gone. What another command works on stays.
pub fn remove_dead(global: &Global) -> Result<(), Error> {
    for container in store(global)?.abandoned()? {
        let left = match container.state() {
            Ok(state) => clean(container, state),
            Err(_) => Ok(container.remove()?),
        };
        if let Err(error) = left {
            log::warn(&error.to_string());
        }
    }
    Ok(())
}

fn remove_checked(global: &Global, id: &str, force: bool) -> Result<(), Error> {
    let container = store(global)?.get(id)?;
    let state = match container.state() {
        Ok(state) => state,
        // A directory without a state, or with a damaged one, is what a killed command leaves.
        Err(error) if !force => return Err(error.into()),
        Err(_) => return Ok(container.remove()?),
    };
    if state.status != Status::Stopped {
        if !force {
            let status = state.status.name();
            return Err(Error::Status(format!("cannot delete container {id} that is not stopped: {status}")));
        }
        end(&state)?;
    }
    clean(container, state)
}

/// Kills a sandbox process and waits for its end.
fn end(state: &State) -> Result<(), Error> {
    let alive = || state.pid > 0 && start_time(state.pid) == Some(state.pid_start);
    if !alive() {
        return Ok(());
    }
    match signal::kill(Pid::from_raw(state.pid), Signal::SIGKILL) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
        Err(e) => return Err(Error::os("killing the sandbox process", e)),
    }
    let begin = Instant::now();
    while alive() {
        if begin.elapsed() > PATIENCE {
            return Err(Error::Status("container still running".into()));
        }
        std::thread::sleep(INTERVAL);
    }
    Ok(())
}

fn clean(container: Container, mut state: State) -> Result<(), Error> {
    for dir in cgroup::remove(&state.cgroups) {
        log::warn(&format!("control group {} stays: it has processes", dir.display()));
    }
    (state.pid, state.status) = (0, Status::Stopped);
    // What `do` runs has no bundle: a config.json in the root directory is none of it.
    if !state.ephemeral
        && let Ok(bundle) = Bundle::load(&state.bundle)
    {
        let list = bundle.spec.hooks().as_ref().and_then(|hooks| hooks.poststop().as_ref());
        if let Err(error) = hooks::run("poststop", list, &state) {
            log::warn(&error.to_string());
        }
    }
    Ok(container.remove()?)
}
