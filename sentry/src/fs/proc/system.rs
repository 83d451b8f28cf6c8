//! Files of proc(5) about the whole sandbox.

use crate::fs::synth::Fixed;
use crate::kernel::resources;
use crate::time::NS;
use crate::vfs::hooks::kernel;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

/// Clock ticks in a second, USER_HZ.
pub const HZ: u64 = 100;

/// Nanoseconds as clock ticks.
pub fn ticks(ns: u64) -> u64 {
    ns / (NS / HZ)
}

/// Kilobytes used and there.
pub fn memory_kb() -> (u64, u64) {
    let (used, total) = resources::memory();
    (used / 1024, total / 1024)
}

/// meminfo.
pub fn meminfo() -> Vec<u8> {
    let (used, total) = memory_kb();
    let free = total.saturating_sub(used);
    let mut out = String::new();
    let values: &[(&str, u64)] = &[
        ("MemTotal", total),
        ("MemFree", free),
        ("MemAvailable", free),
        ("Buffers", 0),
        ("Cached", 0),
        ("SwapCached", 0),
        ("Active", used),
        ("Inactive", 0),
        ("Active(anon)", used),
        ("Inactive(anon)", 0),
        ("Active(file)", 0),
        ("Inactive(file)", 0),
        ("Unevictable", 0),
        ("Mlocked", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", used),
        ("Mapped", 0),
        ("Shmem", 0),
        ("KReclaimable", 0),
        ("Slab", 0),
        ("SReclaimable", 0),
        ("SUnreclaim", 0),
        ("KernelStack", 0),
        ("PageTables", 0),
        ("CommitLimit", total),
        ("Committed_AS", used),
        ("VmallocTotal", 34_359_738_367),
        ("VmallocUsed", 0),
        ("VmallocChunk", 0),
        ("Percpu", 0),
        ("AnonHugePages", 0),
    ];
    for (name, kb) in values {
        let _ = writeln!(out, "{:<16}{kb:>8} kB", format!("{name}:"));
    }
    out.push_str("HugePages_Total:       0\nHugePages_Free:        0\nHugePages_Rsvd:        0\nHugePages_Surp:        0\n");
    out.push_str("Hugepagesize:       2048 kB\nHugetlb:               0 kB\n");
    out.into_bytes()
}

/// Number of CPUs.
pub fn cpus() -> usize {
    kernel().system().cpus.len().max(1)
}

/// cpuinfo.
pub fn cpuinfo() -> Vec<u8> {
    if let Some(text) = kernel().cpuinfo() {
        return text;
    }
    let mut out = String::new();
    for cpu in 0..cpus() {
        let _ = write!(
            out,
            "processor\t: {cpu}\nvendor_id\t: unknown\ncpu family\t: 6\nmodel\t\t: 0\nmodel name\t: virtual CPU\n\
             stepping\t: 0\ncpu MHz\t\t: 2000.000\ncache size\t: 8192 KB\nphysical id\t: 0\nsiblings\t: {n}\ncore id\t\t: {cpu}\n\
             cpu cores\t: {n}\nfpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: 13\nwp\t\t: yes\n\
             flags\t\t: fpu tsc msr cx8 cmov mmx fxsr sse sse2 syscall nx lm constant_tsc rep_good nopl\n\
             bogomips\t: 4000.00\nclflush size\t: 64\ncache_alignment\t: 64\n\
             address sizes\t: 46 bits physical, 48 bits virtual\npower management:\n\n",
            n = cpus()
        );
    }
    out.into_bytes()
}

/// stat.
pub fn stat() -> Vec<u8> {
    let info = kernel().system();
    let mut out = String::new();
    let mut line = |name: &str, user: u64, system: u64, idle: u64| {
        let _ = writeln!(out, "{name} {} 0 {} {} 0 0 0 0 0 0", ticks(user), ticks(system), ticks(idle));
    };
    let sum = |f: fn(&crate::vfs::hooks::CpuTimes) -> u64| info.cpus.iter().map(f).sum::<u64>();
    line("cpu ", sum(|c| c.user_ns), sum(|c| c.system_ns), sum(|c| c.idle_ns));
    for (n, cpu) in info.cpus.iter().enumerate() {
        line(&format!("cpu{n}"), cpu.user_ns, cpu.system_ns, cpu.idle_ns);
    }
    let boot = boot_time();
    let _ = write!(
        out,
        "intr 0\nctxt {}\nbtime {boot}\nprocesses {}\nprocs_running {}\nprocs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0\n",
        info.switches,
        info.forks,
        info.running.max(1)
    );
    out.into_bytes()
}

/// Seconds since 1970 at the start of the clock that start times of processes are measured with.
fn boot_time() -> u64 {
    crate::time::realtime_ns().saturating_sub(crate::time::boottime_ns()) / NS
}

/// uptime.
pub fn uptime() -> Vec<u8> {
    let info = kernel().system();
    let up = crate::time::boottime_ns().saturating_sub(info.boot_ns);
    let idle: u64 = info.cpus.iter().map(|c| c.idle_ns).sum();
    let show = |ns: u64| format!("{}.{:02}", ns / NS, ns % NS / 10_000_000);
    format!("{} {}\n", show(up), show(idle)).into_bytes()
}

/// loadavg.
pub fn loadavg() -> Vec<u8> {
    let info = kernel().system();
    let show = |n: u64| format!("{}.{:02}", n / 100, n % 100);
    let [one, five, fifteen] = info.load;
    format!(
        "{} {} {} {}/{} {}\n",
        show(one),
        show(five),
        show(fifteen),
        info.running.max(1),
        info.tasks,
        info.last_pid
    )
    .into_bytes()
}

/// version.
pub fn version() -> Vec<u8> {
    let (release, version) = kernel().version();
    format!("Linux version {release} (runsc) {version}\n").into_bytes()
}

/// vmstat.
pub fn vmstat() -> Vec<u8> {
    let (used, total) = resources::memory();
    let (used, total) = (used / abi::PAGE_SIZE, total / abi::PAGE_SIZE);
    format!(
        "nr_free_pages {}\nnr_anon_pages {used}\nnr_file_pages 0\nnr_mapped 0\nnr_dirty 0\nnr_writeback 0\npgpgin 0\n\
         pgpgout 0\npswpin 0\npswpout 0\npgfault 0\npgmajfault 0\noom_kill {}\n",
        total.saturating_sub(used),
        crate::kernel::oom::kills()
    )
    .into_bytes()
}

/// filesystems.
pub fn filesystems() -> Vec<u8> {
    let mut out = String::new();
    for name in
        ["sysfs", "tmpfs", "ramfs", "proc", "devtmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "overlay"]
    {
        let _ = writeln!(out, "nodev\t{name}");
    }
    out.into_bytes()
}

/// sysvipc.
pub fn sysvipc() -> Fixed {
    Fixed::new()
        .text("msg", crate::ipc::msg::list)
        .text("sem", crate::ipc::sem::list)
        .text("shm", crate::ipc::shm::list)
}
