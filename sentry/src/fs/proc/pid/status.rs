//! /proc/PID/status, stat, statm, limits.

use super::Of;
use crate::errno::{Errno, Result};
use crate::fs::proc::system::{HZ, ticks};
use crate::fs::tty;
use crate::time::NS;
use crate::vfs::hooks::{TaskInfo, kernel};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

fn state_name(state: u8) -> &'static str {
    match state {
        b'R' => "running",
        b'S' => "sleeping",
        b'D' => "disk sleep",
        b'T' => "stopped",
        b't' => "tracing stop",
        b'Z' => "zombie",
        _ => "dead",
    }
}

fn comm(info: &TaskInfo) -> String {
    String::from_utf8_lossy(&info.comm).into_owned()
}

/// A CPU mask in groups of 32 bits, and as a list.
fn cpu_masks(mask: u64) -> (String, String) {
    let hex =
        if mask >> 32 != 0 { format!("{:08x},{:08x}", mask >> 32, mask as u32) } else { format!("{mask:x}") };
    let mut list = String::new();
    let mut at = 0;
    while at < 64 {
        if mask >> at & 1 == 0 {
            at += 1;
            continue;
        }
        let mut end = at;
        while end + 1 < 64 && mask >> (end + 1) & 1 != 0 {
            end += 1;
        }
        if !list.is_empty() {
            list.push(',');
        }
        let _ = if end == at { write!(list, "{at}") } else { write!(list, "{at}-{end}") };
        at = end + 1;
    }
    (hex, list)
}

/// status.
pub fn status(of: Of) -> Result<Vec<u8>> {
    let i = of.info()?;
    let cred = &i.cred;
    let mut o = String::new();
    let umask = kernel().fs(of.tid).map_or(0, |f| f.umask());
    let fd_size = kernel().files(of.tid).map_or(0, |f| f.capacity());
    let _ = write!(
        o,
        "Name:\t{}\nUmask:\t{umask:04o}\nState:\t{} ({})\nTgid:\t{}\nNgid:\t0\nPid:\t{}\nPPid:\t{}\nTracerPid:\t{}\n",
        comm(&i).replace('\\', "\\\\").replace('\n', "\\n"),
        char::from(i.state),
        state_name(i.state),
        i.pid,
        i.tid,
        i.ppid,
        i.tracer
    );
    let _ = writeln!(o, "Uid:\t{}\t{}\t{}\t{}", cred.uid, cred.euid, cred.suid, cred.fsuid);
    let _ = writeln!(o, "Gid:\t{}\t{}\t{}\t{}", cred.gid, cred.egid, cred.sgid, cred.fsgid);
    let groups: Vec<String> = cred.groups.iter().map(|g| format!("{g}")).collect();
    let _ = write!(
        o,
        "FDSize:\t{fd_size}\nGroups:\t{} \nNStgid:\t{}\nNSpid:\t{}\nNSpgid:\t{}\nNSsid:\t{}\nKthread:\t0\n",
        groups.join(" "),
        i.pid,
        i.tid,
        i.pgid,
        i.sid
    );
    if i.state != b'Z' {
        let kb = |bytes: u64| bytes / 1024;
        for (name, bytes) in [
            ("VmPeak", i.vm_peak),
            ("VmSize", i.vm_size),
            ("VmLck", i.vm_locked),
            ("VmPin", 0),
            ("VmHWM", i.rss_peak),
            ("VmRSS", i.rss),
            ("RssAnon", i.rss.saturating_sub(i.rss_file)),
            ("RssFile", i.rss_file),
            ("RssShmem", 0),
            ("VmData", i.vm_data),
            ("VmStk", i.vm_stack),
            ("VmExe", i.vm_text),
            ("VmLib", i.vm_lib),
            ("VmPTE", 0),
            ("VmSwap", 0),
            ("HugetlbPages", 0),
        ] {
            let _ = writeln!(o, "{name}:\t{:>8} kB", kb(bytes));
        }
        o.push_str("CoreDumping:\t0\nTHP_enabled:\t1\n");
    }
    let pending_limit = kernel().limits(of.tid).get(11).map_or(0, |l| l.0);
    let _ = write!(
        o,
        "Threads:\t{}\nSigQ:\t0/{pending_limit}\nSigPnd:\t{:016x}\nShdPnd:\t{:016x}\nSigBlk:\t{:016x}\nSigIgn:\t{:016x}\nSigCgt:\t{:016x}\n",
        i.threads, i.pending, i.shared_pending, i.blocked, i.ignored, i.caught
    );
    let _ = write!(
        o,
        "CapInh:\t{:016x}\nCapPrm:\t{:016x}\nCapEff:\t{:016x}\nCapBnd:\t{:016x}\nCapAmb:\t{:016x}\n",
        cred.inheritable, cred.permitted, cred.effective, cred.bounding, cred.ambient
    );
    let (hex, list) = cpu_masks(i.cpus_allowed);
    let _ = write!(
        o,
        "NoNewPrivs:\t{}\nSeccomp:\t{}\nSeccomp_filters:\t{}\nSpeculation_Store_Bypass:\tnot vulnerable\n\
         SpeculationIndirectBranch:\tnot affected\nCpus_allowed:\t{hex}\nCpus_allowed_list:\t{list}\n\
         Mems_allowed:\t1\nMems_allowed_list:\t0\nvoluntary_ctxt_switches:\t{}\nnonvoluntary_ctxt_switches:\t{}\n",
        u32::from(cred.no_new_privs),
        i.seccomp,
        i.seccomp_filters,
        i.voluntary,
        i.involuntary
    );
    Ok(o.into_bytes())
}

