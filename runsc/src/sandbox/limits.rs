//! What a sandbox gets of the host: vCPUs and memory.

use std::fs;

use abi::resources::Resources;
use oci::limits::{Limits, parse_size};

use crate::cli::Global;
use crate::error::Error;

/// Most vCPUs of a sandbox that nobody asked for more.
const MAX_CPUS: u32 = abi::boot::MAX_CPUS as u32;
/// Least memory of a sandbox.
const MIN_MEMORY: u64 = 64 << 20;
/// What a container's memory limit keeps free for the sandbox process itself and what the host's kernel has for it, such
/// as shadow page tables: a fixed part and one in this many.
const RESERVE: (u64, u64) = (12 << 20, 24);

/// Number of vCPUs: what was asked for, else the host's. What a quota or cpuset is worth of them is for the sentry: an
/// update can change it.
pub fn cpus(global: &Global) -> u32 {
    let host = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    global.cpus.unwrap_or(host).clamp(1, MAX_CPUS)
}

/// Most guest memory that a container's limit leaves.
fn within(limit: u64) -> u64 {
    limit.saturating_sub(RESERVE.0 + limit / RESERVE.1).max(MIN_MEMORY) & !(abi::HUGE_PAGE_SIZE - 1)
}

/// Most guest memory at the start: what was asked for, else the container's limit less a reserve, else that of the host.
pub fn memory(global: &Global, limits: &Limits) -> Result<u64, Error> {
    let asked = match &global.memory {
        Some(text) => match parse_size(text).and_then(|n| u64::try_from(n).ok()) {
            Some(bytes) if bytes >= MIN_MEMORY => Some(bytes),
            Some(_) => {
                let least = MIN_MEMORY >> 20;
                return Err(Error::Usage(format!("--memory: a sandbox needs at least {least} MiB")));
            }
            None => return Err(Error::Usage(format!("--memory: invalid size: '{text}'"))),
        },
        None => None,
    };
    let limit = asked.or_else(|| limits.memory_limit().map(within)).unwrap_or_else(most_memory);
    Ok(limit.max(MIN_MEMORY) & !(abi::HUGE_PAGE_SIZE - 1))
}

/// What an update may raise that to: the host's memory.
pub fn most_memory() -> u64 {
    host_memory().unwrap_or(1 << 30) & !(abi::HUGE_PAGE_SIZE - 1)
}

/// What the sentry is told of the limits at the start. A limit beyond the host's memory is none.
pub fn at_start(mut resources: Resources) -> Resources {
    resources.memory = resources.memory.filter(|limit| *limit < most_memory());
    resources
}

/// What the sentry is told of an update that made the limits `limits`. With `memory`, the machine's memory changes too.
pub fn at_update(limits: &Limits, memory: bool) -> Resources {
    let mut resources = at_start(limits.for_sentry());
    if memory {
        resources.machine_memory = Some(resources.memory.map_or_else(most_memory, within));
    }
    resources
}

fn host_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_leaves_room_for_the_sandbox_process() {
        let limits = Limits { memory: Some(512 << 20), ..Limits::default() };
        let resources = at_update(&limits, true);
        assert_eq!(resources.memory, Some(512 << 20));
        assert_eq!(resources.machine_memory, Some(478 << 20));
        assert_eq!(at_update(&limits, false).machine_memory, None);
        let none = at_update(&Limits { memory: Some(-1), ..Limits::default() }, true);
        assert_eq!((none.memory, none.machine_memory), (None, Some(most_memory())));
    }
}
