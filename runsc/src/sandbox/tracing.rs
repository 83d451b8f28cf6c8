//! What a sandbox is told about its trace and its watchdog.

use abi::spec::{Strace, Watchdog};

use crate::cli::{Global, WatchdogAction};

/// The trace of a sandbox that begins.
pub fn at_start(global: &Global) -> Option<Strace> {
    let calls = global.strace_syscalls.clone();
    (global.strace || !calls.is_empty()).then_some(Strace { calls, log_size: global.strace_log_size })
}

/// The trace that `debug --strace` names: `off`, `all`, or calls.
pub fn of_text(global: &Global, text: &str) -> Option<Strace> {
    let calls = match text {
        "off" => return None,
        "all" => Vec::new(),
        list => list.split(',').filter(|name| !name.is_empty()).map(str::to_string).collect(),
    };
    Some(Strace { calls, log_size: global.strace_log_size })
}

/// The watchdog, if there is to be one.
pub fn watchdog(global: &Global) -> Option<Watchdog> {
    let limit_ms = u32::try_from(global.watchdog_timeout.as_millis()).unwrap_or(u32::MAX);
    let panics = global.watchdog_action == WatchdogAction::Panic;
    (limit_ms != 0).then_some(Watchdog { limit_ms, panics })
}
