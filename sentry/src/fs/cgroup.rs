//! The file systems of control groups, cgroups(7): one group, which shows what the container may use and uses. It is
//! changed from outside only. A mount of type `cgroup` is version 1, one of type `cgroup2` version 2.

use super::synth::{self, Fixed, Synth};
use crate::errno::{Errno, Result};
use crate::kernel::{oom, process, resources, sched};
use crate::vfs::hooks::kernel;
use crate::vfs::inode::{FileSystem, PlainFs, SuperBlock};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use linux_raw_sys::general as c;

/// What version 1 shows where there is no limit of memory.
const NO_LIMIT: u64 = i64::MAX as u64 & !(abi::PAGE_SIZE - 1);
/// Nanoseconds of a clock tick, USER_HZ.
const TICK_NS: u64 = crate::time::NS / 100;

/// The hierarchies of version 1, as they are mounted together: name of the directory, controllers.
pub const HIERARCHIES: [(&str, &[&str]); 4] = [
    ("cpu,cpuacct", &["cpu", "cpuacct"]),
    ("cpuset", &["cpuset"]),
    ("memory", &["memory"]),
    ("pids", &["pids"]),
];

/// Whether the container's mounts show version 1.
static VERSION_1: AtomicBool = AtomicBool::new(false);

/// The container has a mount of version 1: /proc/PID/cgroup speaks of it.
pub fn use_version_1() {
    VERSION_1.store(true, Ordering::Relaxed);
}

/// /proc/PID/cgroup: every process is in the only group.
pub fn of_process() -> Vec<u8> {
    if !VERSION_1.load(Ordering::Relaxed) {
        return b"0::/\n".to_vec();
    }
    let line = |(n, (name, _)): (usize, &(&str, &[&str]))| format!("{}:{name}:/\n", n + 1);
    HIERARCHIES.iter().enumerate().rev().map(line).collect::<String>().into_bytes()
}

/// /proc/cgroups.
pub fn controllers() -> Vec<u8> {
    let mut out = String::from("#subsys_name\thierarchy\tnum_cgroups\tenabled\n");
    let v1 = VERSION_1.load(Ordering::Relaxed);
    for (n, (_, list)) in HIERARCHIES.iter().enumerate() {
        for name in *list {
            out.push_str(&format!("{name}\t{}\t1\t1\n", if v1 { n + 1 } else { 0 }));
        }
    }
    out.into_bytes()
}

fn line(value: impl ToString) -> Vec<u8> {
    (value.to_string() + "\n").into_bytes()
}

fn max_or(value: Option<u64>) -> Vec<u8> {
    value.map_or_else(|| b"max\n".to_vec(), line)
}

/// CPUs that programs see, as a list.
pub fn cpu_list() -> Vec<u8> {
    match sched::online() {
        1 => b"0\n".to_vec(),
        n => format!("0-{}\n", n - 1).into_bytes(),
    }
}

fn processes() -> Vec<u8> {
    kernel().pids().iter().flat_map(|p| format!("{p}\n").into_bytes()).collect()
}

fn tasks() -> Vec<u8> {
    let tids = kernel().pids().into_iter().flat_map(|pid| kernel().tids(pid));
    tids.flat_map(|tid| format!("{tid}\n").into_bytes()).collect()
}

/// CPU time of all processes, ns.
fn cpu_ns() -> u64 {
    kernel().system().cpus.iter().map(|cpu| cpu.user_ns + cpu.system_ns).sum()
}

fn memory_used() -> u64 {
    resources::memory().0
}

fn memory_stat_v1() -> Vec<u8> {
    let (used, there) = resources::memory();
    let limit = resources::get().memory.map_or(NO_LIMIT, |_| there);
    let mut out = String::new();
    for (name, value) in
        [("cache", 0), ("rss", used), ("rss_huge", 0), ("shmem", 0), ("mapped_file", 0), ("swap", 0)]
    {
        out.push_str(&format!("{name} {value}\n"));
    }
    out.push_str(&format!(
        "inactive_anon 0\nactive_anon {used}\ninactive_file 0\nactive_file 0\nunevictable 0\n"
    ));
    out.push_str(&format!("hierarchical_memory_limit {limit}\nhierarchical_memsw_limit {limit}\n"));
    out.push_str(&format!("total_cache 0\ntotal_rss {used}\ntotal_inactive_file 0\ntotal_active_file 0\n"));
    out.into_bytes()
}

