//! The kernel as the VFS sees it, for proc(5) and terminals.

use super::cred::Cred;
use super::process::{self, Life, ThreadGroup};
use super::signal::{self, SigInfo, bit};
use super::task::Task;
use super::{boot, random, sched, uts};
use crate::errno::{Errno, Result};
use crate::mm::vma::{Backing, Prot, VmFlags, Vma};
use crate::mm::{Mm, ProgramLayout};
use crate::sync::WaitQueue;
use crate::vfs::hooks::{CpuTimes, Kernel, SignalSource, SystemInfo, TaskInfo};
use crate::vfs::uapi::SignalfdInfo;
use crate::vfs::{FdTable, FsState, Path};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as c;
use smallvec::SmallVec;
use zerocopy::FromZeros;

/// The only one.
pub static VIEW: View = View;

/// Answers what the VFS asks.
pub struct View;

fn fill_memory(info: &mut TaskInfo, mm: &Arc<Mm>) {
    // Summed up where they are: there may be tens of thousands of ranges.
    let (layout, brk_start, locked) = mm.with(|inner| {
        let layout = inner.layout.clone();
        for vma in inner.vmas.iter() {
            info.vm_size += vma.len();
            if vma.flags.contains(VmFlags::STACK) {
                info.vm_stack += vma.len();
            } else if vma.prot.contains(Prot::WRITE) && !vma.flags.contains(VmFlags::SHARED) {
                info.vm_data += vma.len();
            } else if vma.prot.contains(Prot::EXEC) {
                if vma.start >= layout.start_code && vma.end <= layout.end_code + abi::PAGE_SIZE {
                    info.vm_text += vma.len();
                } else {
                    info.vm_lib += vma.len();
                }
            }
        }
        (layout, inner.brk_start, inner.locked)
    });
    info.vm_peak = info.vm_size;
    info.rss = mm.resident() * abi::PAGE_SIZE;
    info.rss_peak = info.rss;
    info.vm_locked = locked;
    info.code = (layout.start_code, layout.end_code);
    info.data = (layout.start_data, layout.end_data);
    info.stack_start = layout.start_stack;
    info.brk_start = brk_start;
    info.args = (layout.args.start, layout.args.end);
    info.env = (layout.env.start, layout.env.end);
    info.minor_faults = mm.faults.load(Ordering::Relaxed);
}

fn describe(group: &Arc<ThreadGroup>, task: Option<&Arc<Task>>, whole: bool) -> TaskInfo {
    let cred = task.map_or_else(|| Arc::new(Cred::root()), |t| t.cred());
    let mut info = TaskInfo::new(task.map_or(group.pid, |t| t.tid()), group.pid, cred);
    info.ppid = group.ppid();
    info.pgid = group.pgid();
    info.sid = group.sid();
    if let Some(tty) = crate::fs::tty::controlling(info.sid) {
        info.tty = tty.rdev();
        info.tpgid = tty.session().1 as i32;
    }
    info.threads = group.task_count() as u32;
    info.start_ns = group.start_ns;
    info.exit_signal = group.exit_signal.load(Ordering::Relaxed);
    info.oom_score_adj = group.oom_score_adj.load(Ordering::Relaxed);
    info.dumpable = group.dumpable.load(Ordering::Relaxed) == 1;
    let usage = group.usage();
    let children = *group.children_usage.lock();
    info.user_ns = usage.user_ns;
    info.child_user_ns = children.user_ns;
    info.voluntary = usage.voluntary;
    info.involuntary = usage.involuntary;
    info.shared_pending = group.pending.lock().set();
    for signal in 1..=signal::COUNT as u32 {
        match group.handlers().get(signal).handler {
            signal::SIG_DFL => {}
            signal::SIG_IGN => info.ignored |= bit(signal),
            _ => info.caught |= bit(signal),
        }
    }
    let Some(task) = task else {
        info.state = b'Z';
        if let Life::Zombie(status) = group.life() {
            info.exit_code = status;
        }
        return info;
    };
    let comm = task.comm();
    info.comm = comm[..comm.iter().position(|b| *b == 0).unwrap_or(comm.len())].to_vec();
    info.tracer = task.tracer_pid();
    info.state = if task.trace_stopped() {
        b't'
    } else if group.is_stopped() {
        b'T'
    } else {
        task.sched.letter() as u8
    };
    if let Life::Zombie(status) = group.life() {
        info.state = b'Z';
        info.exit_code = status;
    }
    if !whole {
        let own = task.usage();
        info.user_ns = own.user_ns;
        info.voluntary = own.voluntary;
        info.involuntary = own.involuntary;
    }
    {
        let signals = task.signals.lock();
        info.pending = signals.pending.set();
        info.blocked = signals.blocked;
    }
    info.nice = task.nice.load(Ordering::Relaxed) as i32 - 20;
    info.cpu = task.sched.last_cpu.load(Ordering::Relaxed);
    info.cpus_allowed = task.sched.affinity.load(Ordering::Relaxed) & cpu_mask();
    {
        let filters = task.seccomp.lock();
        (info.seccomp, info.seccomp_filters) = (filters.mode(), filters.filters() as u32);
    }
    info.syscall = task.call.number().map_or(-1, |nr| nr as i64);
    if let Ok(mm) = task.try_mm() {
        fill_memory(&mut info, &mm);
    }
    info
}

