//! The start of the sandbox: clocks, the first container and its first process, the idle loops.

use super::cred::Cred;
use super::process::{self, ThreadGroup};
use super::signal::SigHandlers;
use super::task::{Task, TaskParts};
use super::{events, profile, random, resources, sched, seccomp, signal, uts, view, watchdog};
use crate::errno::Errno;
use crate::fs::tty::{self, Tty};
use crate::loader::exec;
use crate::sync::{Once, SpinLock};
use crate::vfs::{self, FdTable};
use abi::boot::{BootInfo, SHARED_GPA};
use abi::control::{Failure, Reply};
use abi::hostcall::{CpuStart, SandboxExit};
use abi::spec::{LaunchSpec, ProcessSpec};
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

static USER_TOP: AtomicU64 = AtomicU64::new(0x7fff_ffff_f000);
static MEMORY_LIMIT: AtomicU64 = AtomicU64::new(0);
/// CLOCK_BOOTTIME at which the sandbox began, ns.
pub static BOOT_NS: AtomicU64 = AtomicU64::new(0);
static SPEC: Once<LaunchSpec> = Once::new();
/// Root and namespace of the container, as its processes begin.
static ROOT: Once<Arc<vfs::FsState>> = Once::new();
static WAITING: SpinLock<Option<(Arc<Task>, exec::Loaded)>> = SpinLock::new(None);

/// First address that programs can not use.
pub fn user_top() -> u64 {
    USER_TOP.load(Ordering::Relaxed)
}

/// Bytes of memory that the sandbox may have.
pub fn memory_limit() -> u64 {
    MEMORY_LIMIT.load(Ordering::Relaxed)
}

/// Sets it, for a sandbox that was restored.
pub fn set_memory_limit(bytes: u64) {
    MEMORY_LIMIT.store(bytes, Ordering::Relaxed);
}

/// What the sandbox was started with.
pub fn spec() -> Option<&'static LaunchSpec> {
    SPEC.get()
}

/// The first vCPU, on its boot stack.
pub fn run_first(info: &BootInfo, spec: &[u8]) -> ! {
    crate::time::init(info.tsc_khz, &info.clock);
    BOOT_NS.store(info.clock.boottime_ns, Ordering::Relaxed);
    USER_TOP.store(info.user_top, Ordering::Relaxed);
    MEMORY_LIMIT.store(info.memory_limit, Ordering::Relaxed);
    random::seed(&info.random);
    events::init(crate::arch::shared_word(SHARED_GPA));
    if crate::loader::vdso::init().is_err() {
        crate::warn!("no memory for the vDSO");
    }
    vfs::hooks::set(&view::VIEW);
    match postcard::from_bytes::<LaunchSpec>(spec) {
        Ok(spec) => {
            crate::log::set_level(spec.log_level);
            if let Err(name) = crate::strace::set(spec.strace.as_ref()) {
                crate::warn!("--strace-syscalls: there is no system call {name:?}");
            }
            if let Err(e) = resources::apply(spec.container.resources.clone()) {
                crate::warn!("the container's limits are not set: {}", e.name());
            }
            crate::mm::frames::image::set_images(&spec.images);
            let _ = SPEC.set(spec);
        }
        Err(_) => panic!("the launch specification does not decode"),
    }
    if info.cpus > 1 {
        let _ = crate::host::call(&CpuStart {});
    }
    // The container is made by a task, since that may have to wait for locks.
    let group = ThreadGroup::new(1, None, Arc::new(SigHandlers::new()), linux_raw_sys::general::SIGCHLD);
    match kernel_task(group, 1, Box::new(first_task)) {
        Ok(task) => {
            process::register_task(&task);
            let _ = task.group.add_task(&task);
        }
        Err(e) => panic!("no memory for the first task: {}", e.name()),
    }
    sched::idle_loop()
}

/// Every further vCPU.
pub fn run_secondary() -> ! {
    sched::idle_loop()
}

/// A task of the kernel: without a program.
fn kernel_task(group: Arc<ThreadGroup>, tid: u32, entry: super::task::Entry) -> Result<Arc<Task>, Errno> {
    let task = Task::new(TaskParts {
        tid,
        group,
        mm: None,
        fs: None,
        files: None,
        cred: Arc::new(Cred::root()),
        comm: [0; 16],
        affinity: u64::MAX,
    })?;
    task.start(entry);
    Ok(task)
}

/// Starts a task of the kernel's own. It belongs to no process that programs see.
///
/// # Errors
/// ENOMEM.
pub fn spawn_kernel(entry: super::task::Entry) -> Result<(), Errno> {
    let group = ThreadGroup::hidden();
    kernel_task(group, 0, entry).map(|_| ())
}

