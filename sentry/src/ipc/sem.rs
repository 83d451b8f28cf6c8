//! Semaphores: semget(2), semop(2), semctl(2).
//!
//! Whoever changes a set completes the operations that wait for it, in their order, so that a semaphore that is given
//! back goes to the first who waits. That work is bounded: beyond it the others are woken and try for themselves.

use super::undo::Adjustments;
use super::{Charge, Ids, Object, Perm, UndoList, limits};
use crate::errno::{Errno, Result};
use crate::kernel::cred::Cred;
use crate::kernel::wait::{self, WaitError};
use crate::sync::{Events, SpinLock, WaitQueue};
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Largest value: SEMVMX.
pub const SEMVMX: i32 = 32_767;
/// Undo the operation when the process ends.
pub const SEM_UNDO: u16 = 0x1000;
const IPC_NOWAIT: u16 = super::IPC_NOWAIT as u16;
/// Operations tried for others on one occasion.
const WORK: usize = 100_000;

/// All sets.
pub static SETS: Ids<Set> = Ids::new();
/// Semaphores of all sets.
static SEMAPHORES: AtomicU64 = AtomicU64::new(0);

/// struct sembuf.
#[repr(C)]
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SemOp {
    /// Number in the set.
    pub num: u16,
    /// Change; 0 waits for 0.
    pub change: i16,
    /// IPC_NOWAIT, SEM_UNDO.
    pub flags: u16,
}

/// One semaphore.
#[derive(Debug, Clone, Copy, Default)]
struct Semaphore {
    value: u16,
    pid: u32,
}

/// A set.
pub struct Set {
    id: i32,
    /// Number of semaphores.
    pub count: usize,
    state: SpinLock<State>,
    _charge: Charge,
}

struct State {
    perm: Perm,
    semaphores: Vec<Semaphore>,
    otime: i64,
    ctime: i64,
    removed: bool,
    waiters: VecDeque<Arc<Waiter>>,
    adjustments: Adjustments,
}

/// A semop(2) that waits.
struct Waiter {
    ops: Vec<SemOp>,
    pid: u32,
    list: Option<u64>,
    queue: WaitQueue,
    progress: SpinLock<Progress>,
    _charge: Charge,
}

#[derive(Default)]
struct Progress {
    result: Option<Result<()>>,
    /// Place of the operation that cannot be done.
    blocking: usize,
    /// The waiter tries for itself.
    retry: bool,
}

/// How an attempt went.
enum Attempt {
    /// All done; whether a value changed.
    Done(bool),
    /// This operation has to wait.
    Blocked(usize),
    Failed(Errno),
}

impl Object for Set {
    fn perm(&self) -> Perm {
        self.state.lock().perm
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        SEMAPHORES.fetch_sub(self.count as u64, Ordering::Relaxed);
    }
}

/// semget(2)
///
/// # Errors
/// EINVAL, ENOENT, EEXIST, EACCES, ENOSPC, ENOMEM.
pub fn get(key: i32, count: i32, flags: u32, cred: &Cred) -> Result<i32> {
    let count = u64::try_from(count).map_err(|_| Errno::EINVAL)?;
    // Numbers of semaphores are 16 bits wide.
    if count > limits::get(&limits::SEMMSL).min(1 << 16) {
        return Err(Errno::EINVAL);
    }
    let fits = |s: &Set| if count > s.count as u64 { Err(Errno::EINVAL) } else { Ok(()) };
    SETS.get(key, flags, limits::get(&limits::SEMMNI), cred, fits, |id| {
        if count == 0 {
            return Err(Errno::EINVAL);
        }
        let size = core::mem::size_of::<Set>() + 128 + count as usize * core::mem::size_of::<Semaphore>();
        let charge = Charge::new(size)?;
        let mut semaphores = Vec::new();
        semaphores.try_reserve_exact(count as usize).map_err(|_| Errno::ENOMEM)?;
        semaphores.resize(count as usize, Semaphore::default());
        let most = limits::get(&limits::SEMMNS);
        let fits = |used: u64| Some(used + count).filter(|sum| *sum <= most);
        SEMAPHORES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).map_err(|_| Errno::ENOSPC)?;
        Ok(Set {
            id,
            count: count as usize,
            state: SpinLock::new(State {
                perm: Perm::new(key, id, cred, flags),
                semaphores,
                otime: 0,
                ctime: super::now(),
                removed: false,
                waiters: VecDeque::new(),
                adjustments: Adjustments::default(),
            }),
            _charge: charge,
        })
    })
}