/// A bit for each CPU that programs see.
pub fn cpu_mask() -> u64 {
    sched::online_mask()
}

impl Kernel for View {
    fn current(&self) -> Option<(u32, u32)> {
        sched::current().map(|t| (t.pid(), t.tid()))
    }

    fn current_cred(&self) -> Option<Arc<Cred>> {
        sched::current().map(|t| t.cred())
    }

    fn pids(&self) -> Vec<u32> {
        process::all_groups().iter().map(|g| g.pid).collect()
    }

    fn tids(&self, pid: u32) -> Vec<u32> {
        let mut tids: Vec<u32> =
            process::find_group(pid).map_or_else(Vec::new, |g| g.tasks().iter().map(|t| t.tid()).collect());
        tids.sort_unstable();
        tids
    }

    fn task(&self, tid: u32, process: bool) -> Option<TaskInfo> {
        if process {
            let group = process::find_group(tid)?;
            let leader = group.leader();
            return Some(describe(&group, leader.as_ref(), true));
        }
        let task = process::find_task(tid)?;
        Some(describe(&task.group, Some(&task), false))
    }

    fn ids(&self, pid: u32) -> Option<(u32, u32)> {
        process::find_group(pid).map(|g| (g.pgid(), g.sid()))
    }

    fn signals(&self) -> Option<Arc<dyn SignalSource>> {
        let task = sched::current()?;
        Some(Arc::new(Signals { task }))
    }

    fn temporary_mask(&self, mask: u64) {
        if let Some(task) = sched::current() {
            super::deliver::set_temporary_mask(&task, mask);
        }
    }

    fn version(&self) -> (String, String) {
        (String::from(uts::RELEASE), String::from(uts::VERSION))
    }

    fn files(&self, tid: u32) -> Option<Arc<FdTable>> {
        process::find_task(tid)?.try_files().ok()
    }

    fn fs(&self, tid: u32) -> Option<Arc<FsState>> {
        process::find_task(tid)?.try_fs().ok()
    }

    fn exe(&self, tid: u32) -> Option<Path> {
        let mm = process::find_task(tid)?.try_mm().ok()?;
        mm.with(|i| i.exe_file.as_ref().map(|f| f.path.clone()))
    }

    fn read_memory(&self, tid: u32, addr: u64, buf: &mut [u8]) -> usize {
        process::find_task(tid).and_then(|t| t.try_mm().ok()).map_or(0, |mm| mm.read_some(addr, buf))
    }

    fn auxv(&self, tid: u32) -> Vec<u8> {
        process::find_task(tid)
            .and_then(|t| t.try_mm().ok())
            .map_or_else(Vec::new, |mm| mm.with(|i| i.layout.auxv.clone()))
    }

    fn maps(&self, tid: u32, detail: bool) -> Result<Vec<u8>> {
        match process::find_task(tid).and_then(|t| t.try_mm().ok()) {
            Some(mm) => maps(&mm, detail),
            None => Ok(Vec::new()),
        }
    }

    fn limits(&self, tid: u32) -> Vec<(u64, u64)> {
        process::find_task(tid).map_or_else(Vec::new, |t| t.group.limits.lock().to_vec())
    }

    fn set_comm(&self, tid: u32, name: &[u8]) {
        if let Some(task) = process::find_task(tid) {
            task.set_comm(name);
        }
    }