/// Makes the container and loads its program; then becomes the first process's creator and goes.
fn first_task() {
    let Some(spec) = SPEC.get() else { return };
    let result = create(spec);
    let reply = match &result {
        Ok(_) => Ok(()),
        Err(failure) => Err(failure.clone()),
    };
    crate::control::reply(&Reply::Created { result: reply });
    if let Some(watchdog) = &spec.watchdog {
        watchdog::start(watchdog);
    }
    if let Err(e) = spawn_kernel(Box::new(crate::control::serve)) {
        crate::error!("no memory for the control task: {}", e.name());
    }
    match result {
        Ok(loaded) => {
            if spec.container.start {
                exec::begin(&loaded.0, loaded.1);
            } else {
                *WAITING.lock() = Some(loaded);
            }
        }
        Err(failure) => {
            crate::error!("{}: errno {}", failure.context, failure.errno);
            // The VMM ends the sandbox: 1 is what runc exits with.
            let _ = crate::host::call(&SandboxExit { status: 1 << 8 });
        }
    }
}

/// Where a further process of the container begins; `None` before the container is made.
pub(super) fn root() -> Option<Arc<vfs::FsState>> {
    ROOT.get().map(|root| root.fork())
}

/// Lets the created first process run.
///
/// # Errors
/// EBUSY where it runs already.
pub fn start_container() -> Result<(), Errno> {
    let (task, loaded) = WAITING.lock().take().ok_or(Errno::EBUSY)?;
    exec::begin(&task, loaded);
    Ok(())
}

fn failure(errno: Errno, context: String) -> Failure {
    Failure { errno: i32::from(errno.0), context }
}

fn create(spec: &LaunchSpec) -> Result<(Arc<Task>, exec::Loaded), Failure> {
    let container = &spec.container;
    uts::set_host(container.hostname.as_bytes());
    uts::set_domain(container.domainname.as_bytes());
    let fs = vfs::setup::build_root(container).map_err(|(e, what)| failure(e, what))?;
    let _ = ROOT.set(fs.fork());
    if let Some(spec) = &container.seccomp {
        profile::compile(spec)
            .and_then(|program| seccomp::set_container(program, spec.log))
            .map_err(|e| failure(e, "the filter of system calls (linux.seccomp)".to_string()))?;
    }
    let group =
        process::find_group(1).ok_or_else(|| failure(Errno::ESRCH, "the first process".to_string()))?;
    let LoadedProcess { task, program, terminal } = load_process(fs, &container.process, &group)?;
    // The creating task leaves the process to it.
    group.remove_task(1);
    group.add_task(&task).map_err(|e| failure(e, "the first task".to_string()))?;
    process::register_task(&task);
    if let Some(terminal) = terminal {
        terminal.set_session(group.pid, group.pid);
    }
    Ok((task, program))
}

/// A process that does not run yet.
pub(super) struct LoadedProcess {
    /// Its only task.
    pub task: Arc<Task>,
    /// What that will run.
    pub program: exec::Loaded,
    /// Its terminal, where it has one.
    pub terminal: Option<Arc<Tty>>,
}

/// A process of the container as its configuration has it: its only task, which has not run, its program, and its
/// terminal.
pub(super) fn load_process(
    fs: Arc<vfs::FsState>,
    process: &ProcessSpec,
    group: &Arc<ThreadGroup>,
) -> Result<LoadedProcess, Failure> {
    let cred = Arc::new(process_cred(process));
    let files = Arc::new(FdTable::new());
    let terminal = vfs::setup::open_streams(process, &files)
        .map_err(|e| failure(e, "opening the standard streams".to_string()))?;
    let loaded = load_program(&fs, &cred, process, group).and_then(|loaded| {
        let task = Task::new(TaskParts {
            tid: group.pid,
            group: group.clone(),
            mm: None,
            fs: Some(fs),
            files: Some(files),
            cred,
            comm: [0; 16],
            affinity: u64::MAX,
        });
        let task = task.map_err(|e| failure(e, "the process's task".to_string()))?;
        seccomp::begin(&task);
        Ok((task, loaded))
    });
    match loaded {
        Ok((task, program)) => Ok(LoadedProcess { task, program, terminal }),
        Err(failure) => {
            if let Some(terminal) = &terminal {
                tty::release(terminal);
            }
            Err(failure)
        }
    }
}

