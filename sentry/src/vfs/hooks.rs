//! What files need to know of the rest of the kernel: processes, for proc(5), and process groups, for terminals.
//!
//! The kernel registers itself once with [`set`]; until then, and in unit tests, there are no processes.

use super::fdtable::FdTable;
use super::path::Path;
use super::state::FsState;
use crate::kernel::cred::Cred;
use crate::sync::Once;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// One task, as proc(5) shows it.
#[derive(Debug, Clone)]
pub struct TaskInfo {
    /// Thread id.
    pub tid: u32,
    /// Process id.
    pub pid: u32,
    /// Parent process.
    pub ppid: u32,
    /// Process group.
    pub pgid: u32,
    /// Session.
    pub sid: u32,
    /// Device number of the controlling terminal, 0 for none.
    pub tty: u64,
    /// Foreground process group of it, -1 for none.
    pub tpgid: i32,
    /// Name.
    pub comm: Vec<u8>,
    /// State letter: R, S, D, T, t, Z, X.
    pub state: u8,
    /// Threads of the process.
    pub threads: u32,
    /// Credentials.
    pub cred: Arc<Cred>,
    /// User CPU time, ns: of the process for `/proc/PID/stat`, of the thread for a task.
    pub user_ns: u64,
    /// System CPU time, ns.
    pub system_ns: u64,
    /// The same of children that were waited for.
    pub child_user_ns: u64,
    /// System CPU time of those.
    pub child_system_ns: u64,
    /// Start, CLOCK_BOOTTIME ns.
    pub start_ns: u64,
    /// Size of the address space, bytes.
    pub vm_size: u64,
    /// Largest size, bytes.
    pub vm_peak: u64,
    /// Resident, bytes.
    pub rss: u64,
    /// Largest resident, bytes.
    pub rss_peak: u64,
    /// Resident pages of files, bytes.
    pub rss_file: u64,
    /// Data, stack, program text, libraries: bytes.
    pub vm_data: u64,
    /// Stack, bytes.
    pub vm_stack: u64,
    /// Text of the program, bytes.
    pub vm_text: u64,
    /// Text of libraries, bytes.
    pub vm_lib: u64,
    /// Locked memory, bytes.
    pub vm_locked: u64,
    /// Start and end of code.
    pub code: (u64, u64),
    /// Start of the stack.
    pub stack_start: u64,
    /// Start and end of the data.
    pub data: (u64, u64),
    /// Start of the heap.
    pub brk_start: u64,
    /// Addresses of arguments.
    pub args: (u64, u64),
    /// Addresses of the environment.
    pub env: (u64, u64),
    /// Minor page faults.
    pub minor_faults: u64,
    /// Signals pending for the thread.
    pub pending: u64,
    /// Signals pending for the process.
    pub shared_pending: u64,
    /// Signals blocked.
    pub blocked: u64,
    /// Signals ignored.
    pub ignored: u64,
    /// Signals with a handler.
    pub caught: u64,
    /// Voluntary context switches.
    pub voluntary: u64,
    /// Preemptions.
    pub involuntary: u64,
    /// Nice value.
    pub nice: i32,
    /// CPU that it ran on last.
    pub cpu: u32,
    /// CPUs that it may run on, as a mask.
    pub cpus_allowed: u64,
    /// Signal sent to the parent at the end.
    pub exit_signal: u32,
    /// Exit code, for zombies.
    pub exit_code: i32,
    /// oom_score_adj.
    pub oom_score_adj: i32,
    /// Seccomp mode: 0, 1, 2.
    pub seccomp: u32,
    /// Number of seccomp filters.
    pub seccomp_filters: u32,
    /// PR_SET_DUMPABLE.
    pub dumpable: bool,
    /// Tracer, 0 for none.
    pub tracer: u32,
    /// Number of the system call that it waits in, -1 for none.
    pub syscall: i64,
}

impl TaskInfo {
    /// A task about which nothing is known but its ids.
    pub fn new(tid: u32, pid: u32, cred: Arc<Cred>) -> Self {
        Self {
            tid,
            pid,
            ppid: 0,
            pgid: pid,
            sid: pid,
            tty: 0,
            tpgid: -1,
            comm: Vec::new(),
            state: b'R',
            threads: 1,
            cred,
            user_ns: 0,
            system_ns: 0,
            child_user_ns: 0,
            child_system_ns: 0,
            start_ns: 0,
            vm_size: 0,
            vm_peak: 0,
            rss: 0,
            rss_peak: 0,
            rss_file: 0,
            vm_data: 0,
            vm_stack: 0,
            vm_text: 0,
            vm_lib: 0,
            vm_locked: 0,
            code: (0, 0),
            stack_start: 0,
            data: (0, 0),
            brk_start: 0,
            args: (0, 0),
            env: (0, 0),
            minor_faults: 0,
            pending: 0,
            shared_pending: 0,
            blocked: 0,
            ignored: 0,
            caught: 0,
            voluntary: 0,
            involuntary: 0,
            nice: 0,
            cpu: 0,
            cpus_allowed: 1,
            exit_signal: 17,
            exit_code: 0,
            oom_score_adj: 0,
            seccomp: 0,
            seccomp_filters: 0,
            dumpable: true,
            tracer: 0,
            syscall: -1,
        }
    }
}

/// Times of one CPU, ns.
#[derive(Debug, Clone, Copy, Default)]
pub struct CpuTimes {
    /// In ring 3.
    pub user_ns: u64,
    /// In the kernel.
    pub system_ns: u64,
    /// Idle.
    pub idle_ns: u64,
}

