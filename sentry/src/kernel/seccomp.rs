//! Filters of system calls that programs install for themselves and their children: seccomp(2).

pub mod notify;

use self::notify::Listener;
use super::bpf::{Data, Program};
use super::exit;
use super::signal::{self, SigAction, SigInfo};
use super::task::{CurrentTask, Task, work};
use crate::errno::{Errno, Result};
use crate::sync::Once;
use crate::syscalls::table::{self, COUNT};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as c;
use linux_raw_sys::ptrace as p;

/// Architecture of programs: audit.h.
pub const ARCH: u32 = p::AUDIT_ARCH_X86_64;
/// Most instructions that the filters of a task may have together; each but the newest counts four more.
const MAX_PATH: usize = 32_768;
const PENALTY: usize = 4;
/// Words of a set of call numbers.
const WORDS: usize = COUNT.div_ceil(64);
/// si_code of a SIGSYS that a filter caused.
const SYS_SECCOMP: i32 = 1;
/// Highest error number that a filter may give.
const MAX_ERRNO: u32 = 4095;

/// A filter, and those that were there before it.
pub struct Filter {
    program: Program,
    before: Option<Arc<Filter>>,
    /// Calls that all filters up to this one allow whatever their arguments are.
    allowed: Box<[u64; WORDS]>,
    log: bool,
    /// Who answers where this filter says so.
    listener: Option<Arc<Listener>>,
    /// Filters up to this one.
    depth: usize,
    /// Instructions up to this one, with what each counts more.
    path: usize,
}

impl Filter {
    /// A filter that is to go on top of `before`.
    ///
    /// # Errors
    /// ENOMEM: together they are too long.
    pub fn new(
        program: Program,
        log: bool,
        listener: Option<Arc<Listener>>,
        before: Option<Arc<Filter>>,
    ) -> Result<Arc<Self>> {
        let path = before.as_ref().map_or(0, |f| f.path) + program.cost() + PENALTY;
        if path - PENALTY > MAX_PATH {
            return Err(Errno::ENOMEM);
        }
        let mut allowed = Box::new([0u64; WORDS]);
        for nr in 0..COUNT {
            let earlier = before.as_ref().is_none_or(|f| f.always_allows(nr as u64));
            if earlier && program.always_allows(nr as u32, ARCH) {
                allowed[nr / 64] |= 1 << (nr % 64);
            }
        }
        let depth = before.as_ref().map_or(0, |f| f.depth) + 1;
        Ok(Arc::new(Self { program, before, allowed, log, listener, depth, path }))
    }

    fn always_allows(&self, nr: u64) -> bool {
        self.allowed.get(nr as usize / 64).is_some_and(|word| word >> (nr % 64) & 1 != 0)
    }

    /// What the filters say: the strictest answer, that of the newest among equals, and whose it is.
    fn evaluate(&self, data: &Data) -> (u32, Option<&Filter>) {
        let rank = |answer: u32| (answer & p::SECCOMP_RET_ACTION_FULL) as i32;
        let mut best = (p::SECCOMP_RET_ALLOW, None);
        let mut filter = Some(self);
        while let Some(this) = filter {
            let answer = this.program.run(data);
            if rank(answer) < rank(best.0) {
                best = (answer, Some(this));
            }
            filter = this.before.as_deref();
        }
        best
    }

    /// Whether this filter or one of those before it has a listener.
    fn has_listener(&self) -> bool {
        let mut filter = Some(self);
        while let Some(this) = filter {
            if this.listener.as_ref().is_some_and(|listener| listener.is_open()) {
                return true;
            }
            filter = this.before.as_deref();
        }
        false
    }

    /// Whether `other` is this filter or one of those before it.
    fn descends_from(&self, other: &Arc<Filter>) -> bool {
        let mut filter = Some(self);
        while let Some(this) = filter {
            if core::ptr::eq(this, Arc::as_ptr(other)) {
                return true;
            }
            filter = this.before.as_deref();
        }
        false
    }
}

impl Drop for Filter {
    /// Long chains go one by one: kernel stacks are small.
    fn drop(&mut self) {
        if let Some(listener) = self.listener.take() {
            listener.orphan();
        }
        let mut next = self.before.take();
        while let Some(mut filter) = next.and_then(Arc::into_inner) {
            next = filter.before.take();
        }
    }
}

/// How a task's calls are filtered.
#[derive(Default, Clone)]
pub enum Seccomp {
    /// Not at all.
    #[default]
    Disabled,
    /// read, write, exit and sigreturn only.
    Strict,
    /// By programs.
    Filter(Arc<Filter>),
}

impl Seccomp {
    /// SECCOMP_MODE_*.
    pub fn mode(&self) -> u32 {
        match self {
            Self::Disabled => p::SECCOMP_MODE_DISABLED,
            Self::Strict => p::SECCOMP_MODE_STRICT,
            Self::Filter(_) => p::SECCOMP_MODE_FILTER,
        }
    }

    /// Number of filters.
    pub fn filters(&self) -> usize {
        if let Self::Filter(filter) = self { filter.depth } else { 0 }
    }

