//! sysfs(5) as far as programs look at it.

use super::cgroup::cpu_list;
use super::synth::{self, Dir, Entry, Fixed, Synth};
use crate::errno::Result;
use crate::kernel::resources;
use crate::net::inet::lo;
use crate::net::inet::options::MTU;
use crate::vfs::hooks::kernel;
use crate::vfs::inode::{Inode, PlainFs, SuperBlock};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general as c;

fn cpus() -> usize {
    kernel().system().cpus.len().max(1)
}

fn cpu_mask() -> Vec<u8> {
    let n = cpus().min(63);
    format!("{:x}\n", (1u64 << n) - 1).into_bytes()
}

/// Bytes of a line of every cache.
const LINE: u32 = 64;

/// devices/system/cpu.
struct Cpus {
    fixed: Fixed,
}

fn cpu(n: usize) -> Synth {
    let topology = Fixed::new()
        .fixed("physical_package_id", "0\n")
        .text("core_id", move || format!("{n}\n").into_bytes())
        .fixed("die_id", "0\n")
        .text("thread_siblings_list", move || format!("{n}\n").into_bytes())
        .text("thread_siblings", move || format!("{:x}\n", 1u64 << n.min(63)).into_bytes())
        .text("core_siblings_list", cpu_list)
        .text("core_siblings", cpu_mask);
    // Of each kind a usual one, the same everywhere: size = sets * ways * line.
    let cache = move |level: u8, kind: &'static str, kib: u32, ways: u32| {
        let text = |text: alloc::string::String| move || text.clone().into_bytes();
        Fixed::new()
            .text("id", text(format!("{n}\n")))
            .text("level", text(format!("{level}\n")))
            .fixed("type", kind)
            .text("size", text(format!("{kib}K\n")))
            .text("coherency_line_size", text(format!("{LINE}\n")))
            .text("number_of_sets", text(format!("{}\n", kib * 1024 / ways / LINE)))
            .text("ways_of_associativity", text(format!("{ways}\n")))
            .fixed("physical_line_partition", "1\n")
            .text("shared_cpu_list", text(format!("{n}\n")))
            .text("shared_cpu_map", text(format!("{:x}\n", 1u64 << n.min(63))))
    };
    let caches = Fixed::new()
        .dir("index0", cache(1, "Data\n", 32, 8))
        .dir("index1", cache(1, "Instruction\n", 32, 8))
        .dir("index2", cache(2, "Unified\n", 1024, 16));
    Synth::dir(0o755, Fixed::new().fixed("online", "1\n").dir("topology", topology).dir("cache", caches))
}

fn cpu_number(name: &[u8]) -> Option<usize> {
    let digits = name.strip_prefix(b"cpu")?;
    core::str::from_utf8(digits).ok()?.parse().ok().filter(|n| *n < cpus())
}

impl Dir for Cpus {
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        match cpu_number(name) {
            Some(n) => Ok(cpu(n).inode()),
            None => self.fixed.lookup(name),
        }
    }
    fn list(&self) -> Result<Vec<Entry>> {
        let mut out = self.fixed.list()?;
        for n in 0..cpus() {
            out.push((format!("cpu{n}").into_bytes(), 0x8000 + n as u64, c::DT_DIR as u8));
        }
        Ok(out)
    }
}

fn node_meminfo() -> Vec<u8> {
    let (used, total) = resources::memory();
    let (used, total) = (used / 1024, total / 1024);
    format!(
        "Node 0 MemTotal:       {total} kB\nNode 0 MemFree:        {} kB\nNode 0 MemUsed:        {used} kB\n",
        total.saturating_sub(used)
    )
    .into_bytes()
}

