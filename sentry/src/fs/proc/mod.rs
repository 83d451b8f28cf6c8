//! proc(5): live values of the sandbox.

mod pid;
pub mod sysctl;
mod system;

use super::cgroup;
use super::synth::{self, Dir, Entry, Fixed, Synth};
use crate::errno::{Errno, Result};
use crate::vfs::Ctx;
use crate::vfs::hooks::kernel;
use crate::vfs::inode::{Inode, PlainFs, SuperBlock};
use crate::vfs::open::{OpenHow, open};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general as c;

/// Inode number of the root.
const ROOT_INO: u64 = 1;

struct Root {
    fixed: Fixed,
}

fn own_pid() -> Result<Vec<u8>> {
    let (pid, _) = kernel().current().ok_or(Errno::ENOENT)?;
    Ok(format!("{pid}").into_bytes())
}

fn own_thread() -> Result<Vec<u8>> {
    let (pid, tid) = kernel().current().ok_or(Errno::ENOENT)?;
    Ok(format!("{pid}/task/{tid}").into_bytes())
}

/// A number without sign or leading zeros, as names of processes are.
pub(super) fn number(name: &[u8]) -> Option<u32> {
    if name.first().is_none_or(|b| !b.is_ascii_digit() || *b == b'0' && name.len() > 1) {
        return None;
    }
    core::str::from_utf8(name).ok()?.parse().ok()
}

impl Dir for Root {
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        if let Some(pid) = number(name) {
            return pid::process(pid);
        }
        self.fixed.lookup(name)
    }

    fn list(&self) -> Result<Vec<Entry>> {
        let mut out = self.fixed.list()?;
        for pid in kernel().pids() {
            out.push((format!("{pid}").into_bytes(), pid::ino(pid, 0), c::DT_DIR as u8));
        }
        Ok(out)
    }
}

/// A mountable instance. All show the same.
pub fn new() -> Arc<SuperBlock> {
    let text = |t: &'static str| move || Ok(t.as_bytes().to_vec());
    let fixed = Fixed::new()
        .with("self", Synth::link(own_pid))
        .with("thread-self", Synth::link(own_thread))
        .with("mounts", Synth::link(text("self/mounts")))
        .with("net", Synth::link(text("self/net")))
        .text("meminfo", system::meminfo)
        .text("cpuinfo", system::cpuinfo)
        .text("stat", system::stat)
        .text("uptime", system::uptime)
        .text("loadavg", system::loadavg)
        .text("version", system::version)
        .text("vmstat", system::vmstat)
        .text("filesystems", system::filesystems)
        .fixed("cmdline", "\n")
        .fixed("devices", "Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n136 pts\n\nBlock devices:\n")
        .fixed("partitions", "major minor  #blocks  name\n\n")
        .fixed("diskstats", "")
        .fixed("swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")
        .fixed("modules", "")
        .fixed("interrupts", "")
        .fixed("softirqs", "")
        .text("cgroups", cgroup::controllers)
        .fixed("consoles", "")
        .fixed("crypto", "")
        .fixed("misc", "")
        .fixed("locks", "")
        .dir("sys", sysctl::tree())
        .dir("tty", Fixed::new().fixed("drivers", "/dev/tty             /dev/tty        5       0 system:/dev/tty\npty_slave            /dev/pts      136 0-1048575 pty:slave\n"))
        .dir("sysvipc", system::sysvipc())
        .dir("driver", Fixed::new())
        .dir("fs", Fixed::new())
        .dir("bus", Fixed::new())
        .dir("irq", Fixed::new());
    let root = Synth::dir(0o555, Root { fixed }).with_ino(ROOT_INO).inode();
    synth::super_block("proc", c::PROC_SUPER_MAGIC, root, Arc::new(PlainFs))
}

/// Applies a setting of the container's specification, by its name with dots.
///
/// # Errors
/// ENOENT for a name that there is not; EINVAL.
pub fn set_sysctl(ctx: &Ctx, name: &str, value: &str) -> Result<()> {
    if sysctl::set(name, value.as_bytes()).is_ok() {
        return Ok(());
    }
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    let how = OpenHow { flags: c::O_WRONLY, ..OpenHow::default() };
    let file = open(ctx, ctx.root.clone(), path.as_bytes(), &how)?;
    file.ops().write(&file, &mut crate::mm::io::SliceSource::new(value.as_bytes()), 0).map(drop)
}
