//! /proc/PID and /proc/PID/task/TID.

mod fds;
mod mounts;
mod net;
mod status;

use super::number;
use crate::errno::{Errno, Result};
use crate::fs::cgroup;
use crate::fs::synth::{Dir, Entry, Leads, Synth, Text};
use crate::kernel::cred::cap;
use crate::mm::io::Sink;
use crate::vfs::hooks::{TaskInfo, kernel};
use crate::vfs::inode::{Inode, Link};
use crate::vfs::{FsState, Path, anon};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general as c;

/// Number of a file of a process: none of these is kept, so it is made from both.
pub fn ino(pid: u32, which: u64) -> u64 {
    0x1000_0000 + (u64::from(pid) << 16) + which
}

/// A task's directory; `process`: the process as a whole.
#[derive(Clone, Copy)]
struct Of {
    tid: u32,
    process: bool,
}

impl Of {
    fn info(self) -> Result<TaskInfo> {
        kernel().task(self.tid, self.process).ok_or(Errno::ESRCH)
    }

    /// Whether the caller may look into the task, as ptrace(2) has it for reading.
    fn may_inspect(self) -> Result<TaskInfo> {
        let info = self.info()?;
        let Some(cred) = kernel().current_cred() else { return Ok(info) };
        let same = |id: u32| id == info.cred.uid && id == info.cred.euid && id == info.cred.suid;
        let own = kernel().current().is_some_and(|(pid, _)| pid == info.pid);
        if own || cred.has(cap::SYS_PTRACE) || same(cred.fsuid) && info.dumpable {
            return Ok(info);
        }
        Err(Errno::EACCES)
    }

    fn fs(self) -> Result<Arc<FsState>> {
        self.may_inspect()?;
        kernel().fs(self.tid).ok_or(Errno::ENOENT)
    }
}

/// Text about a task.
struct Show<F>(Of, F);

impl<F: Fn(Of) -> Result<Vec<u8>> + Send + Sync> Text for Show<F> {
    fn read(&self) -> Result<Vec<u8>> {
        self.1(self.0)
    }
}

/// Text about a task that can be set.
struct Settable<R, W>(Of, R, W);

impl<R, W> Text for Settable<R, W>
where
    R: Fn(Of) -> Result<Vec<u8>> + Send + Sync,
    W: Fn(Of, &[u8]) -> Result<()> + Send + Sync,
{
    fn read(&self) -> Result<Vec<u8>> {
        self.1(self.0)
    }
    fn write(&self, data: &[u8]) -> Result<()> {
        self.2(self.0, data)
    }
}

/// A link to a place: cwd, root, exe.
struct ToPath<F>(Of, F);

impl<F: Fn(Of) -> Result<Path> + Send + Sync> Leads for ToPath<F> {
    fn text(&self) -> Result<Vec<u8>> {
        let at = self.1(self.0)?;
        Ok(text_of(&at))
    }
    fn link(&self) -> Result<Link> {
        self.1(self.0).map(Link::Path)
    }
}

/// A path as the caller sees it.
fn text_of(at: &Path) -> Vec<u8> {
    let root = kernel().current().and_then(|(pid, _)| kernel().fs(pid)).map(|fs| fs.root());
    at.to_bytes(&root.unwrap_or_else(|| at.mnt.root_path()))
}