/// Figures of the whole sandbox.
#[derive(Debug, Clone, Default)]
pub struct SystemInfo {
    /// Per CPU.
    pub cpus: Vec<CpuTimes>,
    /// Context switches.
    pub switches: u64,
    /// Forks since boot.
    pub forks: u64,
    /// Tasks that run or are ready.
    pub running: u32,
    /// Tasks.
    pub tasks: u32,
    /// Process id given out last.
    pub last_pid: u32,
    /// Load averages times 100 over 1, 5 and 15 minutes.
    pub load: [u64; 3],
    /// CLOCK_BOOTTIME at which the sandbox began, ns.
    pub boot_ns: u64,
}

/// What the VFS asks of the kernel. Everything has an answer for when there is nothing to say.
#[allow(unused_variables)]
pub trait Kernel: Send + Sync {
    /// Process and thread id of the caller.
    fn current(&self) -> Option<(u32, u32)> {
        None
    }
    /// Credentials of the caller.
    fn current_cred(&self) -> Option<Arc<Cred>> {
        None
    }
    /// All processes, zombies too, in order.
    fn pids(&self) -> Vec<u32> {
        Vec::new()
    }
    /// Threads of a process, in order.
    fn tids(&self, pid: u32) -> Vec<u32> {
        Vec::new()
    }
    /// A task; `process`: as the process as a whole.
    fn task(&self, tid: u32, process: bool) -> Option<TaskInfo> {
        None
    }
    /// Process group and session of a process.
    fn ids(&self, pid: u32) -> Option<(u32, u32)> {
        None
    }
    /// Its descriptors.
    fn files(&self, tid: u32) -> Option<Arc<FdTable>> {
        None
    }
    /// Its root and working directory.
    fn fs(&self, tid: u32) -> Option<Arc<FsState>> {
        None
    }
    /// Its program.
    fn exe(&self, tid: u32) -> Option<Path> {
        None
    }
    /// A range of its memory: /proc/PID/cmdline, environ, mem.
    fn read_memory(&self, tid: u32, addr: u64, buf: &mut [u8]) -> usize {
        0
    }
    /// Its auxiliary vector.
    fn auxv(&self, tid: u32) -> Vec<u8> {
        Vec::new()
    }
    /// /proc/PID/maps; `detail`: smaps.
    ///
    /// # Errors
    /// ENOMEM.
    fn maps(&self, tid: u32, detail: bool) -> crate::errno::Result<Vec<u8>> {
        Ok(Vec::new())
    }
    /// Soft and hard limits by number.
    fn limits(&self, tid: u32) -> Vec<(u64, u64)> {
        Vec::new()
    }
    /// Sets a thread's name.
    fn set_comm(&self, tid: u32, name: &[u8]) {}
    /// Sets oom_score_adj.
    fn set_oom_score_adj(&self, pid: u32, value: i32) {}
    /// Figures of the sandbox.
    fn system(&self) -> SystemInfo {
        SystemInfo::default()
    }
    /// Release and version, as uname(2).
    fn version(&self) -> (String, String) {
        (String::from("6.12.0"), String::from("#1 SMP"))
    }
    /// /proc/cpuinfo.
    fn cpuinfo(&self) -> Option<Vec<u8>> {
        None
    }
    /// Host and domain name of the caller's UTS namespace.
    fn uts(&self) -> (String, String) {
        (String::from("localhost"), String::from("(none)"))
    }
    /// Sets the host name (`true`) or the domain name.
    fn set_uts(&self, host: bool, name: &[u8]) {}
    /// Sends a signal to a process group; whether it exists.
    fn signal_group(&self, pgid: u32, signal: u32) -> bool {
        false
    }
    /// Sends a signal to a process (SIGIO, SIGHUP).
    fn signal_process(&self, pid: u32, signal: u32) {}
    /// Whether a process group exists in a session.
    fn group_in_session(&self, pgid: u32, sid: u32) -> bool {
        true
    }
    /// Whether a signal is blocked or ignored by the caller, or its process group is orphaned: SIGTTIN and SIGTTOU
    /// do not stop it then. The second says that the group is orphaned.
    fn stop_refused(&self, signal: u32) -> (bool, bool) {
        (false, false)
    }
    /// The caller's signals.
    fn signals(&self) -> Option<Arc<dyn SignalSource>> {
        None
    }
    /// Blocks this set of signals instead of the caller's own while a call waits (ppoll(2), pselect6(2),
    /// epoll_pwait(2)); the kernel puts the old set back when the call returns, after a handler has run.
    fn temporary_mask(&self, mask: u64) {}
    /// Fills with random bytes.
    fn random(&self, buf: &mut [u8]) {
        crate::host::files::random(buf);
    }
}

struct Nothing;
impl Kernel for Nothing {}

static KERNEL: Once<&'static dyn Kernel> = Once::new();
static NOTHING: Nothing = Nothing;

/// Registers the kernel; once.
pub fn set(kernel: &'static dyn Kernel) {
    let _ = KERNEL.set(kernel);
}

/// The kernel.
pub fn kernel() -> &'static dyn Kernel {
    KERNEL.get().copied().unwrap_or(&NOTHING)
}

/// Signals of a process, for signalfd(2).
pub trait SignalSource: Send + Sync {
    /// Signals that are pending for the caller or the process.
    fn pending(&self) -> u64;
    /// Takes one of a set.
    fn take(&self, mask: u64) -> Option<super::uapi::SignalfdInfo>;
    /// Woken when a signal comes.
    fn queue(&self) -> &crate::sync::WaitQueue;
}
