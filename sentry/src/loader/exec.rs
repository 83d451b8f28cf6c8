//! execve(2).

use super::elf::Executable;
use super::initial_stack::{self, AuxInfo, Strings};
use super::vdso;
use crate::arch::UserContext;
use crate::errno::{Errno, Result};
use crate::kernel::boot;
use crate::kernel::cred::{Cred, ExecRights, after_exec};
use crate::kernel::exit;
use crate::kernel::process;
use crate::kernel::ptrace;
use crate::kernel::random;
use crate::kernel::signal::AltStack;
use crate::kernel::task::{CurrentTask, Task};
use crate::kernel::wait;
use crate::mm::map::{Content, MapLimits, Placement};
use crate::mm::vma::{Prot, VmFlags};
use crate::mm::{Mm, ProgramLayout};
use crate::syscalls::misc::ADDR_NO_RANDOMIZE;
use crate::vfs::{Ctx, FsState, OpenFile};
use abi::PAGE_SIZE;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as c;

pub use super::initial_stack::Strings as ProgramStrings;

/// Longest single argument: MAX_ARG_STRLEN.
pub const MAX_STRING: usize = 32 * PAGE_SIZE as usize;
/// Most scripts that lead to scripts.
const MAX_SCRIPTS: usize = 5;
/// Bytes of a script's first line that count.
const SCRIPT_LINE: usize = 256;
/// Where relocatable programs go, before randomisation: two thirds of the address space, as Linux has it.
const PROGRAM_BASE: u64 = 0x5555_5555_4000;

/// A program that is loaded into an address space of its own and ready to run.
pub struct Loaded {
    mm: Arc<Mm>,
    ctx: UserContext,
    comm: Vec<u8>,
    cred: Arc<Cred>,
    secure: bool,
}

/// Opens a program by its path.
///
/// # Errors
/// Those of execve(2).
pub fn open_program(fs: &Arc<FsState>, cred: &Arc<Cred>, path: &[u8]) -> Result<Arc<OpenFile>> {
    let ctx = Ctx::new(cred.clone(), fs.clone());
    let base = if path.first() == Some(&b'/') { fs.root() } else { fs.cwd() };
    crate::vfs::exec::exec_open_from(&ctx, base, path, 0)
}

/// How a program is loaded.
#[derive(Debug, Clone, Copy, Default)]
pub struct How {
    /// Whether set-user-id bits give less, since another process shares root and directory or traces this one; `None`
    /// for a process that is made with the credentials that it is to have.
    pub shared: Option<bool>,
    /// Addresses are not randomised: personality(2).
    pub fixed: bool,
}

/// Opens `path` in the given root and directory, and loads it with its strings.
///
/// # Errors
/// Those of execve(2).
pub fn load(
    fs: &Arc<FsState>,
    cred: &Arc<Cred>,
    file: Arc<OpenFile>,
    path: &[u8],
    strings: Strings,
    stack_limit: u64,
    how: How,
) -> Result<Loaded> {
    let name = path.rsplit(|b| *b == b'/').next().unwrap_or(path).to_vec();
    let (file, strings) = resolve_scripts(fs, cred, file, path, strings)?;
    let (cred, secure) = match how.shared {
        Some(shared) => {
            let (new, secure) = after_exec(cred, &rights_of(cred, &file, shared));
            (Arc::new(new), secure)
        }
        None => (cred.clone(), false),
    };
    let program = Executable::open(file.clone())?;
    let interpreter = match &program.interpreter {
        Some(path) => {
            let file = open_program(fs, &cred, path)?;
            Some(Executable::open(file).map_err(|_| Errno::ELIBBAD)?)
        }
        None => None,
    };
    let mm = Mm::new()?;
    mm.stack_limit.store(stack_limit, Ordering::Relaxed);
    let random = if how.fixed { [0; 16] } else { random::bytes::<16>() };
    let word = |at: usize| {
        u64::from(u32::from_le_bytes([random[at], random[at + 1], random[at + 2], random[at + 3]]))
    };
    let stack_top = mm.user_top - (word(0) % 0x3f_ffff) * PAGE_SIZE - PAGE_SIZE;
    map_stack(&mm, stack_top, program.exec_stack())?;
    let gap = stack_limit.clamp(128 << 20, mm.user_top / 6 * 5) + (1 << 20);
    mm.set_mmap_top((stack_top - gap - (word(4) % 0xfff_ffff) * PAGE_SIZE) & !(PAGE_SIZE - 1));
    let base = if !program.relocatable() {
        None
    } else if interpreter.is_some() {
        Some((PROGRAM_BASE.min(mm.user_top / 3 * 2) & !(PAGE_SIZE - 1)) + (word(8) % 0xfff_ffff) * PAGE_SIZE)
    } else {
        None
    };
    let mapped = program.map(&mm, base)?;
    let (entry, interpreter_base) = match &interpreter {
        Some(i) => {
            let at = i.map(&mm, None)?;
            (at.entry, at.bias)
        }
        None => (mapped.entry, 0),
    };
    let vdso = vdso::map(&mm)?;
    let info = AuxInfo {
        cred: &cred,
        phdr: mapped.phdr,
        phnum: u64::from(mapped.phnum),
        base: interpreter_base,
        entry: mapped.entry,
        vdso,
        path,
        random: random::bytes::<16>(),
        secure,
    };
    let built = initial_stack::build(&mm, stack_top, &strings, &info)?;
    mm.with(|inner| {
        let start = mapped.end + (word(12) % 0x1fff) * PAGE_SIZE;
        inner.brk_start = start;
        inner.brk = start;
        inner.layout = ProgramLayout {
            start_code: mapped.code.0,
            end_code: mapped.code.1,
            start_data: mapped.data.0,
            end_data: mapped.data.1,
            start_stack: built.rsp,
            args: built.args.clone(),
            env: built.env.clone(),
            auxv: built.auxv.clone(),
            exe: file.path.to_bytes(&fs.root()),
        };
        inner.exe_file = Some(file.clone());
    });
    let ctx = UserContext::new(entry, built.rsp);
    Ok(Loaded { mm, ctx, comm: name, cred, secure })
}