impl State {
    /// Does all operations or none.
    fn attempt(&mut self, ops: &[SemOp], pid: u32, list: Option<u64>) -> Attempt {
        let mut altered = false;
        for (at, op) in ops.iter().enumerate() {
            let outcome = self.step(*op, list);
            match outcome {
                Ok(true) => altered |= op.change != 0,
                other => {
                    for done in ops[..at].iter().rev() {
                        self.take_back(*done, list);
                    }
                    return match other {
                        Err(e) => Attempt::Failed(e),
                        Ok(_) if op.flags & IPC_NOWAIT != 0 => Attempt::Failed(Errno::EAGAIN),
                        Ok(_) => Attempt::Blocked(at),
                    };
                }
            }
        }
        for op in ops {
            self.semaphores[usize::from(op.num)].pid = pid;
        }
        self.otime = super::now();
        Attempt::Done(altered)
    }

    /// One operation; `false` where it has to wait.
    fn step(&mut self, op: SemOp, list: Option<u64>) -> Result<bool> {
        let value = i32::from(self.semaphores[usize::from(op.num)].value);
        let new = value + i32::from(op.change);
        if (op.change == 0 && value != 0) || new < 0 {
            return Ok(false);
        }
        if new > SEMVMX {
            return Err(Errno::ERANGE);
        }
        if op.flags & SEM_UNDO != 0
            && op.change != 0
            && let Some(list) = list
        {
            self.adjustments.add(list, op.num, -i32::from(op.change))?;
        }
        self.semaphores[usize::from(op.num)].value = new as u16;
        Ok(true)
    }

    fn take_back(&mut self, op: SemOp, list: Option<u64>) {
        let semaphore = &mut self.semaphores[usize::from(op.num)];
        semaphore.value = (i32::from(semaphore.value) - i32::from(op.change)) as u16;
        if op.flags & SEM_UNDO != 0
            && op.change != 0
            && let Some(list) = list
        {
            // It was in range before, and its entry is there.
            let _ = self.adjustments.add(list, op.num, i32::from(op.change));
        }
    }

    /// Completes what waits and can go on now.
    fn update(&mut self) {
        let mut work = WORK;
        let mut at = 0;
        while let Some(waiter) = self.waiters.get(at).cloned() {
            if work < waiter.ops.len() {
                for waiter in &self.waiters {
                    waiter.progress.lock().retry = true;
                    waiter.queue.wake(Events::IN);
                }
                return;
            }
            work -= waiter.ops.len();
            let result = match self.attempt(&waiter.ops, waiter.pid, waiter.list) {
                Attempt::Blocked(op) => {
                    waiter.progress.lock().blocking = op;
                    at += 1;
                    continue;
                }
                Attempt::Done(altered) => {
                    self.waiters.remove(at);
                    // A change may free those that come before.
                    at = if altered { 0 } else { at };
                    Ok(())
                }
                Attempt::Failed(e) => {
                    self.waiters.remove(at);
                    Err(e)
                }
            };
            waiter.finish(result);
        }
    }

    fn forget(&mut self, waiter: &Arc<Waiter>) {
        self.waiters.retain(|w| !Arc::ptr_eq(w, waiter));
    }
}

impl Waiter {
    fn finish(&self, result: Result<()>) {
        self.progress.lock().result = Some(result);
        self.queue.wake(Events::IN);
    }
}

impl Set {
    /// semop(2) and semtimedop(2): `list` is where operations with SEM_UNDO are noted, `deadline` as for a wait.
    ///
    /// # Errors
    /// EFBIG, EACCES, ERANGE, EAGAIN, EINTR, EIDRM, ENOMEM.
    pub fn operate(
        &self,
        ops: Vec<SemOp>,
        pid: u32,
        list: Option<&UndoList>,
        cred: &Cred,
        deadline: Option<u64>,
    ) -> Result<()> {
        if ops.iter().any(|op| usize::from(op.num) >= self.count) {
            return Err(Errno::EFBIG);
        }
        let alters = ops.iter().any(|op| op.change != 0);
        let number = list.map(|l| l.number);
        if let Some(list) = list {
            list.note(self.id);
        }
        let waiter = {
            let mut state = self.state.lock();
            state.perm.check(cred, if alters { super::WRITE } else { super::READ })?;
            if state.removed {
                return Err(Errno::EIDRM);
            }
            let blocking = match state.attempt(&ops, pid, number) {
                Attempt::Done(altered) => {
                    if altered {
                        state.update();
                    }
                    return Ok(());
                }
                Attempt::Failed(e) => return Err(e),
                Attempt::Blocked(at) => at,
            };
            let charge =
                Charge::new(core::mem::size_of::<Waiter>() + core::mem::size_of_val(ops.as_slice()))?;
            let waiter = Arc::new(Waiter {
                ops,
                pid,
                list: number,
                queue: WaitQueue::new(),
                progress: SpinLock::new(Progress { blocking, ..Progress::default() }),
                _charge: charge,
            });
            state.waiters.push_back(waiter.clone());
            waiter
        };
        let waited = wait::wait_until(&[(&waiter.queue, Events::IN)], deadline, || self.look(&waiter));
        match waited {
            Ok(result) => result,
            Err(why) => {
                let mut state = self.state.lock();
                state.forget(&waiter);
                let result = waiter.progress.lock().result;
                result.unwrap_or(Err(match why {
                    // Never restarted, whatever the handler says: signal(7).
                    WaitError::Interrupted => Errno::EINTR,
                    WaitError::TimedOut => Errno::EAGAIN,
                }))
            }
        }
    }

