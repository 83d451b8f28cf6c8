//! `runsc events`: what a container uses, and when memory runs out.

mod group;
mod stats;

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use abi::control::{Reply, Request};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use oci::state::Status;
use serde::Serialize;

use self::group::MemoryGroup;
use self::stats::Stats;
use crate::cli::{Events, Global};
use crate::error::Error;
use crate::sandbox::control::Client;
use crate::sandbox::launch::store;

/// A line, with its fields in runc's order.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Stats>,
}

fn print(kind: &'static str, id: &str, data: Option<Stats>) {
    // Strings and numbers always serialise.
    println!("{}", serde_json::to_string(&Line { kind, id, data }).unwrap_or_default());
}

/// Prints a line of JSON after each interval and one whenever a process is killed for want of memory, until the container
/// ends; or one line only.
pub fn events(global: &Global, options: &Events) -> Result<u8, Error> {
    let container = store(global)?.find(&options.id)?;
    let state = container.state()?;
    if state.status == Status::Stopped {
        return Err(Error::Status("container not running".into()));
    }
    if options.stats {
        print("stats", &options.id, Some(Stats::of(&state, container.dir())));
        return Ok(0);
    }
    // Its end is the end of the container.
    let mut client = Client::connect(container.dir())?;
    client.send(Request::Watch)?;
    let mut group = MemoryGroup::watch(&state.groups);
    let mut due = Instant::now();
    loop {
        if due <= Instant::now() {
            let state = container.state()?;
            if state.status == Status::Stopped {
                break;
            }
            print("stats", &options.id, Some(Stats::of(&state, container.dir())));
            due = Instant::now() + options.interval;
        }
        let wait = due.saturating_duration_since(Instant::now()).as_millis().min(i32::MAX as u128) as i32;
        let (told, grouped) = ready(client.as_fd(), group.as_ref().map(|g| g.events()), wait + 1)?;
        for _ in 0..if grouped { group.as_mut().map_or(0, MemoryGroup::kills) } else { 0 } {
            print("oom", &options.id, None);
        }
        if told {
            match client.receive() {
                Ok(Reply::OutOfMemory { kills, .. }) => {
                    (0..kills).for_each(|_| print("oom", &options.id, None))
                }
                Ok(_) => {}
                // The sandbox is gone.
                Err(_) => break,
            }
        }
    }
    // It may be memory that it went for.
    for _ in 0..group.as_mut().map_or(0, MemoryGroup::kills) {
        print("oom", &options.id, None);
    }
    Ok(0)
}

/// Waits, at most `wait` milliseconds, and tells which has something: the sandbox, the control group.
fn ready(
    client: BorrowedFd<'_>,
    group: Option<(BorrowedFd<'_>, PollFlags)>,
    wait: i32,
) -> Result<(bool, bool), Error> {
    let mut fds = vec![PollFd::new(client, PollFlags::POLLIN)];
    fds.extend(group.map(|(fd, events)| PollFd::new(fd, events)));
    let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
    match poll(&mut fds, timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(e) => return Err(Error::os("waiting for events", e)),
    }
    let any = |n: usize| fds.get(n).is_some_and(|fd| fd.any().unwrap_or(false));
    Ok((any(0), any(1)))
}