/// A namespace, as a link `mnt:[N]`.
struct Namespace(Of, &'static str);

impl Namespace {
    fn number(&self) -> u64 {
        match self.1 {
            "mnt" => kernel().fs(self.0.tid).map_or(0xF000_0000, |fs| fs.ns().id),
            name => 0xEFFF_FF00 + name.bytes().map(u64::from).sum::<u64>() % 256,
        }
    }
}

impl Leads for Namespace {
    fn text(&self) -> Result<Vec<u8>> {
        let kind = self.1.trim_end_matches("_for_children");
        Ok(format!("{kind}:[{}]", self.number()).into_bytes())
    }
    fn link(&self) -> Result<Link> {
        use crate::vfs::inode::Attr;
        let attr = Attr { mode: c::S_IFREG | 0o444, uid: 0, gid: 0 };
        Ok(Link::Path(anon::path(self.number(), attr, &self.text()?, None, None)))
    }
}

/// /proc/PID/mem: read only.
struct Mem(Of);

impl Text for Mem {
    fn read(&self) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }
    fn read_at(&self, sink: &mut dyn Sink, offset: u64) -> Option<Result<usize>> {
        if let Err(e) = self.0.may_inspect() {
            return Some(Err(e));
        }
        let mut buf = alloc::vec![0; sink.remaining().min(64 << 10)];
        let n = kernel().read_memory(self.0.tid, offset, &mut buf);
        if n == 0 && !buf.is_empty() {
            return Some(Err(Errno::EIO));
        }
        Some(sink.put(buf.get(..n).unwrap_or_default()))
    }
}

/// Reads a range of a task's memory, up to a limit.
fn memory(tid: u32, range: (u64, u64)) -> Vec<u8> {
    let len = range.1.saturating_sub(range.0).min(2 << 20) as usize;
    let mut buf = alloc::vec![0; len];
    let n = kernel().read_memory(tid, range.0, &mut buf);
    buf.truncate(n);
    buf
}

fn cmdline(of: Of) -> Result<Vec<u8>> {
    let info = of.info()?;
    let mut text = memory(of.tid, info.args);
    // A program that wrote over the end of its arguments (setproctitle) goes on into its environment.
    if text.last().is_some_and(|b| *b != 0) {
        let more = memory(of.tid, info.env);
        let end = more.iter().position(|b| *b == 0).unwrap_or(more.len());
        text.try_reserve_exact(end).map_err(|_| Errno::ENOMEM)?;
        text.extend_from_slice(&more[..end]);
    }
    Ok(text)
}

fn set_comm(of: Of, data: &[u8]) -> Result<()> {
    let own = kernel().current().is_some_and(|(pid, _)| of.info().is_ok_and(|i| i.pid == pid));
    if !own {
        return Err(Errno::EINVAL);
    }
    let data = data.strip_suffix(b"\n").unwrap_or(data);
    kernel().set_comm(of.tid, data.get(..data.len().min(15)).unwrap_or_default());
    Ok(())
}

fn set_oom_score_adj(of: Of, data: &[u8]) -> Result<()> {
    let value: i32 =
        core::str::from_utf8(data).ok().and_then(|t| t.trim().parse().ok()).ok_or(Errno::EINVAL)?;
    if !(-1000..=1000).contains(&value) {
        return Err(Errno::EINVAL);
    }
    let info = of.info()?;
    if value < info.oom_score_adj && !kernel().current_cred().is_some_and(|c| c.has(cap::SYS_RESOURCE)) {
        return Err(Errno::EACCES);
    }
    kernel().set_oom_score_adj(info.pid, value);
    Ok(())
}

const NAMESPACES: &[&str] =
    &["cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "uts"];

/// Names in the directory and their types; those behind the bar only in that of a process.
const NAMES: &[(&str, u32)] = &[
    ("auxv", c::DT_REG),
    ("cgroup", c::DT_REG),
    ("cmdline", c::DT_REG),
    ("comm", c::DT_REG),
    ("cwd", c::DT_LNK),
    ("environ", c::DT_REG),
    ("exe", c::DT_LNK),
    ("fd", c::DT_DIR),
    ("fdinfo", c::DT_DIR),
    ("gid_map", c::DT_REG),
    ("io", c::DT_REG),
    ("limits", c::DT_REG),
    ("loginuid", c::DT_REG),
    ("maps", c::DT_REG),
    ("mem", c::DT_REG),
    ("mountinfo", c::DT_REG),
    ("mounts", c::DT_REG),
    ("net", c::DT_DIR),
    ("ns", c::DT_DIR),
    ("oom_score", c::DT_REG),
    ("oom_score_adj", c::DT_REG),
    ("personality", c::DT_REG),
    ("root", c::DT_LNK),
    ("schedstat", c::DT_REG),
    ("sessionid", c::DT_REG),
    ("setgroups", c::DT_REG),
    ("smaps", c::DT_REG),
    ("smaps_rollup", c::DT_REG),
    ("stat", c::DT_REG),
    ("statm", c::DT_REG),
    ("status", c::DT_REG),
    ("syscall", c::DT_REG),
    ("uid_map", c::DT_REG),
    ("wchan", c::DT_REG),
];

/// Names that only the directory of a process has.
const PROCESS_NAMES: &[(&str, u32)] =
    &[("mountstats", c::DT_REG), ("task", c::DT_DIR), ("timerslack_ns", c::DT_REG), ("oom_adj", c::DT_REG)];

fn names(process: bool) -> impl Iterator<Item = &'static (&'static str, u32)> {
    NAMES.iter().chain(if process { PROCESS_NAMES } else { &[] })
}

