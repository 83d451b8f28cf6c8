//! Thread groups (processes), their tree, process groups and sessions.

mod registry;
mod stops;

use self::registry::TREE;
pub use self::registry::*;

use super::ptrace::Tracees;
use super::signal::{self, Pending, SigHandlers, SigInfo, SigSet};
use super::task::Task;
use crate::errno::{Errno, Result};
use crate::sync::{Events, SpinLock, WaitQueue};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use linux_raw_sys::general as c;

/// Most processes and threads of a sandbox.
pub const MAX_TASKS: usize = 32_768;
/// Highest process id plus 1.
const PID_MAX: u32 = 4_194_304;

/// Number of resource limits.
pub const RLIMITS: usize = 16;
/// No limit.
pub const INFINITY: u64 = u64::MAX;

/// Soft and hard resource limits by RLIMIT_* number.
pub type Limits = [(u64, u64); RLIMITS];

/// Limits that a process starts with.
pub fn default_limits() -> Limits {
    let mut limits = [(INFINITY, INFINITY); RLIMITS];
    limits[c::RLIMIT_STACK as usize] = (8 << 20, INFINITY);
    limits[c::RLIMIT_CORE as usize] = (0, INFINITY);
    limits[c::RLIMIT_NOFILE as usize] = (1024, 1_048_576);
    limits[c::RLIMIT_MEMLOCK as usize] = (8 << 20, 8 << 20);
    limits[c::RLIMIT_NPROC as usize] = (MAX_TASKS as u64, MAX_TASKS as u64);
    limits[c::RLIMIT_SIGPENDING as usize] = (4096, 4096);
    limits[c::RLIMIT_MSGQUEUE as usize] = (819_200, 819_200);
    limits[c::RLIMIT_NICE as usize] = (0, 0);
    limits[c::RLIMIT_RTPRIO as usize] = (0, 0);
    limits
}

/// Where a process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It runs.
    Alive,
    /// It has ended with this wait status and waits to be reaped.
    Zombie(i32),
    /// It was reaped.
    Gone,
}

/// Resources used, as getrusage(2) counts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// CPU time in ring 3, ns. All CPU time is counted here.
    pub user_ns: u64,
    /// CPU time in the kernel, ns.
    pub system_ns: u64,
    /// Page faults.
    pub faults: u64,
    /// Voluntary context switches.
    pub voluntary: u64,
    /// Preemptions.
    pub involuntary: u64,
    /// Largest resident size, bytes.
    pub max_rss: u64,
}

impl Usage {
    /// Adds another's.
    pub fn add(&mut self, other: &Usage) {
        self.user_ns += other.user_ns;
        self.system_ns += other.system_ns;
        self.faults += other.faults;
        self.voluntary += other.voluntary;
        self.involuntary += other.involuntary;
        self.max_rss = self.max_rss.max(other.max_rss);
    }
}

/// A process.
pub struct ThreadGroup {
    /// Its id.
    pub pid: u32,
    me: Weak<ThreadGroup>,
    relations: SpinLock<Relations>,
    tasks: SpinLock<Vec<Arc<Task>>>,
    /// Signals for the process as a whole.
    pub pending: SpinLock<Pending>,
    handlers: SpinLock<Arc<SigHandlers>>,
    /// Woken for each signal that comes: signalfd, sigtimedwait.
    pub signal_queue: WaitQueue,
    /// Woken when a child changes its state.
    pub child_queue: WaitQueue,
    /// Woken when a task of the group ends, and when it goes on after a stop.
    pub change_queue: WaitQueue,
    /// Resource limits.
    pub limits: SpinLock<Limits>,
    exiting: AtomicBool,
    exit_status: AtomicI32,
    stop_signal: AtomicU32,
    stopped: AtomicBool,
    /// How often SIGCONT or SIGKILL has ended stops, and those that were about to begin. Guards both of the above.
    continues: SpinLock<u64>,
    /// A stop or continue that the parent has not waited for: 0 none, 1 stopped, 2 continued.
    reported: AtomicU32,
    /// Signal to the parent at the end.
    pub exit_signal: AtomicU32,
    /// Usage of tasks that have ended.
    pub ended: SpinLock<Usage>,
    /// Usage of children that were waited for.
    pub children_usage: SpinLock<Usage>,
    /// CLOCK_BOOTTIME at the start, ns.
    pub start_ns: u64,
    /// Tasks that it traces: ptrace(2).
    pub tracees: SpinLock<Tracees>,
    /// Its first task, where that is traced and has ended before others.
    pub traced_leader: SpinLock<Option<Arc<Task>>>,
    /// Its tracer has to wait for its end before its parent can.
    held: AtomicBool,
    /// Held while the filters of system calls of its tasks change.
    pub filters: crate::sync::Mutex<()>,
    /// ITIMER_REAL and the others.
    pub timers: SpinLock<super::itimer::Timers>,
    /// Alarms on CPU time.
    pub alarms: super::cputime::Alarms,
    /// PR_SET_CHILD_SUBREAPER.
    pub subreaper: AtomicBool,
    /// PR_SET_THP_DISABLE.
    pub thp_disabled: AtomicBool,
    /// PR_SET_DUMPABLE.
    pub dumpable: AtomicU32,
    /// /proc/PID/oom_score_adj.
    pub oom_score_adj: AtomicI32,
    /// Whether it has executed a program since fork: setpgid(2) refuses then.
    pub executed: AtomicBool,
    /// Number of exec being done by one of its tasks (its tid), 0 for none.
    pub exec_by: AtomicU32,
}

