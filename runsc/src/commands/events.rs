//! `runsc events`: what a container uses.

use std::fs;
use std::path::Path;
use std::time::Duration;

use abi::control::{Answer, Request};
use oci::state::{State, Status};
use serde_json::{Value, json};

use crate::cli::{Events, Global};
use crate::error::Error;
use crate::sandbox::control::Client;
use crate::sandbox::launch::store;

/// Time that a sandbox gets to say how many processes it has.
const PATIENCE: Duration = Duration::from_secs(2);
/// Nanoseconds of a clock tick of /proc/PID/stat.
const TICK_NS: u64 = 10_000_000;
const PAGE: u64 = abi::PAGE_SIZE;

/// Prints a line of JSON, or one after each interval until the container ends.
pub fn events(global: &Global, options: &Events) -> Result<u8, Error> {
    let container = store(global)?.find(&options.id)?;
    if container.state()?.status == Status::Stopped {
        return Err(Error::Status("container not running".into()));
    }
    loop {
        let state = container.state()?;
        if state.status == Status::Stopped {
            return Ok(0);
        }
        println!("{}", json!({ "type": "stats", "id": options.id, "data": data(&state, container.dir()) }));
        if options.stats {
            return Ok(0);
        }
        std::thread::sleep(options.interval);
    }
}

fn data(state: &State, dir: &Path) -> Value {
    let (user, system) = cpu(state.pid);
    let resident = fs::read_to_string(format!("/proc/{}/statm", state.pid)).unwrap_or_default();
    let resident = resident.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * PAGE;
    let group = |file: &str| number(state, file);
    let usage = group("memory.usage_in_bytes").or_else(|| group("memory.current")).unwrap_or(resident);
    let limit = group("memory.limit_in_bytes").or_else(|| group("memory.max"));
    let peak = group("memory.max_usage_in_bytes").or_else(|| group("memory.peak"));
    json!({
        "cpu": {
            "usage": { "total": user + system, "user": user, "kernel": system },
            "throttling": {},
        },
        "memory": { "usage": { "usage": usage, "limit": limit.unwrap_or(0), "max": peak.unwrap_or(usage), "failcnt": 0 } },
        "pids": { "current": processes(state, dir), "limit": group("pids.max").unwrap_or(0) },
    })
}

/// CPU time of the sandbox process and its ended children, ns: user, system.
fn cpu(pid: i32) -> (u64, u64) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rfind(')').map_or("", |at| &stat[at + 1..]);
    let fields: Vec<u64> = after_name.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
    // Counted from the state, which is field 3 of proc(5): utime is 14, stime 15.
    let field = |n: usize| fields.get(n - 3).copied().unwrap_or(0) * TICK_NS;
    (field(14), field(15))
}

/// A number of the sandbox's control groups, if one of them has it.
fn number(state: &State, file: &str) -> Option<u64> {
    let read = |leaf: &oci::cgroup::Leaf| fs::read_to_string(leaf.dir.join(file)).ok();
    state.groups.iter().find_map(read)?.trim().parse().ok()
}

/// Processes in the container; a paused one does not tell.
fn processes(state: &State, dir: &Path) -> Value {
    if state.status == Status::Paused {
        return Value::Null;
    }
    match Client::connect(dir).and_then(|mut client| client.ask(Request::Processes, Some(PATIENCE))) {
        Ok(Answer::Processes(list)) => json!(list.len()),
        _ => Value::Null,
    }
}