    fn filter(&self) -> Option<&Arc<Filter>> {
        if let Self::Filter(filter) = self { Some(filter) } else { None }
    }
}

/// What becomes of a call.
pub enum Verdict {
    /// It is served.
    Allow,
    /// It is not served; this is its result, where it has one.
    Skip(Option<Errno>),
    /// A tracer decides: the data of SECCOMP_RET_TRACE.
    Trace(u16),
}

/// Asks the filters of the running task about the call that it makes.
pub fn check(current: &CurrentTask, nr: u64, args: &[u64; 6]) -> Verdict {
    let filter = {
        let state = current.seccomp.lock();
        match &*state {
            Seccomp::Disabled => return Verdict::Allow,
            Seccomp::Filter(filter) if filter.always_allows(nr) => return Verdict::Allow,
            Seccomp::Filter(filter) => Some(filter.clone()),
            Seccomp::Strict => None,
        }
    };
    let Some(filter) = filter else { return strict(current, nr) };
    let rip = current.ctx().rip;
    let data = Data { nr: nr as i32, arch: ARCH, instruction_pointer: rip, args: *args };
    let (answer, whose) = filter.evaluate(&data);
    let log = whose.is_some_and(|filter| filter.log);
    let listener = whose.and_then(|filter| filter.listener.clone());
    drop(filter);
    let value = (answer & p::SECCOMP_RET_DATA) as u16;
    match answer & p::SECCOMP_RET_ACTION_FULL {
        p::SECCOMP_RET_ALLOW => Verdict::Allow,
        p::SECCOMP_RET_LOG => {
            report(current, nr, "logged");
            Verdict::Allow
        }
        p::SECCOMP_RET_ERRNO => {
            if log {
                report(current, nr, "refused");
            }
            match u32::from(value).min(MAX_ERRNO) {
                0 => {
                    current.ctx_mut().rax = 0;
                    Verdict::Skip(None)
                }
                errno => Verdict::Skip(Some(Errno(errno as u16))),
            }
        }
        p::SECCOMP_RET_TRACE => Verdict::Trace(value),
        p::SECCOMP_RET_TRAP => {
            if log {
                report(current, nr, "trapped");
            }
            current.ctx_mut().rax = nr;
            signal::force(current.task(), sigsys(nr, rip, value));
            Verdict::Skip(None)
        }
        p::SECCOMP_RET_USER_NOTIF => match listener {
            Some(listener) => listener.ask(current, data),
            None => Verdict::Skip(Some(Errno::ENOSYS)),
        },
        action => {
            report(current, nr, "killed");
            die(current, action == p::SECCOMP_RET_KILL_THREAD, c::SIGSYS);
            Verdict::Skip(None)
        }
    }
}

fn strict(current: &CurrentTask, nr: u64) -> Verdict {
    match nr as u32 {
        c::__NR_read | c::__NR_write | c::__NR_exit | c::__NR_rt_sigreturn => Verdict::Allow,
        _ => {
            die(current, true, c::SIGKILL);
            Verdict::Skip(None)
        }
    }
}

/// Ends the task, or its process where that is wanted or it is the only one.
fn die(current: &CurrentTask, thread: bool, signal: u32) {
    if thread && current.group.tasks().len() > 1 {
        exit::exit_task(current, signal as i32);
        return;
    }
    if signal == c::SIGSYS {
        current.group.handlers().set(signal, SigAction::default());
    }
    current.group.start_exit(signal as i32);
    current.task().alert();
}

fn sigsys(nr: u64, rip: u64, value: u16) -> SigInfo {
    let mut info = SigInfo::fault(c::SIGSYS, SYS_SECCOMP, rip);
    info.errno = i32::from(value);
    info.fields[1] = (nr & 0xffff_ffff) | u64::from(ARCH) << 32;
    info
}

fn report(current: &CurrentTask, nr: u64, what: &str) {
    let name = table::TABLE.get(nr as usize).and_then(|e| e.as_ref()).map_or("?", |e| e.name);
    crate::info!("seccomp: {name} ({nr}) of process {} is {what}", current.pid());
}

/// SECCOMP_SET_MODE_STRICT.
///
/// # Errors
/// EINVAL where filters are there.
pub fn set_strict(task: &Task) -> Result<()> {
    let mut state = task.seccomp.lock();
    match &*state {
        Seccomp::Filter(_) => Err(Errno::EINVAL),
        _ => {
            *state = Seccomp::Strict;
            task.set_work(work::SECCOMP);
            Ok(())
        }
    }
}

/// Installs a program on top of the task's filters. Its caller has checked the right to.
///
/// # Errors
/// EINVAL in strict mode; EBUSY where there is a listener and one of those before has one too; ENOMEM where the
/// filters together are too long.
pub fn install(task: &Task, program: Program, log: bool, listener: Option<Arc<Listener>>) -> Result<()> {
    let _guard = task.group.filters.lock();
    add(task, program, log, listener)
}

