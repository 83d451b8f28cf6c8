//! Tasks: what the scheduler runs, and the loop in which a task serves its program.

use super::cred::Cred;
use super::process::{self, ThreadGroup, Usage};
use super::ptrace::Trace;
use super::sched::SchedState;
use super::seccomp::Seccomp;
use super::signal::{self, SigInfo, TaskSignals};
use crate::arch::fpu::FpuState;
use crate::arch::stack::KernelContext;
use crate::arch::{Bases, UserContext};
use crate::errno::{Errno, Result};
use crate::ipc::UndoList;
use crate::mm::Mm;
use crate::mm::access::{UserSink, UserSource};
use crate::mm::io::{Sink, Source};
use crate::mm::map::MapLimits;
use crate::strace::tasks::CallRecord;
use crate::sync::SpinLock;
use crate::vfs::{FdTable, FsState};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::cell::{Cell, Ref, RefCell, RefMut};
use core::ops::Deref;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use linux_raw_sys::general as c;

/// Code that a new task begins with.
pub type Entry = Box<dyn FnOnce() + Send>;

/// What is to be done at each system call of a task, besides serving it: bits of [`Task::work`].
pub mod work {
    /// Filters are asked.
    pub const SECCOMP: u32 = 1;
    /// It is traced.
    pub const TRACED: u32 = 2;
    /// It stops for its tracer at the beginning and end of the call.
    pub const STOP_AT_CALLS: u32 = 4;
}

/// A thread.
pub struct Task {
    pub(super) me: Weak<Task>,
    tid: AtomicU32,
    /// Its process.
    pub group: Arc<ThreadGroup>,
    /// Scheduling.
    pub sched: SchedState,
    /// Where it goes on when it is switched in.
    pub context: KernelContext,
    pub(super) entry: SpinLock<Option<Entry>>,
    /// Extended registers while they are not in the CPU.
    pub fpu: SpinLock<FpuState>,
    /// FS and GS base while it is switched out.
    pub bases: Bases,
    mm: SpinLock<Option<Arc<Mm>>>,
    fs: SpinLock<Option<Arc<FsState>>>,
    files: SpinLock<Option<Arc<FdTable>>>,
    cred: SpinLock<Arc<Cred>>,
    comm: SpinLock<[u8; 16]>,
    /// Signals.
    pub signals: SpinLock<TaskSignals>,
    /// Something is to be done before the program goes on.
    pub attention: AtomicBool,
    kill: AtomicBool,
    /// The mask of signals was changed for the length of a call: put back by its end or a handler's.
    pub restore_mask: AtomicBool,
    /// It was switched out since its program ran last.
    pub switched: AtomicBool,
    /// Address to clear and wake at the end: set_tid_address(2).
    pub clear_tid: AtomicU64,
    /// Head of the robust futex list.
    pub robust_list: AtomicU64,
    /// rseq(2) area and signature.
    pub rseq: AtomicU64,
    /// Signature of the rseq area.
    pub rseq_signature: AtomicU32,
    /// PR_SET_PDEATHSIG.
    pub death_signal: AtomicU32,
    /// The parent waits in vfork for this task to exec or end.
    pub vfork_done: SpinLock<Option<Arc<VforkWait>>>,
    /// personality(2).
    pub personality: AtomicU32,
    /// Nice value plus 20.
    pub nice: AtomicU32,
    /// Scheduling policy.
    pub policy: AtomicU32,
    /// Priority of the real-time policies.
    pub rt_priority: AtomicU32,
    /// Run time, deadline and period of SCHED_DEADLINE, ns.
    pub deadline: SpinLock<[u64; 3]>,
    /// PR_MCE_KILL: 0 late, 1 early, 2 default.
    pub mce_kill: AtomicU32,
    /// PR_SET_IO_FLUSHER.
    pub io_flusher: AtomicBool,
    /// Timer slack, ns.
    pub timer_slack: AtomicU64,
    /// Deadline of an interrupted sleep, for restart_syscall(2), and where its rest is written.
    pub restart_sleep: AtomicU64,
    /// See `restart_sleep`.
    pub restart_left: AtomicU64,
    /// The clock of CPU time that it goes by; 0 for real time.
    pub restart_clock: AtomicI32,
    /// See [`work`].
    pub work: AtomicU32,
    /// Its tracer, and what that wants: ptrace(2).
    pub trace: SpinLock<Option<Box<Trace>>>,
    /// How its system calls are filtered.
    pub seccomp: SpinLock<Seccomp>,
    /// What semaphores get back at its end: SEM_UNDO.
    undo: SpinLock<Option<Arc<UndoList>>>,
    /// The system call that it is in.
    pub call: CallRecord,
}