/// Whose rights a program takes: its set-user-id and set-group-id bits count where the sandbox, the mount and the
/// caller let them. Those of a script never do.
fn rights_of(cred: &Cred, file: &OpenFile, shared: bool) -> ExecRights {
    let allowed = boot::spec().is_some_and(|spec| spec.allow_suid);
    let mut rights = ExecRights { no_gain: !allowed, shared, ..ExecRights::default() };
    if allowed && !cred.no_new_privs && file.path.mnt.flags() & c::MS_NOSUID == 0 {
        let attr = file.path.inode().attr();
        if attr.mode & c::S_ISUID != 0 {
            rights.set_uid = Some(attr.uid);
        }
        // Without the right to execute the bit means mandatory locking.
        if attr.mode & (c::S_ISGID | c::S_IXGRP) == c::S_ISGID | c::S_IXGRP {
            rights.set_gid = Some(attr.gid);
        }
    }
    rights
}

/// Whether a task of another process shares the root and working directory.
fn shares_directories(current: &CurrentTask, fs: &Arc<FsState>) -> bool {
    // The table of this task and the caller's own reference are two.
    Arc::strong_count(fs) > 2
        && process::all_groups().iter().filter(|group| group.pid != current.pid()).any(|group| {
            group.tasks().iter().any(|task| task.try_fs().is_ok_and(|other| Arc::ptr_eq(&other, fs)))
        })
}

fn map_stack(mm: &Arc<Mm>, top: u64, executable: bool) -> Result<()> {
    let size = 33 * PAGE_SIZE;
    let mut prot = Prot::READ | Prot::WRITE;
    prot.set(Prot::EXEC, executable);
    let flags = VmFlags::GROWSDOWN | VmFlags::STACK;
    mm.mmap(Placement::Fixed(top - size), size, prot, flags, Content::Anon, &MapLimits::NONE)?;
    Ok(())
}

/// Follows `#!` lines to the program that is run in the end.
fn resolve_scripts(
    fs: &Arc<FsState>,
    cred: &Arc<Cred>,
    mut file: Arc<OpenFile>,
    path: &[u8],
    mut strings: Strings,
) -> Result<(Arc<OpenFile>, Strings)> {
    let mut path = path.to_vec();
    for _ in 0..=MAX_SCRIPTS {
        let mut line = [0; SCRIPT_LINE];
        let n = file.read_at(0, &mut line)?;
        let Some(text) = line[..n].strip_prefix(b"#!") else { return Ok((file, strings)) };
        let end = match text.iter().position(|b| *b == b'\n') {
            Some(end) => end,
            // A longer line is cut; its interpreter must be whole.
            None if n < SCRIPT_LINE || text.trim_ascii_start().contains(&b' ') => text.len(),
            None => return Err(Errno::ENOEXEC),
        };
        let text = &text[..text[..end].iter().position(|b| *b == 0).unwrap_or(end)];
        let blank = |b: &u8| *b == b' ' || *b == b'\t';
        let start = text.iter().position(|b| !blank(b)).ok_or(Errno::ENOEXEC)?;
        let text = &text[start..];
        let cut = text.iter().position(blank).unwrap_or(text.len());
        let interpreter = text[..cut].to_vec();
        let mut argument = &text[cut..];
        while let [first, rest @ ..] = argument
            && blank(first)
        {
            argument = rest;
        }
        while let [rest @ .., last] = argument
            && blank(last)
        {
            argument = rest;
        }
        let mut args = alloc::vec![interpreter.clone()];
        if !argument.is_empty() {
            args.push(argument.to_vec());
        }
        args.push(path);
        args.extend(strings.args.into_iter().skip(1));
        strings.args = args;
        file = open_program(fs, cred, &interpreter)?;
        path = interpreter;
    }
    Err(Errno::ELOOP)
}