/// As [`install`], with the lock held that keeps threads from changing each other's at the same time.
fn add(task: &Task, program: Program, log: bool, listener: Option<Arc<Listener>>) -> Result<()> {
    let before = match &*task.seccomp.lock() {
        Seccomp::Strict => return Err(Errno::EINVAL),
        state => state.filter().cloned(),
    };
    if listener.is_some() && before.as_ref().is_some_and(|filter| filter.has_listener()) {
        return Err(Errno::EBUSY);
    }
    let filter = Filter::new(program, log, listener, before)?;
    let old = core::mem::replace(&mut *task.seccomp.lock(), Seccomp::Filter(filter));
    drop(old);
    task.set_work(work::SECCOMP);
    Ok(())
}

/// Installs a program for all threads of the process: SECCOMP_FILTER_FLAG_TSYNC. `Ok(Some(tid))`: this thread has a
/// filter that the caller has not, nothing was changed.
///
/// # Errors
/// As [`install`].
pub fn install_for_all(
    current: &CurrentTask,
    program: Program,
    log: bool,
    listener: Option<Arc<Listener>>,
) -> Result<Option<u32>> {
    let _guard = current.group.filters.lock();
    let mine = current.seccomp.lock().clone();
    let tasks = current.group.tasks();
    for task in tasks.iter().filter(|t| t.tid() != current.tid()) {
        let theirs = task.seccomp.lock().clone();
        let fits = match (&theirs, mine.filter()) {
            (Seccomp::Disabled, _) => true,
            (Seccomp::Filter(theirs), Some(mine)) => mine.descends_from(theirs),
            _ => false,
        };
        if !fits {
            return Ok(Some(task.tid()));
        }
    }
    add(current.task(), program, log, listener)?;
    let new = current.seccomp.lock().clone();
    let no_new_privs = current.cred().no_new_privs;
    for task in tasks.iter().filter(|t| t.tid() != current.tid()) {
        let old = core::mem::replace(&mut *task.seccomp.lock(), new.clone());
        drop(old);
        if no_new_privs {
            let mut cred = (*task.cred()).clone();
            cred.no_new_privs = true;
            task.set_cred(cred);
        }
        task.set_work(work::SECCOMP);
    }
    Ok(None)
}

/// What processes of the container begin with.
static CONTAINER: Once<Arc<Filter>> = Once::new();

/// Sets the filter that processes of the container begin with.
///
/// # Errors
/// ENOMEM: it is too long.
pub fn set_container(program: Program, log: bool) -> Result<()> {
    let _ = CONTAINER.set(Filter::new(program, log, None, None)?);
    Ok(())
}

/// Gives a process that has not run the container's filter.
pub fn begin(task: &Task) {
    if let Some(filter) = CONTAINER.get() {
        *task.seccomp.lock() = Seccomp::Filter(filter.clone());
        task.set_work(work::SECCOMP);
    }
}

/// A new task begins with its parent's.
pub fn inherit(parent: &Task, child: &Task) {
    let state = parent.seccomp.lock().clone();
    if !matches!(state, Seccomp::Disabled) {
        *child.seccomp.lock() = state;
        child.work.fetch_or(work::SECCOMP, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::bpf::Instruction;
    use super::*;

    fn answers(answer: u32) -> Program {
        let ret = Instruction { code: (p::BPF_RET | p::BPF_K) as u16, jt: 0, jf: 0, k: answer };
        Program::new(alloc::vec![ret]).expect("valid")
    }

    #[test]
    fn the_strictest_answer_counts() {
        let data = Data { nr: 0, arch: ARCH, instruction_pointer: 0, args: [0; 6] };
        let one = Filter::new(answers(p::SECCOMP_RET_ERRNO | 5), false, None, None).expect("a filter");
        let two =
            Filter::new(answers(p::SECCOMP_RET_ERRNO | 6), true, None, Some(one.clone())).expect("a filter");
        let said = |filter: &Filter| {
            let (answer, whose) = filter.evaluate(&data);
            (answer, whose.is_some_and(|filter| filter.log))
        };
        assert_eq!(said(&two), (p::SECCOMP_RET_ERRNO | 6, true));
        let three =
            Filter::new(answers(p::SECCOMP_RET_ALLOW), false, None, Some(two.clone())).expect("a filter");
        assert_eq!(said(&three), (p::SECCOMP_RET_ERRNO | 6, true));
        let four =
            Filter::new(answers(p::SECCOMP_RET_KILL_PROCESS), false, None, Some(three)).expect("a filter");
        let five =
            Filter::new(answers(p::SECCOMP_RET_KILL_THREAD), false, None, Some(four)).expect("a filter");
        assert_eq!(five.evaluate(&data).0, p::SECCOMP_RET_KILL_PROCESS);
        assert!(five.descends_from(&one) && !one.descends_from(&five));
        assert_eq!((five.depth, five.path), (5, 5 * (5 + PENALTY)));
    }

    #[test]
    fn chains_are_bounded_and_end_one_by_one() {
        let mut top = None;
        let mut count = 0;
        while let Ok(filter) = Filter::new(answers(p::SECCOMP_RET_ALLOW), false, None, top.clone()) {
            assert!(filter.always_allows(39));
            top = Some(filter);
            count += 1;
        }
        assert_eq!(count, (MAX_PATH + PENALTY) / (5 + PENALTY));
        drop(top);
    }
}