fn load_program(
    fs: &Arc<vfs::FsState>,
    cred: &Arc<Cred>,
    process: &ProcessSpec,
    group: &Arc<ThreadGroup>,
) -> Result<exec::Loaded, Failure> {
    let name = || String::from_utf8_lossy(process.args.first().map_or(&b""[..], |a| a)).into_owned();
    change_dir(fs, cred, &process.cwd).map_err(|e| {
        failure(
            e,
            alloc::format!(
                "chdir to cwd (\"{}\") set in config.json failed",
                String::from_utf8_lossy(&process.cwd)
            ),
        )
    })?;
    fs.set_umask(process.umask);
    let path = find_program(fs, cred, process).map_err(|(e, what)| failure(e, what))?;
    let file = exec::open_program(fs, cred, &path)
        .map_err(|e| failure(e, alloc::format!("exec: \"{}\"", name())))?;
    apply_limits(group, process);
    let stack = group.limits.lock()[linux_raw_sys::general::RLIMIT_STACK as usize].0;
    let strings = exec::ProgramStrings { args: process.args.clone(), env: process.env.clone() };
    exec::load(fs, cred, file, &path, strings, stack, exec::How::default())
        .map_err(|e| failure(e, alloc::format!("exec {}", String::from_utf8_lossy(&path))))
}

fn change_dir(fs: &Arc<vfs::FsState>, cred: &Arc<Cred>, cwd: &[u8]) -> Result<(), Errno> {
    let at = vfs::Ctx::new(cred.clone(), fs.clone()).lookup(cwd)?;
    if !at.dentry.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    fs.set_cwd(at);
    Ok(())
}

/// The program's path: as given where it has a slash, else from PATH.
fn find_program(
    fs: &Arc<vfs::FsState>,
    cred: &Arc<Cred>,
    process: &ProcessSpec,
) -> Result<Vec<u8>, (Errno, String)> {
    let name = process.args.first().cloned().unwrap_or_default();
    let text = String::from_utf8_lossy(&name).into_owned();
    if name.contains(&b'/') {
        return match exec::open_program(fs, cred, &name) {
            Ok(_) => Ok(name),
            Err(Errno::ENOENT) => Err((Errno::ENOENT, alloc::format!("exec: \"{text}\": stat {text}"))),
            Err(e) => Err((e, alloc::format!("exec: \"{text}\""))),
        };
    }
    let path = process.env.iter().find_map(|e| e.strip_prefix(b"PATH=")).unwrap_or(b"");
    let mut denied = false;
    for dir in path.split(|b| *b == b':').filter(|_| !name.is_empty()) {
        let mut full = if dir.is_empty() { b".".to_vec() } else { dir.to_vec() };
        full.push(b'/');
        full.extend_from_slice(&name);
        match exec::open_program(fs, cred, &full) {
            Ok(_) => return Ok(full),
            Err(Errno::EACCES) => denied = true,
            Err(_) => {}
        }
    }
    let errno = if denied { Errno::EACCES } else { Errno::ENOENT };
    Err((errno, alloc::format!("exec: \"{text}\": executable file not found in $PATH")))
}

fn process_cred(process: &ProcessSpec) -> Cred {
    let [effective, permitted, inheritable, bounding, ambient] = process.capabilities;
    let (uid, gid) = (process.uid, process.gid);
    // Another user than root keeps what execve leaves it: its ambient set.
    let keep = if uid == 0 { u64::MAX } else { ambient };
    Cred {
        uid,
        euid: uid,
        suid: uid,
        fsuid: uid,
        gid,
        egid: gid,
        sgid: gid,
        fsgid: gid,
        groups: process.groups.clone(),
        effective: effective & keep,
        permitted: permitted & keep,
        inheritable,
        bounding,
        ambient,
        securebits: 0,
        no_new_privs: process.no_new_privs,
    }
}

fn apply_limits(group: &Arc<ThreadGroup>, process: &ProcessSpec) {
    let mut limits = group.limits.lock();
    for (number, soft, hard) in &process.rlimits {
        if let Some(limit) = limits.get_mut(*number as usize) {
            *limit = (*soft, *hard);
        }
    }
    group.oom_score_adj.store(process.oom_score_adj, Ordering::Relaxed);
}

/// The first process has ended: so does the sandbox.
pub fn init_ended(status: i32) {
    let c = &crate::arch::port::COUNTERS;
    let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
    crate::debug!(
        "switches {} loads {} flushes {} remote {} waits {} arms {} idles {} faults {} kicks {}",
        get(&sched::SWITCHES),
        get(&c.loads),
        get(&c.flushes),
        get(&c.remote_flushes),
        get(&c.waits),
        get(&c.arms),
        get(&c.idles),
        get(&c.faults),
        get(&crate::arch::apic::KICKS)
    );
    crate::debug!("the first process ended with wait status {status:#x}");
    crate::fs::bind::pages::flush_all();
    let _ = crate::host::call(&SandboxExit { status: status as u32 as u64 });
}

/// Whether the first process was let run.
pub fn started() -> bool {
    WAITING.lock().is_none()
}

/// SIGKILL for a container that was created but not started: it ends at once. `false` where it runs.
pub fn kill_created() -> bool {
    if WAITING.lock().take().is_none() {
        return false;
    }
    init_ended(signal::SIGKILL as i32);
    true
}
