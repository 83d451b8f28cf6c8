//! `runsc exec`: a further process in a running container.
//!
//! Attached, this command stands for the process: it hands signals on and ends with its status. Detached, a process
//! that it leaves behind does, so that whoever waits for the id in the pid file learns the status.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use abi::control::{Answer, Reply, Request};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use oci::bundle::Bundle;
use oci::exec::Changes;
use oci::state::Status;
use platform::{process, terminal};

use super::signals;
use super::wait::exit_code;
use crate::cli::{Exec, Global};
use crate::error::Error;
use crate::sandbox::control::Client;
use crate::sandbox::launch::{store, write_pid};
use crate::sandbox::streams::{self, Console};

/// Runs the process.
pub fn exec(global: &Global, options: &Exec) -> Result<u8, Error> {
    run(global, options).map_err(|error| Error::Exec(Box::new(error)))
}

fn run(global: &Global, options: &Exec) -> Result<u8, Error> {
    let container = store(global)?.find(&options.id)?;
    let state = container.state()?;
    match state.status {
        Status::Running => {}
        Status::Paused if options.ignore_paused => {}
        Status::Paused => {
            return Err(Error::Status(
                "cannot exec in a paused container (use --ignore-paused to override)".into(),
            ));
        }
        Status::Stopped => return Err(Error::Status("cannot exec in a stopped container".into())),
        Status::Creating | Status::Created => {
            return Err(Error::Status(format!(
                "cannot exec in a container that is {}: start it first",
                state.status.name()
            )));
        }
    }
    let template = match &options.process {
        Some(path) => oci::exec::from_file(path)?,
        None => oci::exec::with_changes(&Bundle::load(&state.bundle)?, &changes(options))?,
    };
    let mut process = oci::process::convert(&template)?;
    let console = Console::new(process.terminal, options.console_socket.as_deref(), options.detach)?;
    let streams = streams::collect(&mut process, &console, options.preserve_fds)?;
    let fds: Vec<OwnedFd> = streams.into_iter().map(|stream| stream.fd).collect();
    let client = Client::connect(container.dir())?;
    let request = Request::Exec { process: Box::new(process), tied: options.detach };
    let started = Start { client, request, fds, console };
    if options.detach { detached(started, options) } else { attached(started, options) }
}

fn changes(options: &Exec) -> Changes<'_> {
    Changes {
        args: &options.command,
        env: &options.env,
        cwd: options.cwd.as_deref(),
        user: options.user.as_deref(),
        additional_gids: &options.additional_gids,
        capabilities: &options.cap,
        no_new_privs: options.no_new_privs,
        terminal: options.tty,
    }
}

/// All that it takes to start the process.
struct Start {
    client: Client,
    request: Request,
    fds: Vec<OwnedFd>,
    console: Console,
}

/// A process that runs.
struct Running {
    client: Client,
    command: u64,
    pid: u32,
    console: Console,
}

impl Start {
    fn start(self) -> Result<Running, Error> {
        let Self { mut client, request, fds, console } = self;
        let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        let command = client.send_with_files(request, &borrowed)?;
        match client.answer(command, None) {
            Ok(Answer::Started(pid)) => Ok(Running { client, command, pid, console }),
            Err(Error::Refused(reason)) => Err(Error::Start(reason)),
            Err(error) => Err(error),
            Ok(_) => Err(Error::Sandbox("it gave no answer that belongs to a process".into())),
        }
    }
}

impl Running {
    /// Hands signals on until the process ends; returns its exit code.
    fn wait(mut self, signals: &SignalFd) -> Result<u8, Error> {
        loop {
            let mut fds = [
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.client.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(e) => return Err(Error::os("waiting for the process", e)),
            }
            let reply = fds[1].revents().is_some_and(|events| !events.is_empty());
            while let Ok(Some(info)) = signals.read_signal() {
                self.forward(info.ssi_signo as i32)?;
            }
            if reply
                && let Reply::Exited { id, status } = self.client.receive()?
                && id == self.command
            {
                return Ok(exit_code(status));
            }
        }
    }

    fn forward(&mut self, signal: i32) -> Result<(), Error> {
        let pid = self.pid;
        let request = if signal != Signal::SIGWINCH as i32 {
            Request::Signal { pid, signal }
        } else if matches!(self.console, Console::None) {
            return Ok(());
        } else {
            Request::Resize { pid }
        };
        self.client.send(request).map(|_| ())
    }
}

fn attached(start: Start, options: &Exec) -> Result<u8, Error> {
    let signals = signals::watch(Signal::SIGWINCH)?;
    let own = match &start.console {
        Console::Own(fd) => {
            let fd = fd.try_clone().map_err(|e| Error::os("copying the console", e))?;
            let saved = terminal::make_raw(fd.as_fd())?;
            Some((fd, saved))
        }
        _ => None,
    };
    let ended = start.start().and_then(|running| {
        if let Some(path) = &options.pid_file {
            write_pid(path, std::process::id() as i32)?;
        }
        running.wait(&signals)
    });
    if let Some((fd, saved)) = &own {
        terminal::restore(fd.as_fd(), saved);
    }
    ended
}

fn detached(start: Start, options: &Exec) -> Result<u8, Error> {
    let (mut ours, theirs) = UnixStream::pair().map_err(|e| Error::os("making a socket pair", e))?;
    let mut cell = Some((start, theirs));
    let pid = process::fork(false, || match cell.take() {
        Some((start, told)) => stand_in(start, told),
        None => process::FAILED,
    })?;
    drop(cell);
    let mut text = String::new();
    ours.read_to_string(&mut text).map_err(|e| Error::os("waiting for the process", e))?;
    match text.as_str() {
        "started" => {}
        "" => return Err(Error::Sandbox("the process that stands for the container's ended".into())),
        reason => return Err(Error::Status(reason.to_string())),
    }
    if let Some(path) = &options.pid_file {
        write_pid(path, pid)?;
    }
    Ok(0)
}

/// The process that is left behind: starts the container's, tells of that, and ends with its status.
fn stand_in(start: Start, told: UnixStream) -> i32 {
    let tell = |text: &str| {
        let _ = (&told).write_all(text.as_bytes());
    };
    let prepared = signals::watch(Signal::SIGWINCH).and_then(|signals| {
        nix::unistd::setsid().map_err(|e| Error::os("making a session", e))?;
        // Its terminal tells of a window size that changes.
        if let Console::New(slave) = &start.console {
            process::control_terminal(slave.as_fd())?;
        }
        let running = start.start()?;
        Ok((signals, running))
    });
    let (signals, running) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            tell(&error.to_string());
            return process::FAILED;
        }
    };
    // Streams of the caller are not held open.
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdin(&null);
        let _ = nix::unistd::dup2_stdout(&null);
        let _ = nix::unistd::dup2_stderr(&null);
    }
    let mut kept = vec![0, 1, 2, signals.as_raw_fd(), running.client.as_fd().as_raw_fd(), told.as_raw_fd()];
    if let Console::New(slave) = &running.console {
        kept.push(slave.as_raw_fd());
    }
    let _ = process::close_except(kept);
    tell("started");
    drop(told);
    running.wait(&signals).map_or(process::FAILED, i32::from)
}