/// Lets a parent wait until its vfork child execs or ends.
pub struct VforkWait {
    done: AtomicBool,
    parent: Arc<ThreadGroup>,
}

impl VforkWait {
    /// Lets a task of `parent` wait.
    pub fn new(parent: Arc<ThreadGroup>) -> Self {
        Self { done: AtomicBool::new(false), parent }
    }

    /// Waits; not interrupted but by death.
    pub fn wait(&self, parent: &Task) {
        // On the queue that SIGKILL wakes too.
        let done = || (self.done.load(Ordering::SeqCst) || parent.must_die(false)).then_some(());
        super::wait::wait_uninterruptible(&self.parent.change_queue, done);
    }

    fn finish(&self) {
        self.done.store(true, Ordering::SeqCst);
        self.parent.change_queue.wake(crate::sync::Events::IN);
    }
}

/// What a new task begins with.
pub struct TaskParts {
    /// Thread id.
    pub tid: u32,
    /// Process.
    pub group: Arc<ThreadGroup>,
    /// Address space; none for tasks of the kernel.
    pub mm: Option<Arc<Mm>>,
    /// Root and working directory.
    pub fs: Option<Arc<FsState>>,
    /// File descriptors.
    pub files: Option<Arc<FdTable>>,
    /// Credentials.
    pub cred: Arc<Cred>,
    /// Command name.
    pub comm: [u8; 16],
    /// vCPUs that it may run on.
    pub affinity: u64,
}

impl Task {
    /// A task that does not run yet: [`Task::start`].
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new(parts: TaskParts) -> Result<Arc<Self>> {
        let context = KernelContext::new().ok_or(Errno::ENOMEM)?;
        if let Some(mm) = &parts.mm {
            mm.add_user();
        }
        Ok(Arc::new_cyclic(|me| Self {
            me: me.clone(),
            tid: AtomicU32::new(parts.tid),
            group: parts.group,
            sched: SchedState::new(parts.affinity),
            context,
            entry: SpinLock::new(None),
            fpu: SpinLock::new(FpuState::new()),
            bases: Bases::default(),
            mm: SpinLock::new(parts.mm),
            fs: SpinLock::new(parts.fs),
            files: SpinLock::new(parts.files),
            cred: SpinLock::new(parts.cred),
            comm: SpinLock::new(parts.comm),
            signals: SpinLock::new(TaskSignals::default()),
            // A signal may come to its process before the process has a task to tell.
            attention: AtomicBool::new(true),
            kill: AtomicBool::new(false),
            restore_mask: AtomicBool::new(false),
            switched: AtomicBool::new(false),
            clear_tid: AtomicU64::new(0),
            robust_list: AtomicU64::new(0),
            rseq: AtomicU64::new(0),
            rseq_signature: AtomicU32::new(0),
            death_signal: AtomicU32::new(0),
            vfork_done: SpinLock::new(None),
            personality: AtomicU32::new(0),
            nice: AtomicU32::new(20),
            policy: AtomicU32::new(0),
            rt_priority: AtomicU32::new(0),
            deadline: SpinLock::new([0; 3]),
            mce_kill: AtomicU32::new(2),
            io_flusher: AtomicBool::new(false),
            timer_slack: AtomicU64::new(50_000),
            restart_sleep: AtomicU64::new(0),
            restart_left: AtomicU64::new(0),
            restart_clock: AtomicI32::new(0),
            work: AtomicU32::new(0),
            trace: SpinLock::new(None),
            seccomp: SpinLock::new(Seccomp::Disabled),
            undo: SpinLock::new(None),
            call: CallRecord::default(),
        }))
    }

    /// Lets it run, beginning with `entry`.
    pub fn start(self: &Arc<Self>, entry: Entry) {
        *self.entry.lock() = Some(entry);
        super::sched::wake(self);
    }

    /// Lets it serve a program with these registers.
    pub fn start_program(self: &Arc<Self>, ctx: UserContext) {
        let task = self.clone();
        self.start(Box::new(move || super::run::serve(task, ctx)));
    }

    /// A reference to itself.
    pub fn arc(&self) -> Option<Arc<Self>> {
        self.me.upgrade()
    }

    /// Thread id.
    #[inline]
    pub fn tid(&self) -> u32 {
        self.tid.load(Ordering::Relaxed)
    }

    /// For exec by a thread: it takes the process's id over.
    pub fn set_tid(&self, tid: u32) {
        self.tid.store(tid, Ordering::Relaxed);
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.group.pid
    }

    /// Address space.
    ///
    /// # Errors
    /// ESRCH where the task has none (any more).
    pub fn try_mm(&self) -> Result<Arc<Mm>> {
        self.mm.lock().clone().ok_or(Errno::ESRCH)
    }