    /// The result of a waiter, or its own attempt where others had too much to do.
    fn look(&self, waiter: &Arc<Waiter>) -> Option<Result<()>> {
        let mut state = self.state.lock();
        {
            let mut progress = waiter.progress.lock();
            if progress.result.is_some() || !progress.retry {
                return progress.result;
            }
            progress.retry = false;
        }
        let result = match state.attempt(&waiter.ops, waiter.pid, waiter.list) {
            Attempt::Blocked(at) => {
                waiter.progress.lock().blocking = at;
                return None;
            }
            Attempt::Done(altered) => {
                state.forget(waiter);
                if altered {
                    state.update();
                }
                Ok(())
            }
            Attempt::Failed(e) => {
                state.forget(waiter);
                Err(e)
            }
        };
        Some(result)
    }

    /// The process of a list has ended: its adjustments are made, as far as values allow.
    pub fn undo(&self, list: u64, pid: u32) {
        let mut state = self.state.lock();
        let mut changed = false;
        for (num, adjustment) in state.adjustments.take(list) {
            if let Some(semaphore) = state.semaphores.get_mut(usize::from(num))
                && adjustment != 0
            {
                let value = i32::from(semaphore.value) + i32::from(adjustment);
                semaphore.value = value.clamp(0, SEMVMX) as u16;
                semaphore.pid = pid;
                changed = true;
            }
        }
        if changed {
            state.otime = super::now();
            state.update();
        }
    }

    /// IPC_RMID: all who wait get EIDRM.
    ///
    /// # Errors
    /// EPERM, EIDRM.
    pub fn remove(&self, cred: &Cred) -> Result<()> {
        let key = {
            let mut state = self.state.lock();
            state.perm.check_owner(cred)?;
            if core::mem::replace(&mut state.removed, true) {
                return Err(Errno::EIDRM);
            }
            for waiter in core::mem::take(&mut state.waiters) {
                waiter.finish(Err(Errno::EIDRM));
            }
            state.adjustments.clear();
            state.perm.key
        };
        SETS.remove(self.id, key);
        Ok(())
    }

    /// IPC_SET.
    ///
    /// # Errors
    /// EPERM.
    pub fn set_perm(&self, cred: &Cred, new: &super::UserPerm) -> Result<()> {
        let mut state = self.state.lock();
        state.perm.check_owner(cred)?;
        state.perm.set(new);
        state.ctime = super::now();
        Ok(())
    }

    /// Permissions, time of the last operation and of the last change.
    pub fn stat(&self) -> (Perm, i64, i64) {
        let state = self.state.lock();
        (state.perm, state.otime, state.ctime)
    }

    /// Value of a semaphore, and the process that operated on it last.
    pub fn value(&self, num: usize) -> Option<(u16, u32)> {
        self.state.lock().semaphores.get(num).map(|s| (s.value, s.pid))
    }

    /// All values.
    pub fn values(&self) -> Vec<u16> {
        self.state.lock().semaphores.iter().map(|s| s.value).collect()
    }

    /// How many wait for a semaphore to grow, or (`zero`) to become 0.
    pub fn waiting(&self, num: usize, zero: bool) -> u64 {
        let state = self.state.lock();
        let stuck = |w: &Arc<Waiter>| {
            let op = w.ops.get(w.progress.lock().blocking).copied();
            op.is_some_and(|op| usize::from(op.num) == num && (op.change == 0) == zero)
        };
        state.waiters.iter().filter(|w| stuck(w)).count() as u64
    }

    /// SETVAL (`first` is its number) and SETALL: sets values from `first` on; adjustments of them are forgotten.
    pub fn set_values(&self, first: usize, values: &[u16], pid: u32) {
        let mut state = self.state.lock();
        for (semaphore, value) in state.semaphores.iter_mut().skip(first).zip(values) {
            *semaphore = Semaphore { value: *value, pid };
        }
        if values.len() == 1 {
            state.adjustments.clear_one(first as u16);
        } else {
            state.adjustments.clear();
        }
        state.ctime = super::now();
        state.update();
    }
}

/// Semaphores of all sets.
pub fn total() -> u64 {
    SEMAPHORES.load(Ordering::Relaxed)
}

/// /proc/sysvipc/sem
pub fn list() -> Vec<u8> {
    let mut out = String::from(
        "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n",
    );
    for (id, set) in SETS.all() {
        let (p, otime, ctime) = set.stat();
        let _ = writeln!(
            out,
            "{:10} {id:10}  {:4o} {:10} {:5} {:5} {:5} {:5} {otime:10} {ctime:10}",
            p.key, p.mode, set.count, p.uid, p.gid, p.cuid, p.cgid
        );
    }
    out.into_bytes()
}