struct Relations {
    parent: Weak<ThreadGroup>,
    children: Vec<Arc<ThreadGroup>>,
    pgid: u32,
    sid: u32,
    life: Life,
}

impl ThreadGroup {
    /// A process that is a child of `parent`, in its process group and session.
    pub fn new(
        pid: u32,
        parent: Option<&Arc<ThreadGroup>>,
        handlers: Arc<SigHandlers>,
        exit_signal: u32,
    ) -> Arc<Self> {
        let (pgid, sid, limits) = match parent {
            Some(p) => {
                let r = p.relations.lock();
                (r.pgid, r.sid, *p.limits.lock())
            }
            None => (pid, pid, default_limits()),
        };
        let group = Arc::new_cyclic(|me| Self {
            pid,
            me: me.clone(),
            relations: SpinLock::new(Relations {
                parent: parent.map_or(Weak::new(), Arc::downgrade),
                children: Vec::new(),
                pgid,
                sid,
                life: Life::Alive,
            }),
            tasks: SpinLock::new(Vec::new()),
            pending: SpinLock::new(Pending::default()),
            handlers: SpinLock::new(handlers),
            signal_queue: WaitQueue::new(),
            child_queue: WaitQueue::new(),
            change_queue: WaitQueue::new(),
            tracees: SpinLock::new(Tracees::default()),
            traced_leader: SpinLock::new(None),
            held: AtomicBool::new(false),
            filters: crate::sync::Mutex::new(()),
            limits: SpinLock::new(limits),
            exiting: AtomicBool::new(false),
            exit_status: AtomicI32::new(0),
            stop_signal: AtomicU32::new(0),
            stopped: AtomicBool::new(false),
            continues: SpinLock::new(0),
            reported: AtomicU32::new(0),
            exit_signal: AtomicU32::new(exit_signal),
            ended: SpinLock::new(Usage::default()),
            children_usage: SpinLock::new(Usage::default()),
            start_ns: crate::time::boottime_ns(),
            timers: SpinLock::new(super::itimer::Timers::new()),
            alarms: super::cputime::Alarms::new(),
            subreaper: AtomicBool::new(false),
            thp_disabled: AtomicBool::new(parent.is_some_and(|p| p.thp_disabled.load(Ordering::Relaxed))),
            dumpable: AtomicU32::new(1),
            oom_score_adj: AtomicI32::new(parent.map_or(0, |p| p.oom_score_adj.load(Ordering::Relaxed))),
            executed: AtomicBool::new(false),
            exec_by: AtomicU32::new(0),
        });
        registry::insert(&group);
        if let Some(parent) = parent {
            parent.relations.lock().children.push(group.clone());
        }
        group
    }

    /// A process of the kernel's own tasks, which is not in the tree.
    pub fn hidden() -> Arc<Self> {
        let group = Self::new(0, None, Arc::new(SigHandlers::new()), 0);
        TREE.lock().groups.remove(&0);
        group
    }

    /// Undoes [`ThreadGroup::new`]: the process never got a task.
    pub fn abandon(&self) {
        if let Some(parent) = self.parent() {
            parent.relations.lock().children.retain(|g| g.pid != self.pid);
        }
        registry::withdraw(self.pid);
    }

    /// A reference to itself.
    pub fn arc(&self) -> Option<Arc<Self>> {
        self.me.upgrade()
    }

    /// Whether it is the first process of its container.
    pub fn is_init(&self) -> bool {
        self.pid == 1
    }

    /// Its tasks.
    pub fn tasks(&self) -> Vec<Arc<Task>> {
        self.tasks.lock().clone()
    }

    /// Whether a task is one of its.
    pub fn has_task(&self, task: &Arc<Task>) -> bool {
        self.tasks.lock().iter().any(|t| Arc::ptr_eq(t, task))
    }

    /// Number of its tasks.
    pub fn task_count(&self) -> usize {
        self.tasks.lock().len()
    }