/// Files that every group of version 1 has.
fn common_v1() -> Fixed {
    Fixed::new()
        .text("cgroup.procs", processes)
        .text("tasks", tasks)
        .fixed("cgroup.clone_children", "0\n")
        .fixed("cgroup.sane_behavior", "0\n")
        .fixed("notify_on_release", "0\n")
        .fixed("release_agent", "\n")
}

fn with_memory_v1(dir: Fixed) -> Fixed {
    let limit = || line(resources::get().memory.unwrap_or(NO_LIMIT));
    dir.text("memory.limit_in_bytes", limit)
        .text("memory.usage_in_bytes", || line(memory_used()))
        .text("memory.max_usage_in_bytes", || line(resources::memory_peak()))
        .text("memory.soft_limit_in_bytes", || line(resources::get().memory_reservation.unwrap_or(NO_LIMIT)))
        .text("memory.memsw.limit_in_bytes", || line(resources::get().memory_swap.unwrap_or(NO_LIMIT)))
        .text("memory.memsw.usage_in_bytes", || line(memory_used()))
        .text("memory.failcnt", || line(oom::shortages()))
        .text("memory.oom_control", || {
            format!("oom_kill_disable 0\nunder_oom 0\noom_kill {}\n", oom::kills()).into_bytes()
        })
        .text("memory.stat", memory_stat_v1)
        .fixed("memory.swappiness", "0\n")
        .fixed("memory.use_hierarchy", "1\n")
}

fn with_cpu_v1(dir: Fixed) -> Fixed {
    dir.text("cpu.cfs_period_us", || line(resources::get().period()))
        .text("cpu.cfs_quota_us", || resources::get().cpu_quota.map_or_else(|| b"-1\n".to_vec(), line))
        .text("cpu.cfs_burst_us", || line(resources::get().cpu_burst.unwrap_or(0)))
        .text("cpu.shares", || line(resources::get().cpu_shares.unwrap_or(abi::resources::DEFAULT_SHARES)))
        .text("cpu.idle", || line(u8::from(resources::get().cpu_idle)))
        .fixed("cpu.stat", "nr_periods 0\nnr_throttled 0\nthrottled_time 0\n")
}

fn with_cpuacct_v1(dir: Fixed) -> Fixed {
    dir.text("cpuacct.usage", || line(cpu_ns()))
        .text("cpuacct.usage_percpu", || {
            let cpus = kernel().system().cpus;
            let list: Vec<String> = cpus.iter().map(|c| (c.user_ns + c.system_ns).to_string()).collect();
            (list.join(" ") + "\n").into_bytes()
        })
        .text("cpuacct.stat", || format!("user {}\nsystem 0\n", cpu_ns() / TICK_NS).into_bytes())
}

fn with_cpuset(dir: Fixed, effective: [&str; 2]) -> Fixed {
    dir.text("cpuset.cpus", cpu_list)
        .text(effective[0], cpu_list)
        .fixed("cpuset.mems", "0\n")
        .fixed(effective[1], "0\n")
}

fn with_pids(dir: Fixed) -> Fixed {
    dir.text("pids.max", || max_or(resources::get().pids))
        .text("pids.current", || line(process::task_count()))
        .text("pids.events", || format!("max {}\n", process::refused_tasks()).into_bytes())
}

/// A hierarchy of version 1: shows its controllers as its options.
struct Hierarchy {
    controllers: Vec<&'static str>,
}

impl FileSystem for Hierarchy {
    fn options(&self) -> String {
        self.controllers.iter().flat_map(|name| [",", name]).collect()
    }
}