    /// Replaces the address space; returns the old one.
    pub fn set_mm(&self, mm: Option<Arc<Mm>>) -> Option<Arc<Mm>> {
        if let Some(mm) = &mm {
            mm.add_user();
        }
        let old = core::mem::replace(&mut *self.mm.lock(), mm);
        if let Some(mm) = &old {
            mm.remove_user();
        }
        old
    }

    /// The list for SEM_UNDO, made when it is first needed.
    pub fn undo_list(&self) -> Arc<UndoList> {
        self.undo.lock().get_or_insert_with(UndoList::new).clone()
    }

    /// Shares the list of another task (CLONE_SYSVSEM).
    pub fn share_undo_list(&self, other: &Task) {
        *self.undo.lock() = Some(other.undo_list());
    }

    /// Gives the list up: at the task's end, and for unshare(2).
    pub fn leave_undo_list(&self) {
        let list = self.undo.lock().take();
        if let Some(list) = list {
            UndoList::leave(list, self.pid());
        }
    }

    /// Root and working directory.
    ///
    /// # Errors
    /// ESRCH where the task has ended.
    pub fn try_fs(&self) -> Result<Arc<FsState>> {
        self.fs.lock().clone().ok_or(Errno::ESRCH)
    }

    /// Replaces root and working directory.
    pub fn set_fs(&self, fs: Option<Arc<FsState>>) {
        let old = core::mem::replace(&mut *self.fs.lock(), fs);
        drop(old);
    }

    /// File descriptors.
    ///
    /// # Errors
    /// ESRCH where the task has ended.
    pub fn try_files(&self) -> Result<Arc<FdTable>> {
        self.files.lock().clone().ok_or(Errno::ESRCH)
    }

    /// Replaces the file descriptors.
    pub fn set_files(&self, files: Option<Arc<FdTable>>) {
        let old = core::mem::replace(&mut *self.files.lock(), files);
        drop(old);
    }

    /// Credentials.
    pub fn cred(&self) -> Arc<Cred> {
        self.cred.lock().clone()
    }

    /// Replaces the credentials.
    pub fn set_cred(&self, cred: Cred) {
        let new = Arc::new(cred);
        let old = core::mem::replace(&mut *self.cred.lock(), new);
        drop(old);
    }

    /// Command name, NUL-padded.
    pub fn comm(&self) -> [u8; 16] {
        *self.comm.lock()
    }

    /// Sets the command name: at most 15 bytes.
    pub fn set_comm(&self, name: &[u8]) {
        let mut comm = [0; 16];
        let n = name.len().min(15);
        comm[..n].copy_from_slice(&name[..n]);
        *self.comm.lock() = comm;
    }

    /// Whether this task alone must end (another thread of its process execs).
    pub fn killed(&self) -> bool {
        self.kill.load(Ordering::SeqCst)
    }

    /// Lets this task end.
    pub fn kill_thread(self: &Arc<Self>) {
        self.kill.store(true, Ordering::SeqCst);
        self.alert_to_end();
        super::sched::wake(self);
    }

    /// Adds to what is done at each of its system calls.
    pub fn set_work(&self, bits: u32) {
        self.work.fetch_or(bits, Ordering::SeqCst);
    }

    /// Lets a parent in vfork go on.
    pub fn finish_vfork(&self) {
        let wait = self.vfork_done.lock().take();
        if let Some(wait) = wait {
            wait.finish();
        }
    }

    /// Its own usage.
    pub fn usage(&self) -> Usage {
        let now = if self.sched.running_on().is_some() { self.sched.running_ns() } else { 0 };
        Usage {
            user_ns: self.sched.run_ns.load(Ordering::Relaxed) + now,
            system_ns: 0,
            faults: 0,
            voluntary: self.sched.voluntary.load(Ordering::Relaxed),
            involuntary: self.sched.preempted.load(Ordering::Relaxed),
            max_rss: 0,
        }
    }

    /// Soft and hard resource limit of its process.
    pub fn rlimit(&self, resource: u32) -> (u64, u64) {
        self.group
            .limits
            .lock()
            .get(resource as usize)
            .copied()
            .unwrap_or((process::INFINITY, process::INFINITY))
    }

    /// Sends its own process a signal of the kernel (SIGPIPE, SIGXFSZ): it goes to this task.
    pub fn send_signal(&self, signal: u32) {
        if let Some(me) = self.me.upgrade() {
            let _ = signal::send_task(&me, SigInfo::user(signal, 0, self.pid(), self.cred().uid));
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // A task that never ran: all others have given their address space up.
        if let Some(mm) = self.mm.get_mut().take() {
            mm.remove_user();
        }
    }
}

/// The task that runs on this vCPU, as its system-call handlers see it.
pub struct CurrentTask {
    task: Arc<Task>,
    mm: RefCell<Arc<Mm>>,
    ctx: RefCell<Box<UserContext>>,
    /// The task has ended.
    pub ended: Cell<bool>,
}

impl Deref for CurrentTask {
    type Target = Task;