    /// The task whose id is the process's, or another where that one has ended.
    pub fn leader(&self) -> Option<Arc<Task>> {
        let tasks = self.tasks.lock();
        tasks.iter().find(|t| t.tid() == self.pid).or_else(|| tasks.first()).cloned()
    }

    /// Adds a task; refused while the process ends or execs.
    ///
    /// # Errors
    /// EAGAIN.
    pub fn add_task(&self, task: &Arc<Task>) -> Result<()> {
        let mut tasks = self.tasks.lock();
        if self.exiting() || (self.exec_by.load(Ordering::SeqCst) != 0 && !tasks.is_empty()) {
            return Err(Errno::EAGAIN);
        }
        tasks.push(task.clone());
        Ok(())
    }

    /// Takes an ended task out. `true`: it was the last.
    pub fn remove_task(&self, tid: u32) -> bool {
        let (removed, last) = {
            let mut tasks = self.tasks.lock();
            let at = tasks.iter().position(|t| t.tid() == tid);
            let removed = at.map(|at| tasks.swap_remove(at));
            (removed, tasks.is_empty())
        };
        drop(removed);
        self.change_queue.wake(Events::IN);
        last
    }

    /// Its parent.
    pub fn parent(&self) -> Option<Arc<ThreadGroup>> {
        self.relations.lock().parent.upgrade()
    }

    /// Id of its parent; 0 for none.
    pub fn ppid(&self) -> u32 {
        self.parent().map_or(0, |p| p.pid)
    }

    /// Its children.
    pub fn children(&self) -> Vec<Arc<ThreadGroup>> {
        self.relations.lock().children.clone()
    }

    /// Its process group.
    pub fn pgid(&self) -> u32 {
        self.relations.lock().pgid
    }

    /// Its session.
    pub fn sid(&self) -> u32 {
        self.relations.lock().sid
    }

    /// Moves it to a process group.
    pub fn set_pgid(&self, pgid: u32) {
        self.relations.lock().pgid = pgid;
    }

    /// Makes it the leader of a new session and process group.
    pub fn set_sid(&self) {
        let mut relations = self.relations.lock();
        (relations.pgid, relations.sid) = (self.pid, self.pid);
    }

    /// Where it is in its life.
    pub fn life(&self) -> Life {
        self.relations.lock().life
    }

    /// Dispositions of signals.
    pub fn handlers(&self) -> Arc<SigHandlers> {
        self.handlers.lock().clone()
    }

    /// For exec: dispositions that nobody else shares.
    pub fn unshare_handlers(&self) {
        let own = Arc::new(self.handlers().duplicate());
        own.reset();
        *self.handlers.lock() = own;
    }

    /// Drops pending signals of the process and its tasks.
    pub fn discard(&self, mask: SigSet) {
        self.pending.lock().discard(mask);
        for task in self.tasks() {
            task.signals.lock().pending.discard(mask);
        }
    }

    /// Whether the process ends.
    pub fn exiting(&self) -> bool {
        self.exiting.load(Ordering::SeqCst)
    }

    /// Wait status with which it ends.
    pub fn exit_status(&self) -> i32 {
        self.exit_status.load(Ordering::SeqCst)
    }

    /// Lets all tasks end: exit_group(2) or a deadly signal. The first status counts.
    pub fn start_exit(&self, status: i32) {
        if self.exiting.compare_exchange(false, true, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            self.exit_status.store(status, Ordering::SeqCst);
        }
        self.resume(false);
        for task in self.tasks() {
            task.alert_to_end();
        }
    }

    /// Status of the process where its last task ends by exit(2).
    pub fn set_exit_status(&self, status: i32) {
        if !self.exiting() {
            self.exit_status.store(status, Ordering::SeqCst);
        }
    }

    /// Its tracer waits for its end first.
    pub fn hold(&self) {
        self.held.store(true, Ordering::SeqCst);
    }

