//! Out of memory: the largest process dies, with 137 for whoever waits for it.

use super::process::{self, Life};
use super::signal::{self, SigInfo};
use core::sync::atomic::Ordering;

/// Kills the process that uses most, weighed by its oom_score_adj.
pub fn kill_largest() {
    crate::mm::quarantine::hurry();
    let (_, limit) = crate::mm::frames::usage();
    let score = |group: &process::ThreadGroup| {
        let pages = group.leader().and_then(|t| t.try_mm().ok()).map_or(0, |mm| mm.resident());
        let adjust = i64::from(group.oom_score_adj.load(Ordering::Relaxed));
        pages as i64 + adjust * limit as i64 / 1000
    };
    let victim = process::all_groups()
        .into_iter()
        .filter(|g| g.life() == Life::Alive && !g.exiting())
        .max_by_key(|g| score(g));
    if let Some(victim) = victim {
        crate::warn!("out of memory: process {} is killed", victim.pid);
        let _ = signal::send_group(&victim, SigInfo::kernel(signal::SIGKILL));
        victim.start_exit(signal::SIGKILL as i32);
    }
}