/// The directory of a task that was started at a time, which tells it from a later one of the same number.
struct TaskDir(Of, u64);

/// The directory of a process.
///
/// # Errors
/// ENOENT where there is none.
pub fn process(pid: u32) -> Result<Arc<dyn Inode>> {
    task_dir(Of { tid: pid, process: true })
}

fn task_dir(of: Of) -> Result<Arc<dyn Inode>> {
    let info = of.info().map_err(|_| Errno::ENOENT)?;
    let dir =
        Synth::dir(0o555, TaskDir(of, info.start_ns)).with_ino(ino(of.tid, u64::from(!of.process) << 15));
    Ok(owned(dir, &info).inode())
}

fn owned(node: Synth, info: &TaskInfo) -> Synth {
    let node = node.fleeting();
    if info.dumpable { node.owned(info.cred.euid, info.cred.egid) } else { node }
}

fn make(of: Of, name: &str) -> Option<Synth> {
    let plain = |f: fn(Of) -> Result<Vec<u8>>| Synth::file(0o444, Show(of, f));
    let private = |f: fn(Of) -> Result<Vec<u8>>| Synth::file(0o400, Show(of, f));
    Some(match name {
        "auxv" => private(|o| o.may_inspect().map(|_| kernel().auxv(o.tid))),
        "cgroup" => plain(|_| Ok(cgroup::of_process())),
        "cmdline" => plain(cmdline),
        "comm" => Synth::file(
            0o644,
            Settable(of, |o: Of| Ok([o.info()?.comm.as_slice(), b"\n"].concat()), set_comm),
        ),
        "cwd" => Synth::link(ToPath(of, |o: Of| Ok(o.fs()?.cwd()))),
        "root" => Synth::link(ToPath(of, |o: Of| Ok(o.fs()?.root()))),
        "exe" => Synth::link(ToPath(of, |o: Of| {
            o.may_inspect()?;
            kernel().exe(o.tid).ok_or(Errno::ENOENT)
        })),
        "environ" => private(|o| o.may_inspect().map(|i| memory(o.tid, i.env))),
        "fd" => Synth::dir(0o500, fds::Fds { of, info: false }),
        "fdinfo" => Synth::dir(0o555, fds::Fds { of, info: true }),
        "uid_map" | "gid_map" => plain(|_| Ok(b"         0          0 4294967295\n".to_vec())),
        "io" => private(|_| {
            Ok(b"rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n"
                .to_vec())
        }),
        "limits" => plain(status::limits),
        "loginuid" | "sessionid" => plain(|_| Ok(b"4294967295".to_vec())),
        "maps" => plain(|o| o.may_inspect().and_then(|_| kernel().maps(o.tid, false))),
        "smaps" => plain(|o| o.may_inspect().and_then(|_| kernel().maps(o.tid, true))),
        "smaps_rollup" => {
            plain(|o| o.may_inspect().and_then(|_| Ok(status::rollup(&kernel().maps(o.tid, true)?))))
        }
        "mem" => Synth::file(0o600, Mem(of)),
        "mountinfo" => plain(mounts::mountinfo),
        "mounts" => plain(mounts::mounts),
        "mountstats" => plain(mounts::mountstats),
        "net" => Synth::dir(0o555, net::Net),
        "ns" => Synth::dir(0o511, Namespaces(of)),
        "oom_score" => {
            plain(|o| Ok(format!("{}\n", (o.info()?.oom_score_adj + 666).clamp(0, 1999)).into_bytes()))
        }
        "oom_score_adj" | "oom_adj" => Synth::file(
            0o644,
            Settable(
                of,
                |o: Of| Ok(format!("{}\n", o.info()?.oom_score_adj).into_bytes()),
                set_oom_score_adj,
            ),
        ),
        "personality" => private(|_| Ok(b"00000000\n".to_vec())),
        "schedstat" => plain(|o| {
            let i = o.info()?;
            Ok(format!("{} 0 {}\n", i.user_ns + i.system_ns, i.voluntary + i.involuntary).into_bytes())
        }),
        "setgroups" => plain(|_| Ok(b"allow\n".to_vec())),
        "stat" => plain(status::stat),
        "statm" => plain(status::statm),
        "status" => plain(status::status),
        "syscall" => private(|o| {
            let i = o.may_inspect()?;
            Ok(if i.syscall < 0 { b"running\n".to_vec() } else { format!("{}\n", i.syscall).into_bytes() })
        }),
        "wchan" => plain(|_| Ok(b"0".to_vec())),
        "task" => Synth::dir(0o555, Tasks(of)),
        "timerslack_ns" => plain(|_| Ok(b"50000\n".to_vec())),
        _ => return None,
    })
}