    /// Whether its tracer has not waited for its end yet.
    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::SeqCst)
    }

    /// Its tracer has waited for its end, or is gone: its parent can.
    pub fn let_reap(&self) {
        if self.held.swap(false, Ordering::SeqCst)
            && let Some(parent) = self.parent()
        {
            parent.child_queue.wake(Events::IN);
        }
    }

    /// SIGCHLD to the parent, and a wake-up of its wait.
    fn tell_parent(&self, code: i32, status: i32) {
        let Some(parent) = self.parent() else { return };
        let uid = self.leader().map_or(0, |t| t.cred().uid);
        let usage = self.usage();
        let ticks = |ns: u64| ns / 10_000_000;
        let info = SigInfo::child(code, self.pid, uid, status, ticks(usage.user_ns), ticks(usage.system_ns));
        let action = parent.handlers().get(c::SIGCHLD);
        let wanted = code != c::CLD_STOPPED as i32 && code != c::CLD_CONTINUED as i32
            || action.flags & u64::from(c::SA_NOCLDSTOP) == 0;
        if wanted {
            let _ = signal::send_group(&parent, info);
        }
        parent.child_queue.wake(Events::IN);
    }

    /// CPU time and other usage of all its tasks, ended ones included.
    pub fn usage(&self) -> Usage {
        let mut usage = *self.ended.lock();
        for task in self.tasks() {
            usage.add(&task.usage());
        }
        usage
    }

    /// The last task has ended: children go to the next reaper, the parent hears of it.
    pub fn become_zombie(&self) {
        let status = self.exit_status();
        self.adopt_children();
        self.relations.lock().life = Life::Zombie(status);
        // Asked after that: a parent that ends meanwhile has handed this on before, or sees that it has ended.
        let parent = self.parent();
        let exit_signal = self.exit_signal.load(Ordering::Relaxed);
        // A parent that ignores SIGCHLD does not wait.
        let ignored = parent.as_ref().is_some_and(|p| {
            let action = p.handlers().get(c::SIGCHLD);
            exit_signal == c::SIGCHLD
                && (action.handler == signal::SIG_IGN || action.flags & u64::from(c::SA_NOCLDWAIT) != 0)
        });
        self.change_queue.wake(Events::all());
        if self.is_init() {
            super::boot::init_ended(status);
            return;
        }
        let Some(parent) = parent else {
            // Its parent is outside of the container.
            self.reap();
            super::join::ended(self.pid, status);
            // The first process, where it has ended too, waits for all others.
            if let Some(init) = find_group(1) {
                init.child_queue.wake(Events::IN);
            }
            return;
        };
        let (code, value) = match status & 0x7f {
            0 => (c::CLD_EXITED as i32, status >> 8 & 0xff),
            signal if status & 0x80 != 0 => (c::CLD_DUMPED as i32, signal),
            signal => (c::CLD_KILLED as i32, signal),
        };
        if ignored {
            self.reap();
            parent.child_queue.wake(Events::IN);
        } else if exit_signal == c::SIGCHLD {
            self.tell_parent(code, value);
        } else {
            if exit_signal != 0 {
                let _ = signal::send_group(&parent, SigInfo::user(exit_signal, code, self.pid, 0));
            }
            parent.child_queue.wake(Events::IN);
        }
    }

    fn adopt_children(&self) {
        let children = core::mem::take(&mut self.relations.lock().children);
        if children.is_empty() {
            return;
        }
        let mut reaper = self.parent();
        while let Some(group) = &reaper {
            if group.is_init() || (group.subreaper.load(Ordering::Relaxed) && group.life() == Life::Alive) {
                break;
            }
            reaper = group.parent();
        }
        let reaper = reaper.or_else(|| find_group(1));
        for child in children {
            if let Some(reaper) = &reaper {
                child.relations.lock().parent = Arc::downgrade(reaper);
                reaper.relations.lock().children.push(child.clone());
            }
            for task in child.tasks() {
                let signal = task.death_signal.load(Ordering::Relaxed);
                if signal != 0 {
                    let _ = signal::send_task(&task, SigInfo::user(signal, 0, self.pid, 0));
                }
            }
            let Some(reaper) = &reaper else { continue };
            match child.life() {
                Life::Alive => continue,
                Life::Zombie(_) => {
                    let info = SigInfo::child(c::CLD_EXITED as i32, child.pid, 0, 0, 0, 0);
                    let _ = signal::send_group(reaper, info);
                }
                // It took itself out of a list while it was in none.
                Life::Gone => reaper.relations.lock().children.retain(|g| !Arc::ptr_eq(g, &child)),
            }
            reaper.child_queue.wake(Events::IN);
        }
    }

    /// Takes a zombie out of the tree; `false` where another waiter was faster.
    pub fn reap(&self) -> bool {
        {
            let mut relations = self.relations.lock();
            if !matches!(relations.life, Life::Zombie(_)) {
                return false;
            }
            relations.life = Life::Gone;
        }
        if let Some(parent) = self.parent() {
            let mut usage = self.usage();
            usage.add(&self.children_usage.lock());
            parent.children_usage.lock().add(&usage);
            let child = {
                let mut relations = parent.relations.lock();
                let at = relations.children.iter().position(|g| g.pid == self.pid);
                at.map(|at| relations.children.swap_remove(at))
            };
            drop(child);
        }
        let group = {
            let mut tree = TREE.lock();
            tree.tasks.remove(&self.pid);
            tree.groups.remove(&self.pid)
        };
        drop(group);
        true
    }
}