/// The terminal's number as tty_nr has it, and its foreground group.
fn terminal(i: &TaskInfo) -> (u64, i64) {
    match tty::controlling(i.sid) {
        Some(tty) => {
            let group = tty.session().1;
            (tty.rdev(), if group == 0 { -1 } else { i64::from(group) })
        }
        None => (0, -1),
    }
}

/// stat.
pub fn stat(of: Of) -> Result<Vec<u8>> {
    let i = of.info()?;
    let show = of.may_inspect().is_ok();
    let addr = |a: u64| if show { a } else { 0 };
    let (tty, tpgid) = terminal(&i);
    let rss_limit = kernel().limits(of.tid).get(5).map_or(u64::MAX, |l| l.0);
    let start = i.start_ns / (NS / HZ);
    let mut o = String::new();
    let _ = write!(
        o,
        "{} ({}) {} {} {} {} {tty} {tpgid} 4194560 {} 0 0 0 ",
        i.tid,
        comm(&i),
        char::from(i.state),
        i.ppid,
        i.pgid,
        i.sid,
        i.minor_faults
    );
    let _ = write!(
        o,
        "{} {} {} {} {} {} {} 0 {start} {} {} {rss_limit} ",
        ticks(i.user_ns),
        ticks(i.system_ns),
        ticks(i.child_user_ns),
        ticks(i.child_system_ns),
        20 + i.nice,
        i.nice,
        i.threads,
        i.vm_size,
        i.rss / 4096
    );
    // startcode endcode startstack kstkesp kstkeip signal blocked sigignore sigcatch wchan nswap cnswap
    let _ = write!(
        o,
        "{} {} {} 0 0 {} {} {} {} 0 0 0 ",
        addr(i.code.0),
        addr(i.code.1),
        addr(i.stack_start),
        i.pending & 0x7fff_ffff,
        i.blocked & 0x7fff_ffff,
        i.ignored & 0x7fff_ffff,
        i.caught & 0x7fff_ffff
    );
    // exit_signal processor rt_priority policy delayacct guest cguest data brk args env exit_code
    let _ = writeln!(
        o,
        "{} {} 0 0 0 0 0 {} {} {} {} {} {} {} {}",
        i.exit_signal,
        i.cpu,
        addr(i.data.0),
        addr(i.data.1),
        addr(i.brk_start),
        addr(i.args.0),
        addr(i.args.1),
        addr(i.env.0),
        addr(i.env.1),
        if show { i.exit_code } else { 0 }
    );
    Ok(o.into_bytes())
}

/// statm.
pub fn statm(of: Of) -> Result<Vec<u8>> {
    let i = of.info()?;
    let pages = |bytes: u64| bytes / 4096;
    Ok(format!(
        "{} {} {} {} 0 {} 0\n",
        pages(i.vm_size),
        pages(i.rss),
        pages(i.rss_file),
        pages(i.vm_text),
        pages(i.vm_data + i.vm_stack)
    )
    .into_bytes())
}

const LIMITS: &[(&str, &str)] = &[
    ("Max cpu time", "seconds"),
    ("Max file size", "bytes"),
    ("Max data size", "bytes"),
    ("Max stack size", "bytes"),
    ("Max core file size", "bytes"),
    ("Max resident set", "bytes"),
    ("Max processes", "processes"),
    ("Max open files", "files"),
    ("Max locked memory", "bytes"),
    ("Max address space", "bytes"),
    ("Max file locks", "locks"),
    ("Max pending signals", "signals"),
    ("Max msgqueue size", "bytes"),
    ("Max nice priority", ""),
    ("Max realtime priority", ""),
    ("Max realtime timeout", "us"),
];

/// limits.
pub fn limits(of: Of) -> Result<Vec<u8>> {
    let values = kernel().limits(of.tid);
    if values.is_empty() {
        return Err(Errno::ESRCH);
    }
    let show = |v: u64| if v == u64::MAX { String::from("unlimited") } else { format!("{v}") };
    let mut o = format!("{:<25} {:<20} {:<20} {:<10}\n", "Limit", "Soft Limit", "Hard Limit", "Units");
    for ((name, unit), (soft, hard)) in LIMITS.iter().zip(values) {
        let _ = writeln!(o, "{name:<25} {:<20} {:<20} {unit:<10}", show(soft), show(hard));
    }
    Ok(o.into_bytes())
}

/// smaps_rollup: the sums of smaps.
pub fn rollup(smaps: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(smaps);
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    let mut order: Vec<String> = Vec::new();
    let (mut low, mut high) = (None, "0");
    for line in text.lines() {
        let mut parts = line.split_ascii_whitespace();
        let Some(first) = parts.next() else { continue };
        if let Some(name) = first.strip_suffix(':') {
            let (Some(value), Some("kB")) = (parts.next().and_then(|v| v.parse::<u64>().ok()), parts.next())
            else {
                continue;
            };
            if matches!(name, "Size" | "KernelPageSize" | "MMUPageSize") {
                continue;
            }
            if !order.iter().any(|n| n == name) {
                order.push(String::from(name));
            }
            *sums.entry(String::from(name)).or_default() += value;
        } else if let Some((start, end)) = first.split_once('-') {
            low.get_or_insert(start);
            high = end;
        }
    }
    let mut o = format!(
        "{}-{high} ---p 00000000 00:00 0                                  [rollup]\n",
        low.unwrap_or("0")
    );
    for name in order {
        let _ = writeln!(o, "{:<16}{:>8} kB", format!("{name}:"), sums.get(&name).copied().unwrap_or(0));
    }
    o.into_bytes()
}