impl Dir for TaskDir {
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let of = self.0;
        let at = names(of.process).position(|(n, _)| n.as_bytes() == name).ok_or(Errno::ENOENT)?;
        let info = of.info().map_err(|_| Errno::ENOENT)?;
        let text = core::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        let node = make(of, text).ok_or(Errno::ENOENT)?;
        Ok(owned(node.with_ino(self.number(at)), &info).inode())
    }

    fn list(&self) -> Result<Vec<Entry>> {
        self.0.info().map_err(|_| Errno::ENOENT)?;
        Ok(names(self.0.process)
            .enumerate()
            .map(|(at, (name, kind))| (name.as_bytes().to_vec(), self.number(at), *kind as u8))
            .collect())
    }

    fn process(&self) -> Option<Result<u32>> {
        self.0.process.then(|| match self.0.info() {
            Ok(info) if info.start_ns == self.1 => Ok(self.0.tid),
            _ => Err(Errno::ESRCH),
        })
    }
}

impl TaskDir {
    fn number(&self, at: usize) -> u64 {
        ino(self.0.tid, u64::from(!self.0.process) << 15 | (at as u64 + 1))
    }
}

/// /proc/PID/task.
struct Tasks(Of);

impl Dir for Tasks {
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let tid = number(name).ok_or(Errno::ENOENT)?;
        if !kernel().tids(self.0.tid).contains(&tid) {
            return Err(Errno::ENOENT);
        }
        task_dir(Of { tid, process: false })
    }
    fn list(&self) -> Result<Vec<Entry>> {
        let tids = kernel().tids(self.0.tid);
        Ok(tids
            .into_iter()
            .map(|t| (format!("{t}").into_bytes(), ino(t, 1 << 15), c::DT_DIR as u8))
            .collect())
    }
}

/// /proc/PID/ns.
struct Namespaces(Of);

impl Dir for Namespaces {
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let name = NAMESPACES.iter().find(|n| n.as_bytes() == name).ok_or(Errno::ENOENT)?;
        let info = self.0.info().map_err(|_| Errno::ENOENT)?;
        Ok(owned(Synth::link(Namespace(self.0, name)), &info).inode())
    }
    fn list(&self) -> Result<Vec<Entry>> {
        Ok(NAMESPACES
            .iter()
            .enumerate()
            .map(|(at, n)| (n.as_bytes().to_vec(), ino(self.0.tid, 256 + at as u64), c::DT_LNK as u8))
            .collect())
    }
}
