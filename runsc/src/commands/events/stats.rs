//! What a container uses: of the host, by its control groups or /proc; inside, by its sentry.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use abi::control::{Answer, Request, Usage};
use oci::state::{State, Status};
use serde::Serialize;

use crate::sandbox::control::Client;

/// Time that a sandbox gets to say what it uses.
const PATIENCE: Duration = Duration::from_secs(2);
/// Nanoseconds of a clock tick of /proc/PID/stat.
const TICK_NS: u64 = 10_000_000;

/// Figures, in the shape that runc gives them.
#[derive(Serialize)]
pub struct Stats {
    cpu: Cpu,
    memory: Memory,
    pids: Pids,
}

#[derive(Serialize)]
struct Cpu {
    usage: CpuUsage,
    throttling: Throttling,
}

#[derive(Serialize)]
struct CpuUsage {
    total: u64,
    kernel: u64,
    user: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Throttling {
    periods: u64,
    throttled_periods: u64,
    throttled_time: u64,
}

#[derive(Serialize)]
struct Memory {
    cache: u64,
    usage: MemoryUsage,
    swap: MemoryUsage,
    raw: BTreeMap<String, u64>,
}

#[derive(Serialize, Default)]
struct MemoryUsage {
    limit: u64,
    usage: u64,
    max: u64,
    failcnt: u64,
}

#[derive(Serialize)]
struct Pids {
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<u64>,
    limit: u64,
}

/// The number behind a name in lines of `name number`.
pub fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Files of the sandbox's control groups.
struct Groups<'a>(&'a State);

impl Groups<'_> {
    fn text(&self, file: &str) -> Option<String> {
        self.0.groups.iter().find_map(|leaf| fs::read_to_string(leaf.dir.join(file)).ok())
    }

    /// The number in a file, by its name in version 1 or in version 2.
    fn number(&self, names: [&str; 2]) -> Option<u64> {
        names.iter().find_map(|name| self.text(name)?.trim().parse().ok())
    }
}

impl Stats {
    /// The figures of the sandbox as of now, whose directory is `dir`. What it does not tell (a paused one) is left out.
    pub fn of(state: &State, dir: &Path) -> Self {
        let groups = Groups(state);
        let inside = usage(state, dir);
        let throttling = groups.text("cpu.stat").unwrap_or_default();
        let count = |name: &str| field(&throttling, name);
        let (user, kernel) = cpu(state.pid);
        let raw: BTreeMap<String, u64> = groups
            .text("memory.stat")
            .unwrap_or_default()
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter_map(|(name, value)| Some((name.to_string(), value.trim().parse().ok()?)))
            .collect();
        let used = groups.number(["memory.usage_in_bytes", "memory.current"]);
        let used = used.unwrap_or_else(|| resident(state.pid));
        let peak = groups.number(["memory.max_usage_in_bytes", "memory.peak"]);
        let events = groups.text("memory.events").unwrap_or_default();
        let failed = groups.number(["memory.failcnt", ""]).or_else(|| field(&events, "max")).unwrap_or(0);
        let limit = groups.number(["memory.limit_in_bytes", "memory.max"]);
        let memory = MemoryUsage {
            limit: limit.or(state.limits.memory_limit()).unwrap_or(0),
            usage: used,
            max: peak.unwrap_or(used),
            // What fails inside never comes to the host.
            failcnt: failed + inside.map_or(0, |inside| inside.shortages),
        };
        let swap = MemoryUsage {
            limit: groups.number(["memory.memsw.limit_in_bytes", "memory.swap.max"]).unwrap_or(0),
            usage: groups.number(["memory.memsw.usage_in_bytes", "memory.swap.current"]).unwrap_or(0),
            max: groups.number(["memory.memsw.max_usage_in_bytes", "memory.swap.peak"]).unwrap_or(0),
            failcnt: groups.number(["memory.memsw.failcnt", ""]).unwrap_or(0),
        };
        Self {
            cpu: Cpu {
                usage: CpuUsage { total: user + kernel, kernel, user },
                throttling: Throttling {
                    periods: count("nr_periods").unwrap_or(0),
                    throttled_periods: count("nr_throttled").unwrap_or(0),
                    throttled_time: count("throttled_time")
                        .or_else(|| Some(count("throttled_usec")? * 1000))
                        .unwrap_or(0),
                },
            },
            memory: Memory {
                cache: ["cache", "file"].iter().find_map(|name| raw.get(*name)).copied().unwrap_or(0),
                usage: memory,
                swap,
                raw,
            },
            pids: Pids {
                current: inside.map(|inside| inside.tasks),
                limit: state.limits.pids.and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
            },
        }
    }
}

fn usage(state: &State, dir: &Path) -> Option<Usage> {
    if state.status == Status::Paused {
        return None;
    }
    match Client::connect(dir).and_then(|mut client| client.ask(Request::Usage, Some(PATIENCE))) {
        Ok(Answer::Usage(usage)) => Some(usage),
        _ => None,
    }
}

/// CPU time of the sandbox, ns: user, system. Of every process that descends from it, and of those that have ended.
fn cpu(pid: i32) -> (u64, u64) {
    let mut sum = (0, 0);
    for pid in oci::cgroup::family(pid) {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after_name = stat.rfind(')').map_or("", |at| &stat[at + 1..]);
        let fields: Vec<u64> =
            after_name.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
        // Counted from the state, which is field 3 of proc(5): utime is 14, stime 15, those of ended children follow.
        let field = |n: usize| fields.get(n - 3).copied().unwrap_or(0) * TICK_NS;
        sum.0 += field(14) + field(16);
        sum.1 += field(15) + field(17);
    }
    sum
}

/// Memory of the sandbox process, bytes, where no control group counts it.
fn resident(pid: i32) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    statm.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * abi::PAGE_SIZE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_lines() {
        let text = "oom_kill_disable 0\nunder_oom 1\noom_kill 12\n";
        assert_eq!(field(text, "oom_kill"), Some(12));
        assert_eq!(field(text, "oom"), None);
    }
}
