//! All processes and threads, by number.

use super::super::task::Task;
use super::{Life, MAX_TASKS, PID_MAX, ThreadGroup};
use crate::errno::{Errno, Result};
use crate::sync::{Events, SpinLock};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Every process and task, by id.
pub(super) struct Tree {
    pub(super) groups: BTreeMap<u32, Arc<ThreadGroup>>,
    pub(super) tasks: BTreeMap<u32, Weak<Task>>,
    next: u32,
    /// The first process has ended: nothing is added any more.
    pub(super) closed: bool,
}

pub(super) static TREE: SpinLock<Tree> =
    SpinLock::new(Tree { groups: BTreeMap::new(), tasks: BTreeMap::new(), next: 1, closed: false });

/// Most tasks.
static TASK_LIMIT: AtomicUsize = AtomicUsize::new(MAX_TASKS);
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// Forks since boot, for /proc/stat.
pub static FORKS: AtomicU64 = AtomicU64::new(0);

/// Takes a free process id.
///
/// # Errors
/// EAGAIN where there are too many tasks; ENOMEM once the first process has ended.
pub fn allocate_pid() -> Result<u32> {
    take_pid(TASK_LIMIT.load(Ordering::Relaxed))
}

/// The same for a process that is put into the container from outside, to which its limit of tasks does not apply, as
/// pids(5) of control groups has it.
///
/// # Errors
/// EAGAIN where there are too many tasks for the sentry.
pub fn allocate_pid_from_outside() -> Result<u32> {
    take_pid(MAX_TASKS)
}

/// Limits the number of tasks; `None` for as many as the sentry can have.
pub fn set_task_limit(limit: Option<u64>) {
    let limit = limit.map_or(MAX_TASKS, |n| usize::try_from(n).unwrap_or(MAX_TASKS).min(MAX_TASKS));
    TASK_LIMIT.store(limit, Ordering::Relaxed);
}

/// Tasks that the limit has refused.
pub fn refused_tasks() -> u64 {
    REFUSED.load(Ordering::Relaxed)
}

fn take_pid(limit: usize) -> Result<u32> {
    let mut tree = TREE.lock();
    if tree.closed {
        return Err(Errno::ENOMEM);
    }
    if tree.tasks.len() >= limit {
        REFUSED.fetch_add(1, Ordering::Relaxed);
        return Err(Errno::EAGAIN);
    }
    FORKS.fetch_add(1, Ordering::Relaxed);
    loop {
        let pid = tree.next;
        tree.next = if pid + 1 >= PID_MAX { 300 } else { pid + 1 };
        // An id also stands for a process group or session while that has members.
        let taken = tree.tasks.contains_key(&pid)
            || tree.groups.contains_key(&pid)
            || tree.groups.values().any(|g| {
                let r = g.relations.lock();
                r.pgid == pid || r.sid == pid
            });
        if !taken {
            tree.tasks.insert(pid, Weak::new());
            return Ok(pid);
        }
    }
}

/// The first process has ended: no ids are given out any more, as in a PID namespace without its init, and a process
/// whose id was given out already gets no task.
pub fn close() {
    TREE.lock().closed = true;
}

/// Makes a process known. The first process, where it has ended, has counted by now whom it waits for: then this one
/// ends before it has begun.
pub(super) fn insert(group: &Arc<ThreadGroup>) {
    let mut tree = TREE.lock();
    group.exiting.store(tree.closed, Ordering::SeqCst);
    tree.groups.insert(group.pid, group.clone());
}

/// Forgets a process that never got a task. The first process, where it has ended, waits for it too.
pub(super) fn withdraw(pid: u32) {
    let (gone, init) = {
        let mut tree = TREE.lock();
        (tree.groups.remove(&pid), tree.groups.get(&1).cloned())
    };
    drop(gone);
    if let Some(init) = init {
        init.child_queue.wake(Events::IN);
    }
}

/// Gives an id back that no task got.
pub fn release_pid(pid: u32) {
    TREE.lock().tasks.remove(&pid);
}

/// Makes a task known under its id.
pub fn register_task(task: &Arc<Task>) {
    TREE.lock().tasks.insert(task.tid(), Arc::downgrade(task));
}

/// Forgets a task that has ended. The id of a process stays until it is reaped.
pub fn forget_task(tid: u32) {
    TREE.lock().tasks.remove(&tid);
}

/// The task with an id.
pub fn find_task(tid: u32) -> Option<Arc<Task>> {
    TREE.lock().tasks.get(&tid).and_then(Weak::upgrade)
}

/// The process with an id; zombies too.
pub fn find_group(pid: u32) -> Option<Arc<ThreadGroup>> {
    TREE.lock().groups.get(&pid).cloned()
}

/// All processes by id; zombies too.
pub fn all_groups() -> Vec<Arc<ThreadGroup>> {
    TREE.lock().groups.values().cloned().collect()
}

/// Number of tasks.
pub fn task_count() -> usize {
    TREE.lock().tasks.len()
}

/// The id that was given out last, for /proc/loadavg.
pub fn last_pid() -> u32 {
    TREE.lock().next.saturating_sub(1)
}

/// Living processes of a process group.
pub fn members(pgid: u32) -> Vec<Arc<ThreadGroup>> {
    all_groups().into_iter().filter(|g| g.pgid() == pgid && g.life() == Life::Alive).collect()
}

/// Whether a process group exists in a session.
pub fn group_in_session(pgid: u32, sid: u32) -> bool {
    all_groups().iter().any(|g| g.pgid() == pgid && g.sid() == sid)
}