    fn set_oom_score_adj(&self, pid: u32, value: i32) {
        if let Some(group) = process::find_group(pid) {
            group.oom_score_adj.store(value, Ordering::Relaxed);
        }
    }

    fn system(&self) -> SystemInfo {
        let n = sched::online();
        let idle = sched::idle_ns() / n as u64;
        let up = crate::time::boottime_ns().saturating_sub(boot::BOOT_NS.load(Ordering::Relaxed));
        let times = CpuTimes { user_ns: up.saturating_sub(idle), system_ns: 0, idle_ns: idle };
        SystemInfo {
            cpus: alloc::vec![times; n],
            switches: sched::SWITCHES.load(Ordering::Relaxed),
            forks: process::FORKS.load(Ordering::Relaxed),
            running: sched::runnable() as u32,
            tasks: process::task_count() as u32,
            last_pid: process::last_pid(),
            load: [0; 3],
            boot_ns: boot::BOOT_NS.load(Ordering::Relaxed),
        }
    }

    fn uts(&self) -> (String, String) {
        uts::names_text()
    }

    fn set_uts(&self, host: bool, name: &[u8]) {
        if host {
            uts::set_host(name);
        } else {
            uts::set_domain(name);
        }
    }

    fn signal_group(&self, pgid: u32, signal: u32) -> bool {
        signal::send_process_group(pgid, SigInfo::kernel(signal))
    }

    fn signal_process(&self, pid: u32, signal: u32) {
        if let Some(group) = process::find_group(pid) {
            let _ = signal::send_group(&group, SigInfo::kernel(signal));
        }
    }

    fn group_in_session(&self, pgid: u32, sid: u32) -> bool {
        process::group_in_session(pgid, sid)
    }

    fn stop_refused(&self, signal: u32) -> (bool, bool) {
        let Some(task) = sched::current() else { return (false, false) };
        let ignored = task.group.handlers().get(signal).handler == signal::SIG_IGN;
        let blocked = task.signals.lock().blocked & bit(signal) != 0;
        let (pgid, sid) = (task.group.pgid(), task.group.sid());
        let held = process::members(pgid)
            .iter()
            .any(|g| g.parent().is_some_and(|p| p.pgid() != pgid && p.sid() == sid));
        (ignored || blocked, !held)
    }

    fn random(&self, buf: &mut [u8]) {
        random::fill(buf);
    }
}

/// The signals of a task, for signalfd(2).
struct Signals {
    task: Arc<Task>,
}

impl SignalSource for Signals {
    fn pending(&self) -> u64 {
        self.task.signals.lock().pending.set() | self.task.group.pending.lock().set()
    }

    fn take(&self, mask: u64) -> Option<SignalfdInfo> {
        let info = self.task.take_signal(mask)?;
        let mut out = SignalfdInfo::new_zeroed();
        out.signo = info.signo as u32;
        out.errno = info.errno;
        out.code = info.code;
        let word = info.fields[0];
        if info.signal() == c::SIGCHLD || info.code <= 0 {
            out.pid = word as u32;
            out.uid = (word >> 32) as u32;
        } else {
            out.addr = word;
        }
        if info.signal() == c::SIGCHLD {
            out.status = info.fields[1] as i32;
            (out.utime, out.stime) = (info.fields[2], info.fields[3]);
        } else if info.code == c::SI_TIMER {
            (out.tid, out.overrun) = (word as u32, (word >> 32) as u32);
            out.pid = 0;
            out.uid = 0;
            (out.int, out.ptr) = (info.fields[1] as i32, info.fields[1]);
        } else if info.code < 0 {
            (out.int, out.ptr) = (info.fields[1] as i32, info.fields[1]);
        }
        Some(out)
    }

    fn queue(&self) -> &WaitQueue {
        &self.task.group.signal_queue
    }
}

/// How maps shows a range that PR_SET_VMA named.
fn anon_name(name: Option<&[u8]>, kind: &str) -> String {
    format!("[{kind}:{}]", String::from_utf8_lossy(name.unwrap_or_default()))
}

/// Ranges that are looked at together.
const PIECE: usize = 32;
/// Room for what a range shows but its path.
const LINE: usize = 128;
const DETAIL: usize = 768;

