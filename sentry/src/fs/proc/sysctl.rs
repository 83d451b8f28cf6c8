//! /proc/sys.

use crate::errno::{Errno, Result};
use crate::fs::synth::{Dir, Entry, Synth, Text};
use crate::fs::{epoll, inotify, mqueue, pipe};
use crate::ipc::limits::{self, Bounded};
use crate::kernel::cred::cap;
use crate::sync::SpinLock;
use crate::vfs::hooks::kernel;
use crate::vfs::inode::Inode;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as c;

/// How a value comes about.
enum Value {
    /// It is what it is.
    Is(&'static str),
    /// It can be set, without effect but that it is kept.
    Kept(&'static str),
    /// It is made when it is read.
    Made(fn() -> String),
    /// Host or domain name.
    Uts(bool),
    /// Numbers that are limits, each with its largest value.
    Limit(&'static [Bounded]),
}

use Value::{Is, Kept, Limit, Made, Uts};

const VALUES: &[(&str, Value)] = &[
    ("abi/vsyscall32", Kept("0")),
    ("fs/aio-max-nr", Kept("65536")),
    ("fs/aio-nr", Is("0")),
    ("fs/dentry-state", Is("0\t0\t45\t0\t0\t0")),
    ("fs/epoll/max_user_watches", Made(|| format!("{}", epoll::MAX_WATCHES))),
    ("fs/file-max", Kept("1048576")),
    ("fs/file-nr", Is("0\t0\t1048576")),
    ("fs/inode-nr", Is("0\t0")),
    ("fs/inode-state", Is("0\t0\t0\t0\t0\t0\t0")),
    ("fs/inotify/max_queued_events", Made(|| format!("{}", inotify::MAX_QUEUED))),
    ("fs/inotify/max_user_instances", Made(|| format!("{}", inotify::MAX_INSTANCES))),
    ("fs/inotify/max_user_watches", Made(|| format!("{}", inotify::MAX_WATCHES))),
    ("fs/lease-break-time", Kept("45")),
    ("fs/leases-enable", Kept("1")),
    ("fs/mount-max", Is("100000")),
    ("fs/mqueue/msg_default", Limit(&mqueue::limits::MSG_DEFAULT_FILE)),
    ("fs/mqueue/msg_max", Limit(&mqueue::limits::MSG_MAX_FILE)),
    ("fs/mqueue/msgsize_default", Limit(&mqueue::limits::MSGSIZE_DEFAULT_FILE)),
    ("fs/mqueue/msgsize_max", Limit(&mqueue::limits::MSGSIZE_MAX_FILE)),
    ("fs/mqueue/queues_max", Limit(&mqueue::limits::QUEUES_MAX_FILE)),
    ("fs/nr_open", Made(|| format!("{}", crate::vfs::fdtable::NR_OPEN))),
    ("fs/overflowgid", Kept("65534")),
    ("fs/overflowuid", Kept("65534")),
    ("fs/pipe-max-size", Made(|| format!("{}", pipe::MAX_SIZE))),
    ("fs/pipe-user-pages-hard", Kept("0")),
    ("fs/pipe-user-pages-soft", Kept("16384")),
    ("fs/protected_fifos", Is("0")),
    ("fs/protected_hardlinks", Is("0")),
    ("fs/protected_regular", Is("0")),
    ("fs/protected_symlinks", Is("0")),
    ("fs/suid_dumpable", Kept("0")),
    ("kernel/auto_msgmni", Is("0")),
    ("kernel/cap_last_cap", Made(|| format!("{}", cap::LAST))),
    ("kernel/core_pattern", Kept("core")),
    ("kernel/core_pipe_limit", Kept("0")),
    ("kernel/core_uses_pid", Kept("0")),
    ("kernel/ctrl-alt-del", Is("0")),
    ("kernel/dmesg_restrict", Kept("1")),
    ("kernel/domainname", Uts(false)),
    ("kernel/hostname", Uts(true)),
    ("kernel/io_uring_disabled", Is("2")),
    ("kernel/keys/maxkeys", Kept("200")),
    ("kernel/keys/root_maxkeys", Kept("1000000")),
    ("kernel/kptr_restrict", Kept("1")),
    ("kernel/modules_disabled", Is("1")),
    ("kernel/msgmax", Limit(&limits::MSGMAX_FILE)),
    ("kernel/msgmnb", Limit(&limits::MSGMNB_FILE)),
    ("kernel/msgmni", Limit(&limits::MSGMNI_FILE)),
    ("kernel/ngroups_max", Made(|| format!("{}", c::NGROUPS_MAX))),
    ("kernel/numa_balancing", Is("0")),
    ("kernel/osrelease", Made(|| kernel().version().0)),
    ("kernel/ostype", Is("Linux")),
    ("kernel/overflowgid", Kept("65534")),
    ("kernel/overflowuid", Kept("65534")),
    ("kernel/panic", Kept("0")),
    ("kernel/panic_on_oops", Kept("0")),
    ("kernel/perf_event_paranoid", Is("4")),
    ("kernel/pid_max", Kept("4194304")),
    ("kernel/printk", Kept("4\t4\t1\t7")),
    ("kernel/pty/max", Is("4096")),
    ("kernel/pty/nr", Made(|| format!("{}", crate::fs::tty::indices().len()))),
    ("kernel/pty/reserve", Is("0")),
    ("kernel/random/boot_id", Made(boot_id)),
    ("kernel/random/entropy_avail", Is("256")),
    ("kernel/random/poolsize", Is("256")),
    ("kernel/random/uuid", Made(uuid)),
    ("kernel/randomize_va_space", Kept("2")),
    ("kernel/sched_autogroup_enabled", Is("0")),
    ("kernel/sched_child_runs_first", Kept("0")),
    ("kernel/sched_rt_period_us", Kept("1000000")),
    ("kernel/sched_rt_runtime_us", Kept("950000")),
    ("kernel/seccomp/actions_avail", Is("kill_process kill_thread trap errno trace log allow")),
    ("kernel/sem", Limit(&limits::SEM_FILE)),
    ("kernel/shmall", Limit(&limits::SHMALL_FILE)),
    ("kernel/shmmax", Limit(&limits::SHMMAX_FILE)),
    ("kernel/shmmni", Limit(&limits::SHMMNI_FILE)),
    ("kernel/shm_rmid_forced", Kept("0")),
    ("kernel/sysrq", Is("0")),
    ("kernel/tainted", Is("0")),
    ("kernel/threads-max", Kept("32768")),
    ("kernel/unprivileged_bpf_disabled", Is("2")),
    ("kernel/version", Made(|| kernel().version().1)),
    ("kernel/yama/ptrace_scope", Kept("1")),
    ("net/core/default_qdisc", Kept("fq_codel")),
    ("net/core/netdev_max_backlog", Kept("1000")),
    ("net/core/optmem_max", Kept("131072")),
    ("net/core/rmem_default", Kept("212992")),
    ("net/core/rmem_max", Kept("212992")),
    ("net/core/somaxconn", Kept("4096")),
    ("net/core/wmem_default", Kept("212992")),
    ("net/core/wmem_max", Kept("212992")),
    ("net/ipv4/conf/all/forwarding", Kept("0")),
    ("net/ipv4/conf/all/rp_filter", Kept("0")),
    ("net/ipv4/conf/default/rp_filter", Kept("0")),
    ("net/ipv4/ip_default_ttl", Kept("64")),
    ("net/ipv4/ip_forward", Kept("0")),
    ("net/ipv4/ip_local_port_range", Kept("32768\t60999")),
    ("net/ipv4/ip_local_reserved_ports", Kept("")),
    ("net/ipv4/ip_nonlocal_bind", Kept("0")),
    ("net/ipv4/ip_unprivileged_port_start", Kept("1024")),
    ("net/ipv4/ping_group_range", Kept("1\t0")),
    ("net/ipv4/tcp_congestion_control", Kept("cubic")),
    ("net/ipv4/tcp_available_congestion_control", Is("reno cubic")),
    ("net/ipv4/tcp_allowed_congestion_control", Is("reno cubic")),
    ("net/ipv4/tcp_fin_timeout", Kept("60")),
    ("net/ipv4/tcp_keepalive_intvl", Kept("75")),
    ("net/ipv4/tcp_keepalive_probes", Kept("9")),
    ("net/ipv4/tcp_keepalive_time", Kept("7200")),
    ("net/ipv4/tcp_max_syn_backlog", Kept("512")),
    ("net/ipv4/tcp_mem", Kept("90000\t120000\t180000")),
    ("net/ipv4/tcp_rmem", Kept("4096\t131072\t6291456")),
    ("net/ipv4/tcp_sack", Kept("1")),
    ("net/ipv4/tcp_syn_retries", Kept("6")),
    ("net/ipv4/tcp_synack_retries", Kept("5")),
    ("net/ipv4/tcp_syncookies", Kept("1")),
    ("net/ipv4/tcp_timestamps", Kept("1")),
    ("net/ipv4/tcp_tw_reuse", Kept("2")),
    ("net/ipv4/tcp_window_scaling", Kept("1")),
    ("net/ipv4/tcp_wmem", Kept("4096\t16384\t4194304")),
    ("net/ipv6/conf/all/disable_ipv6", Kept("0")),
    ("net/ipv6/conf/all/forwarding", Kept("0")),
    ("net/ipv6/conf/default/disable_ipv6", Kept("0")),
    ("net/unix/max_dgram_qlen", Kept("512")),
    ("user/max_user_namespaces", Is("0")),
    ("user/max_mnt_namespaces", Kept("32768")),
    ("user/max_pid_namespaces", Is("0")),
    ("vm/admin_reserve_kbytes", Kept("8192")),
    ("vm/dirty_background_ratio", Kept("10")),
    ("vm/dirty_ratio", Kept("20")),
    ("vm/drop_caches", Kept("0")),
    ("vm/max_map_count", Kept("65530")),
    ("vm/min_free_kbytes", Kept("4096")),
    ("vm/mmap_min_addr", Is("65536")),
    ("vm/mmap_rnd_bits", Is("28")),
    ("vm/nr_hugepages", Is("0")),
    ("vm/nr_overcommit_hugepages", Is("0")),
    ("vm/oom_kill_allocating_task", Kept("0")),
    ("vm/overcommit_kbytes", Kept("0")),
    ("vm/overcommit_memory", Kept("0")),
    ("vm/overcommit_ratio", Kept("50")),
    ("vm/page-cluster", Kept("3")),
    ("vm/panic_on_oom", Is("0")),
    ("vm/swappiness", Kept("60")),
    ("vm/user_reserve_kbytes", Kept("131072")),
    ("vm/vfs_cache_pressure", Kept("100")),
    ("vm/zone_reclaim_mode", Kept("0")),
];

static KEPT: SpinLock<BTreeMap<&'static str, Vec<u8>>> = SpinLock::new(BTreeMap::new());
static BOOT_ID: SpinLock<Option<String>> = SpinLock::new(None);

fn uuid() -> String {
    let mut raw = [0u8; 16];
    kernel().random(&mut raw);
    let mut n = u128::from_be_bytes(raw);
    // Version 4, variant 1.
    n = n & !(0xf << 76) | 4 << 76;
    n = n & !(3 << 62) | 2 << 62;
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        n >> 96,
        n >> 80 & 0xffff,
        n >> 64 & 0xffff,
        n >> 48 & 0xffff,
        n & 0xffff_ffff_ffff
    )
}

fn boot_id() -> String {
    if let Some(id) = &*BOOT_ID.lock() {
        return id.clone();
    }
    let fresh = uuid();
    BOOT_ID.lock().get_or_insert(fresh).clone()
}

/// The sandbox was restored or forked: /proc/sys/kernel/random/boot_id gets a new value.
pub fn new_boot_id() {
    *BOOT_ID.lock() = None;
}

/// A setting as a file.
struct Setting {
    name: &'static str,
    value: &'static Value,
}

impl Text for Setting {
    fn read(&self) -> Result<Vec<u8>> {
        let mut text = match self.value {
            Is(text) => text.as_bytes().to_vec(),
            Kept(default) => {
                KEPT.lock().get(self.name).cloned().unwrap_or_else(|| default.as_bytes().to_vec())
            }
            Made(make) => make().into_bytes(),
            Uts(host) => {
                let (node, domain) = kernel().uts();
                if *host { node } else { domain }.into_bytes()
            }
            Limit(limits) => {
                let texts: Vec<String> = limits.iter().map(|(l, _)| format!("{}", limits::get(l))).collect();
                texts.join("\t").into_bytes()
            }
        };
        text.push(b'\n');
        Ok(text)
    }

    fn write(&self, data: &[u8]) -> Result<()> {
        let data = data.trim_ascii_end();
        match self.value {
            Is(_) | Made(_) => return Err(Errno::EACCES),
            Kept(default) => {
                if data.len() > 4096 {
                    return Err(Errno::EINVAL);
                }
                // What was a number stays one.
                let numbers =
                    |t: &[u8]| t.iter().all(|b| b.is_ascii_digit() || b.is_ascii_whitespace() || *b == b'-');
                if numbers(default.as_bytes()) && !default.is_empty() && !numbers(data) {
                    return Err(Errno::EINVAL);
                }
                KEPT.lock().insert(self.name, data.to_vec());
            }
            Uts(host) => {
                let name = data.split(|b| *b == b'\n').next().unwrap_or_default();
                kernel().set_uts(*host, name.get(..name.len().min(64)).unwrap_or_default());
            }
            Limit(limits) => {
                let text = core::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
                // Those that are not named keep their values; nothing is set where one is wrong.
                let values: Vec<u64> = text
                    .split_ascii_whitespace()
                    .zip(limits.iter())
                    .map(|(word, (_, most))| word.parse().ok().filter(|v| v <= most).ok_or(Errno::EINVAL))
                    .collect::<Result<_>>()?;
                for (value, (limit, _)) in values.iter().zip(limits.iter()) {
                    limit.store(*value, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }
}

fn mode(value: &Value) -> u32 {
    match value {
        Is(_) | Made(_) => 0o444,
        Kept(_) | Uts(_) | Limit(_) => 0o644,
    }
}

/// Sets a value by its name with dots.
///
/// # Errors
/// ENOENT, EINVAL, EACCES.
pub fn set(name: &str, value: &[u8]) -> Result<()> {
    let path = name.replace('.', "/");
    let (name, found) = VALUES.iter().find(|(n, _)| *n == path).ok_or(Errno::ENOENT)?;
    Setting { name, value: found }.write(value)
}

/// The value of a number that can be set, by its path under /proc/sys.
pub fn get_number(name: &str) -> Option<u64> {
    let (name, value) = VALUES.iter().find(|(n, _)| *n == name)?;
    let text = Setting { name, value }.read().ok()?;
    core::str::from_utf8(&text).ok()?.trim().parse().ok()
}

/// A directory: the settings that begin with a prefix.
struct Tree {
    prefix: String,
    made: SpinLock<BTreeMap<Vec<u8>, Arc<dyn Inode>>>,
}

/// The root of the settings.
pub fn tree() -> impl Dir {
    Tree { prefix: String::new(), made: SpinLock::new(BTreeMap::new()) }
}

impl Tree {
    /// Next parts of the names, each once, and whether it is a directory.
    fn parts(&self) -> Vec<(&'static str, bool)> {
        let mut out: Vec<(&'static str, bool)> = Vec::new();
        for (name, _) in VALUES {
            let Some(rest) = name.strip_prefix(self.prefix.as_str()) else { continue };
            let (part, dir) = match rest.split_once('/') {
                Some((part, _)) => (part, true),
                None => (rest, false),
            };
            if !out.iter().any(|(p, _)| *p == part) {
                out.push((part, dir));
            }
        }
        out
    }
}

impl Dir for Tree {
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        if let Some(found) = self.made.lock().get(name) {
            return Ok(found.clone());
        }
        let (part, dir) =
            self.parts().into_iter().find(|(p, _)| p.as_bytes() == name).ok_or(Errno::ENOENT)?;
        let full = format!("{}{part}", self.prefix);
        let inode = if dir {
            Synth::dir(0o555, Tree { prefix: full + "/", made: SpinLock::new(BTreeMap::new()) }).inode()
        } else {
            let (name, value) = VALUES.iter().find(|(n, _)| *n == full).ok_or(Errno::ENOENT)?;
            Synth::file(mode(value), Setting { name, value }).inode()
        };
        Ok(self.made.lock().entry(name.to_vec()).or_insert(inode).clone())
    }

    fn list(&self) -> Result<Vec<Entry>> {
        self.parts()
            .into_iter()
            .map(|(part, dir)| {
                let ino = self.lookup(part.as_bytes())?.stat()?.ino;
                Ok((part.as_bytes().to_vec(), ino, if dir { c::DT_DIR } else { c::DT_REG } as u8))
            })
            .collect()
    }
}