/// Replaces the running task's program.
///
/// # Errors
/// Those of execve(2); after the other threads have been killed there are none.
pub fn exec(current: &CurrentTask, file: Arc<OpenFile>, path: &[u8], strings: Strings) -> Result<()> {
    let (stack_limit, _) = current.rlimit(c::RLIMIT_STACK);
    let fs = current.fs();
    let cred = current.cred();
    let shared = shares_directories(current, &fs) || current.traced();
    let fixed = current.personality.load(Ordering::Relaxed) & ADDR_NO_RANDOMIZE != 0;
    let loaded = load(&fs, &cred, file, path, strings, stack_limit, How { shared: Some(shared), fixed })?;
    drop((fs, cred));
    let tid = current.tid();
    end_other_threads(current)?;
    let files = current.files();
    if Arc::strong_count(&files) > 2 {
        // Shared with another process (CLONE_FILES): this one gets its own, while it can still be refused.
        current.set_files(Some(files.fork()?));
    }
    drop(files);
    exit::release_memory(current);
    let old = current.replace_mm(loaded.mm.clone());
    drop(old);
    current.files().close_on_exec();
    current.group.unshare_handlers();
    current.group.clear_timers(false);
    current.group.executed.store(true, Ordering::Relaxed);
    current.group.exit_signal.store(c::SIGCHLD, Ordering::Relaxed);
    finish(current, loaded);
    ptrace::executed(current, tid);
    Ok(())
}

/// The state of the task that belongs to its old program goes.
fn finish(current: &CurrentTask, loaded: Loaded) {
    current.set_comm(&loaded.comm);
    current.fpu.lock().reset();
    current.bases.reset_running();
    current.signals.lock().alt_stack = AltStack::default();
    current.robust_list.store(0, Ordering::Relaxed);
    current.clear_tid.store(0, Ordering::Relaxed);
    current.rseq.store(0, Ordering::Relaxed);
    **current.ctx_mut() = loaded.ctx;
    let privileged = loaded.cred.euid != loaded.cred.uid || loaded.cred.egid != loaded.cred.gid;
    current.group.dumpable.store(u32::from(!privileged), Ordering::Relaxed);
    if loaded.secure {
        current.death_signal.store(0, Ordering::Relaxed);
    }
    if loaded.cred != current.cred() {
        current.set_cred((*loaded.cred).clone());
    }
}

/// Kills the other threads and waits for their end; the caller becomes the process's only task, under its id.
fn end_other_threads(current: &CurrentTask) -> Result<()> {
    let group = &current.group;
    if group.exec_by.compare_exchange(0, current.tid(), Ordering::SeqCst, Ordering::SeqCst).is_err() {
        // Another thread execs: this one is about to be killed.
        return Err(Errno::RESTART_SYS);
    }
    for task in group.tasks() {
        if task.tid() != current.tid() {
            task.kill_thread();
        }
    }
    let alone = || (group.task_count() <= 1 || group.exiting()).then_some(());
    wait::wait_uninterruptible(&group.change_queue, alone);
    if group.exiting() {
        group.exec_by.store(0, Ordering::SeqCst);
        return Err(Errno::EINTR);
    }
    if current.tid() != group.pid {
        process::forget_task(current.tid());
        current.set_tid(group.pid);
        process::register_task(current.task());
    }
    group.exec_by.store(0, Ordering::SeqCst);
    Ok(())
}

/// Lets a task that has never run begin with a program: the first process of a container.
pub fn begin(task: &Arc<Task>, loaded: Loaded) {
    task.set_comm(&loaded.comm);
    let old = task.set_mm(Some(loaded.mm));
    drop(old);
    task.start_program(loaded.ctx);
}
