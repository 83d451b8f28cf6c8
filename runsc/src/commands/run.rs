//! `runsc run`: makes and starts a container, and waits for its end.

use std::os::fd::AsFd;

use abi::control::Request as ControlRequest;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use platform::terminal;

use super::create::load;
use super::{delete, signals};
use crate::cli::{Global, Run};
use crate::error::Error;
use crate::log;
use crate::sandbox::control::Client;
use crate::sandbox::launch::{Launched, Request, killed, launch};
use crate::sandbox::sync::{self, Message};

/// Runs the container of a bundle.
pub fn run(global: &Global, options: &Run) -> Result<u8, Error> {
    let create = &options.create;
    let request = Request {
        global,
        command: "run",
        id: &create.id,
        bundle: load(create)?,
        start: true,
        detached: options.detach,
        console_socket: create.console_socket.as_deref(),
        preserve_fds: create.preserve_fds,
        pid_file: create.pid_file.as_deref(),
        ephemeral: false,
        snapshot: None,
    };
    if options.detach {
        launch(request)?;
        return Ok(0);
    }
    foreground(global, request, options.keep)
}

/// Launches, waits, hands signals on, and deletes the container unless it is kept. Returns its exit code.
pub fn foreground(global: &Global, request: Request<'_>, keep: bool) -> Result<u8, Error> {
    let id = request.id;
    let signals = signals::watch(Signal::SIGCHLD)?;
    let launched = launch(request)?;
    let ended = wait(&launched, &signals, id);
    if matches!(ended, Err(Error::Os { .. })) {
        platform::process::kill_child(launched.pid);
    }
    if let Some((fd, saved)) = &launched.terminal {
        terminal::restore(fd.as_fd(), saved);
    }
    // The sandbox has said its last word or is gone: what is left of the container is removed while it ends.
    if !keep && let Err(error) = delete::remove_ended(global, id) {
        log::warn(&error.to_string());
    }
    reap(launched.pid);
    ended
}

fn wait(launched: &Launched, signals: &SignalFd, id: &str) -> Result<u8, Error> {
    let mut client = None;
    loop {
        let mut fds = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(launched.sync.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(Error::os("waiting for the sandbox", e)),
        }
        let message = fds[1].revents().is_some_and(|events| !events.is_empty());
        while let Ok(Some(info)) = signals.read_signal() {
            let signal = info.ssi_signo as i32;
            if signal != Signal::SIGCHLD as i32 {
                forward(launched, &mut client, signal);
            }
        }
        if message {
            let result =
                match sync::receive(&launched.sync).map_err(|e| Error::os("waiting for the sandbox", e))? {
                    Some(Message::Ended(code)) => Ok(code),
                    Some(Message::Failed(reason) | Message::Refused(reason)) => Err(Error::Sandbox(reason)),
                    Some(Message::Created) => continue,
                    None => return Err(killed(id, launched.pid)),
                };
            reap(launched.pid);
            return result;
        }
    }
}

/// Waits for the end of the sandbox process, if nobody did.
fn reap(pid: i32) {
    while let Err(nix::errno::Errno::EINTR) | Ok(WaitStatus::StillAlive) =
        waitpid(Pid::from_raw(pid), Some(WaitPidFlag::empty()))
    {}
}

/// Hands a signal on. A sandbox that cannot be reached is about to end.
fn forward(launched: &Launched, client: &mut Option<Client>, signal: i32) {
    if client.is_none() {
        *client = Client::connect(&launched.dir).ok();
    }
    if let Some(connected) = client
        && connected.send(ControlRequest::Kill { signal, all: false }).is_err()
    {
        *client = None;
    }
}