/// The loopback interface, devices/virtual/net/lo.
fn loopback() -> Fixed {
    let mut statistics = Fixed::new();
    for name in ["collisions", "multicast", "rx_dropped", "rx_errors", "tx_dropped", "tx_errors"] {
        statistics = statistics.fixed(name, "0\n");
    }
    for name in ["rx_bytes", "tx_bytes"] {
        statistics = statistics.text(name, || format!("{}\n", lo::traffic().0).into_bytes());
    }
    for name in ["rx_packets", "tx_packets"] {
        statistics = statistics.text(name, || format!("{}\n", lo::traffic().1).into_bytes());
    }
    Fixed::new()
        .fixed("addr_assign_type", "0\n")
        .fixed("addr_len", "6\n")
        .fixed("address", "00:00:00:00:00:00\n")
        .fixed("broadcast", "00:00:00:00:00:00\n")
        .fixed("carrier", "1\n")
        .fixed("carrier_changes", "0\n")
        .fixed("dev_id", "0x0\n")
        .fixed("dev_port", "0\n")
        .fixed("dormant", "0\n")
        .fixed("flags", "0x9\n")
        .fixed("ifalias", "")
        .text("ifindex", || format!("{}\n", lo::INDEX).into_bytes())
        .text("iflink", || format!("{}\n", lo::INDEX).into_bytes())
        .fixed("link_mode", "0\n")
        .text("mtu", || format!("{MTU}\n").into_bytes())
        .fixed("netdev_group", "0\n")
        .fixed("operstate", "unknown\n")
        .text("tx_queue_len", || format!("{}\n", lo::QUEUE_LEN).into_bytes())
        .text("type", || format!("{}\n", lo::HARDWARE).into_bytes())
        .fixed("uevent", "INTERFACE=lo\nIFINDEX=1\n")
        .dir("statistics", statistics)
}

/// A mountable sysfs.
pub fn new() -> Arc<SuperBlock> {
    let cpu = Cpus {
        fixed: Fixed::new()
            .text("online", cpu_list)
            .text("possible", cpu_list)
            .text("present", cpu_list)
            .fixed("offline", "\n")
            .fixed("isolated", "\n")
            .fixed("kernel_max", "63\n")
            .dir("vulnerabilities", Fixed::new()),
    };
    let node0 = Fixed::new()
        .text("cpulist", cpu_list)
        .text("cpumap", cpu_mask)
        .text("meminfo", node_meminfo)
        .fixed("distance", "10\n");
    let node = Fixed::new()
        .fixed("online", "0\n")
        .fixed("possible", "0\n")
        .fixed("has_cpu", "0\n")
        .fixed("has_memory", "0\n")
        .fixed("has_normal_memory", "0\n")
        .dir("node0", node0);
    let thp = Fixed::new()
        .fixed("enabled", "[always] madvise never\n")
        .fixed("defrag", "always defer defer+madvise [madvise] never\n")
        .fixed("shmem_enabled", "always within_size advise [never] deny force\n")
        .fixed("hpage_pmd_size", "2097152\n")
        .fixed("use_zero_page", "0\n");
    let huge = Fixed::new().dir(
        "hugepages-2048kB",
        Fixed::new()
            .fixed("nr_hugepages", "0\n")
            .fixed("free_hugepages", "0\n")
            .fixed("resv_hugepages", "0\n"),
    );
    let net = Fixed::new().with("lo", Synth::link(|| Ok(b"../../devices/virtual/net/lo".to_vec())));
    let root = Fixed::new()
        .dir("block", Fixed::new())
        .dir("bus", Fixed::new())
        .dir(
            "class",
            Fixed::new()
                .dir("net", net)
                .dir("tty", Fixed::new())
                .dir("mem", Fixed::new())
                .dir("block", Fixed::new())
                .dir("dmi", Fixed::new()),
        )
        .dir("dev", Fixed::new().dir("block", Fixed::new()).dir("char", Fixed::new()))
        .dir(
            "devices",
            Fixed::new()
                .dir("system", Fixed::new().dir("cpu", cpu).dir("node", node))
                .dir("virtual", Fixed::new().dir("net", Fixed::new().dir("lo", loopback()))),
        )
        .dir("firmware", Fixed::new())
        .dir("fs", Fixed::new().dir("cgroup", Fixed::new()))
        .dir("hypervisor", Fixed::new())
        .dir(
            "kernel",
            Fixed::new()
                .dir("mm", Fixed::new().dir("transparent_hugepage", thp).dir("hugepages", huge))
                .dir("security", Fixed::new())
                .dir("debug", Fixed::new()),
        )
        .dir("module", Fixed::new())
        .dir("power", Fixed::new());
    let root = Synth::dir(0o555, root).with_ino(1).inode();
    synth::super_block("sysfs", c::SYSFS_MAGIC, root, Arc::new(PlainFs))
}