/// Version 1 with the controllers that the mount's options name; without any, or with `all`, with all that there are.
///
/// # Errors
/// EINVAL for another option.
pub fn version_1(options: &[u8]) -> Result<Arc<SuperBlock>> {
    let all = || HIERARCHIES.iter().flat_map(|(_, list)| list.iter().copied());
    let mut controllers: Vec<&'static str> = Vec::new();
    for option in options.split(|b| *b == b',').filter(|o| !o.is_empty()) {
        match core::str::from_utf8(option).unwrap_or_default() {
            "nosuid" | "nodev" | "noexec" | "relatime" | "noprefix" | "clone_children" | "rw" | "ro" => {}
            "all" => controllers = all().collect(),
            name => controllers.push(all().find(|known| *known == name).ok_or(Errno::EINVAL)?),
        }
    }
    if controllers.is_empty() {
        controllers = all().collect();
    }
    let mut dir = common_v1();
    for name in &controllers {
        dir = match *name {
            "memory" => with_memory_v1(dir),
            "cpu" => with_cpu_v1(dir),
            "cpuacct" => with_cpuacct_v1(dir),
            "cpuset" => with_cpuset(dir, ["cpuset.effective_cpus", "cpuset.effective_mems"]),
            _ => with_pids(dir),
        };
    }
    let root = Synth::dir(0o555, dir).with_ino(1).inode();
    Ok(synth::super_block("cgroup", c::CGROUP_SUPER_MAGIC, root, Arc::new(Hierarchy { controllers })))
}

/// Version 2.
pub fn version_2() -> Arc<SuperBlock> {
    let dir = Fixed::new()
        .fixed("cgroup.controllers", "cpuset cpu memory pids\n")
        .fixed("cgroup.subtree_control", "\n")
        .fixed("cgroup.type", "domain\n")
        .fixed("cgroup.max.depth", "max\n")
        .fixed("cgroup.max.descendants", "max\n")
        .fixed("cgroup.stat", "nr_descendants 0\nnr_dying_descendants 0\n")
        .fixed("cgroup.events", "populated 1\nfrozen 0\n")
        .fixed("cgroup.freeze", "0\n")
        .text("cgroup.procs", processes)
        .text("cgroup.threads", tasks)
        .text("cpu.max", || {
            let now = resources::get();
            let quota = now.cpu_quota.map_or_else(|| "max".to_string(), |quota| quota.to_string());
            format!("{quota} {}\n", now.period()).into_bytes()
        })
        .text("cpu.max.burst", || line(resources::get().cpu_burst.unwrap_or(0)))
        .text("cpu.idle", || line(u8::from(resources::get().cpu_idle)))
        .text("cpu.weight", || {
            let now = resources::get();
            line(if now.cpu_shares.is_some() { now.weight() } else { 100 })
        })
        .text("cpu.stat", || {
            let used = cpu_ns() / 1000;
            format!(
                "usage_usec {used}\nuser_usec {used}\nsystem_usec 0\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n"
            )
            .into_bytes()
        })
        .text("memory.max", || max_or(resources::get().memory))
        .fixed("memory.high", "max\n")
        .text("memory.low", || line(resources::get().memory_reservation.unwrap_or(0)))
        .fixed("memory.min", "0\n")
        .text("memory.current", || line(memory_used()))
        .text("memory.peak", || line(resources::memory_peak()))
        .fixed("memory.oom.group", "0\n")
        .text("memory.events", || {
            let (short, kills) = (oom::shortages(), oom::kills());
            format!("low 0\nhigh 0\nmax {short}\noom {kills}\noom_kill {kills}\noom_group_kill 0\n").into_bytes()
        })
        .text("memory.stat", || {
            let used = memory_used();
            format!("anon {used}\nfile 0\nkernel 0\nshmem 0\ninactive_anon 0\nactive_anon {used}\ninactive_file 0\nactive_file 0\n")
                .into_bytes()
        })
        .text("memory.swap.max", || {
            let now = resources::get();
            max_or(now.memory_swap.map(|both| both.saturating_sub(now.memory.unwrap_or(0))))
        })
        .fixed("memory.swap.current", "0\n");
    let dir = with_pids(with_cpuset(dir, ["cpuset.cpus.effective", "cpuset.mems.effective"]));
    let root = Synth::dir(0o555, dir).with_ino(1).inode();
    synth::super_block("cgroup2", c::CGROUP2_SUPER_MAGIC, root, Arc::new(PlainFs))
}
