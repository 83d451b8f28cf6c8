//! `runsc kill`: sends a signal to a container.

use std::time::Duration;

use abi::control::Request;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use oci::state::Status;

use crate::cli::{Global, Kill};
use crate::error::Error;
use crate::sandbox::control::Client;
use crate::sandbox::launch::store;

/// Highest signal number.
const MAX_SIGNAL: i32 = 64;
/// Time that a sentry gets to act on SIGKILL before its process is killed.
const PATIENCE: Duration = Duration::from_secs(2);

/// Sends it.
pub fn kill(global: &Global, options: &Kill) -> Result<u8, Error> {
    let signal = parse(&options.signal)?;
    let container = store(global)?.find(&options.id)?;
    let state = container.state()?;
    if state.status == Status::Stopped {
        // `kill --all` of a container that has ended is how engines clean up.
        return if options.all { Ok(0) } else { Err(Error::Status("container not running".into())) };
    }
    let request = Request::Kill { signal, all: options.all };
    let deadly = signal == Signal::SIGKILL as i32;
    if state.status == Status::Paused && !deadly {
        // It is taken when the container runs on.
        return Client::connect(container.dir())?.send(request).map(|_| 0);
    }
    let patience = if deadly { Some(PATIENCE) } else { None };
    let asked = Client::connect(container.dir()).and_then(|mut client| {
        if state.status == Status::Paused {
            // It is to die now, not when it is resumed.
            let sent = client.send(request)?;
            client.ask(Request::Thaw, patience)?;
            return client.answer(sent, patience);
        }
        client.ask(request, patience)
    });
    match asked {
        Ok(_) => Ok(0),
        // A sandbox that is gone, or going, has what was wanted; one that hangs is killed itself.
        Err(_) if deadly => {
            let now = container.state()?;
            if now.pid > 0 {
                signal::kill(Pid::from_raw(now.pid), Signal::SIGKILL)
                    .map_err(|e| Error::os("killing the sandbox process", e))?;
            }
            Ok(0)
        }
        Err(_) if container.state()?.status == Status::Stopped => {
            Err(Error::Status("container not running".into()))
        }
        Err(error) => Err(error),
    }
}

/// A signal by name, with or without SIG, or by number.
fn parse(text: &str) -> Result<i32, Error> {
    let unknown = || Error::Usage(format!("unknown signal {text:?}; give a name such as TERM or a number"));
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=MAX_SIGNAL).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let name = text.to_ascii_uppercase();
    let name = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    if let Some(number) = name.strip_prefix("SIGRTMIN+").and_then(|n| n.parse::<i32>().ok()) {
        return if (0..=30).contains(&number) { Ok(34 + number) } else { Err(unknown()) };
    }
    name.parse::<Signal>().map(|signal| signal as i32).map_err(|_| unknown())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals() {
        for (text, number) in
            [("KILL", 9), ("SIGTERM", 15), ("term", 15), ("9", 9), ("64", 64), ("SIGRTMIN+3", 37)]
        {
            assert_eq!(parse(text).ok(), Some(number), "{text}");
        }
        for text in ["", "0", "65", "-1", "NOSUCH", "SIGRTMIN+31"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
