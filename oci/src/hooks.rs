//! Hooks: programs of the host that run at points of a container's life, with its state on standard input.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use oci_spec::runtime::Hook;

use crate::Error;
use crate::state::State;

/// How often a hook with a time limit is looked at.
const INTERVAL: Duration = Duration::from_millis(2);

/// Runs the hooks of one list in order; the first failure ends it.
pub fn run(stage: &'static str, hooks: Option<&Vec<Hook>>, state: &State) -> Result<(), Error> {
    for (index, hook) in hooks.into_iter().flatten().enumerate() {
        run_one(hook, state).map_err(|reason| Error::Hook { stage, index, reason })?;
    }
    Ok(())
}

fn run_one(hook: &Hook, state: &State) -> Result<(), String> {
    let mut command = Command::new(hook.path());
    if let Some((name, args)) = hook.args().as_ref().and_then(|args| args.split_first()) {
        command.arg0(name).args(args);
    }
    command.env_clear();
    command.envs(hook.env().iter().flatten().filter_map(|entry| entry.split_once('=')));
    command.current_dir(&state.bundle).stdin(Stdio::piped());
    let path = hook.path().display();
    let mut child = command.spawn().map_err(|e| format!("{path}: {e}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook need not read its input.
        let _ = stdin.write_all(state.to_oci_json(false).as_bytes());
    }
    let status = match hook.timeout() {
        None => child.wait().map_err(|e| format!("{path}: {e}"))?,
        Some(seconds) => {
            let end = Instant::now() + Duration::from_secs(seconds.max(0).unsigned_abs());
            loop {
                match child.try_wait().map_err(|e| format!("{path}: {e}"))? {
                    Some(status) => break status,
                    None if Instant::now() >= end => {
                        let _ = child.kill();
                        let _ = child.wait();
                        return Err(format!("{path} did not end within {seconds} s"));
                    }
                    None => std::thread::sleep(INTERVAL),
                }
            }
        }
    };
    if status.success() { Ok(()) } else { Err(format!("{path}: {status}")) }
}