    fn deref(&self) -> &Task {
        &self.task
    }
}

impl CurrentTask {
    /// The running task with its program's registers.
    ///
    /// # Errors
    /// ESRCH where the task has no address space.
    pub fn new(task: Arc<Task>, ctx: UserContext) -> Result<Self> {
        let mm = task.try_mm()?;
        Ok(Self { task, mm: RefCell::new(mm), ctx: RefCell::new(Box::new(ctx)), ended: Cell::new(false) })
    }

    /// The task itself.
    pub fn task(&self) -> &Arc<Task> {
        &self.task
    }

    /// The program's registers.
    pub fn ctx(&self) -> Ref<'_, Box<UserContext>> {
        self.ctx.borrow()
    }

    /// The program's registers, to change them.
    pub fn ctx_mut(&self) -> RefMut<'_, Box<UserContext>> {
        self.ctx.borrow_mut()
    }

    /// Its address space.
    pub fn mm(&self) -> Arc<Mm> {
        self.mm.borrow().clone()
    }

    /// Borrows the address space.
    pub fn mm_ref(&self) -> Ref<'_, Arc<Mm>> {
        self.mm.borrow()
    }

    /// For exec: a new address space. Returns the old.
    pub fn replace_mm(&self, mm: Arc<Mm>) -> Option<Arc<Mm>> {
        let old = self.task.set_mm(Some(mm.clone()));
        *self.mm.borrow_mut() = mm;
        old
    }

    /// Root and working directory.
    pub fn fs(&self) -> Arc<FsState> {
        match self.try_fs() {
            Ok(fs) => fs,
            Err(_) => unreachable!("a running task has a root"),
        }
    }

    /// File descriptors.
    pub fn files(&self) -> Arc<FdTable> {
        match self.try_files() {
            Ok(files) => files,
            Err(_) => unreachable!("a running task has file descriptors"),
        }
    }

    /// Copies from the program's memory.
    ///
    /// # Errors
    /// EFAULT.
    pub fn read_bytes(&self, addr: u64, buf: &mut [u8]) -> Result<()> {
        self.mm.borrow().read_bytes(addr, buf)
    }

    /// Copies to the program's memory.
    ///
    /// # Errors
    /// EFAULT.
    pub fn write_bytes(&self, addr: u64, data: &[u8]) -> Result<()> {
        self.mm.borrow().write_bytes(addr, data)
    }

    /// Reads a struct of the program.
    ///
    /// # Errors
    /// EFAULT.
    pub fn read_obj<T: zerocopy::FromBytes + zerocopy::IntoBytes>(&self, addr: u64) -> Result<T> {
        let mut value = T::new_zeroed();
        self.read_bytes(addr, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Writes a struct for the program.
    ///
    /// # Errors
    /// EFAULT.
    pub fn write_obj<T: zerocopy::IntoBytes + zerocopy::Immutable>(
        &self,
        addr: u64,
        value: &T,
    ) -> Result<()> {
        self.write_bytes(addr, value.as_bytes())
    }

    /// Reads a string up to its NUL, which is left out.
    ///
    /// # Errors
    /// EFAULT; ENAMETOOLONG where no NUL comes within `max` bytes.
    pub fn read_cstr(&self, addr: u64, max: usize) -> Result<Vec<u8>> {
        self.mm.borrow().read_cstr(addr, max)
    }

    /// Memory of the program as the destination of a read. Ranges of `iov` are (address, length).
    pub fn sink(&self, iov: &[(u64, usize)]) -> Box<dyn Sink + '_> {
        Box::new(UserSink::new(self.mm(), iov))
    }

    /// Memory of the program as the origin of a write.
    pub fn source(&self, iov: &[(u64, usize)]) -> Box<dyn Source + '_> {
        Box::new(UserSource::new(self.mm(), iov))
    }

    /// Limits of the process that apply to its address space.
    pub fn map_limits(&self) -> MapLimits {
        let limits = self.group.limits.lock();
        let locks_all = self.cred().has(super::cred::cap::IPC_LOCK);
        MapLimits {
            address_space: limits[c::RLIMIT_AS as usize].0,
            data: limits[c::RLIMIT_DATA as usize].0,
            memlock: if locks_all { u64::MAX } else { limits[c::RLIMIT_MEMLOCK as usize].0 },
        }
    }
}