/// What maps and smaps show. There may be tens of thousands of ranges: they are taken in pieces, and the text grows
/// only where memory is there.
fn maps(mm: &Arc<Mm>, detail: bool) -> Result<Vec<u8>> {
    let layout = mm.with(|inner| inner.layout.clone());
    let mut out = String::new();
    let mut from = 0;
    loop {
        let piece: SmallVec<[Vma; PIECE]> =
            mm.with(|inner| inner.vmas.overlapping(from, u64::MAX).take(PIECE).cloned().collect());
        let Some(last) = piece.last() else { return Ok(out.into_bytes()) };
        from = last.end;
        show(mm, &layout, &piece, detail, &mut out)?;
    }
}

fn show(mm: &Mm, layout: &ProgramLayout, piece: &[Vma], detail: bool, out: &mut String) -> Result<()> {
    for vma in piece {
        let flag = |on: bool, letter: char| if on { letter } else { '-' };
        let shared = vma.flags.contains(VmFlags::SHARED);
        let (name, offset) = match &vma.backing {
            Backing::Anon => (None, 0),
            Backing::Object { object, page } => (Some(object.describe()), page * abi::PAGE_SIZE),
        };
        let special = if vma.flags.contains(VmFlags::VDSO) {
            "[vdso]"
        } else if vma.flags.contains(VmFlags::VVAR) {
            "[vvar]"
        } else if vma.flags.contains(VmFlags::HEAP) {
            "[heap]"
        } else if vma.flags.contains(VmFlags::STACK) || (vma.start..vma.end).contains(&layout.start_stack) {
            "[stack]"
        } else {
            ""
        };
        let (dev, ino, path) = match &name {
            Some(n) if vma.name.is_some() => (n.dev, n.ino, anon_name(vma.name.as_deref(), "anon_shmem")),
            Some(n) if special.is_empty() => (n.dev, n.ino, String::from_utf8_lossy(&n.path).into_owned()),
            None if special.is_empty() && vma.name.is_some() => {
                (0, 0, anon_name(vma.name.as_deref(), "anon"))
            }
            _ => (0, 0, String::from(special)),
        };
        let offset = if special.is_empty() { offset } else { 0 };
        let room = LINE + 4 * path.len() + if detail { DETAIL } else { 0 };
        out.try_reserve(room).map_err(|_| Errno::ENOMEM)?;
        let head = format!(
            "{:08x}-{:08x} {}{}{}{} {:08x} {:02x}:{:02x} {} ",
            vma.start,
            vma.end,
            flag(!vma.prot.is_empty(), 'r'),
            flag(vma.prot.contains(Prot::WRITE), 'w'),
            flag(vma.prot.contains(Prot::EXEC), 'x'),
            if shared { 's' } else { 'p' },
            offset,
            dev >> 8 & 0xfff,
            dev & 0xff,
            ino
        );
        out.push_str(&head);
        if !path.is_empty() {
            for _ in head.len()..73 {
                out.push(' ');
            }
            out.push_str(&path.replace('\n', "\\012"));
        }
        out.push('\n');
        if detail {
            let rss = mm.resident_in(vma.start, vma.end) * 4;
            let size = vma.len() / 1024;
            let (clean, dirty) = if matches!(vma.backing, Backing::Anon) { (0, rss) } else { (rss, 0) };
            let anon = if matches!(vma.backing, Backing::Anon) { rss } else { 0 };
            for (name, kb) in [
                ("Size:", size),
                ("KernelPageSize:", 4),
                ("MMUPageSize:", 4),
                ("Rss:", rss),
                ("Pss:", rss),
                ("Shared_Clean:", 0),
                ("Shared_Dirty:", 0),
                ("Private_Clean:", clean),
                ("Private_Dirty:", dirty),
                ("Referenced:", rss),
                ("Anonymous:", anon),
                ("LazyFree:", 0),
                ("AnonHugePages:", 0),
                ("Swap:", 0),
                ("Locked:", if vma.flags.contains(VmFlags::LOCKED) { rss } else { 0 }),
            ] {
                out.push_str(&format!("{name:<16}{kb:>8} kB\n"));
            }
            out.push_str("VmFlags: ");
            for (on, name) in [
                (vma.prot.contains(Prot::READ), "rd "),
                (vma.prot.contains(Prot::WRITE), "wr "),
                (vma.prot.contains(Prot::EXEC), "ex "),
                (shared, "sh "),
                (true, "mr mw me "),
            ] {
                if on {
                    out.push_str(name);
                }
            }
            out.push('\n');
        }
    }
    Ok(())
}
