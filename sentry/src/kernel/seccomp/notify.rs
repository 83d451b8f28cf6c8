//! Listeners: calls that wait for the answer of another process, seccomp_unotify(2).

use super::super::bpf::Data;
use super::super::task::Task;
use super::super::wait::{self, WaitError};
use super::Verdict;
use crate::errno::{Errno, Result};
use crate::kernel::task::CurrentTask;
use crate::sync::{Events, SpinLock, WaitQueue};
use crate::vfs::OpenFile;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use linux_raw_sys::general as c;
use linux_raw_sys::ptrace as p;

/// How far a call is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nobody has received it.
    Waiting,
    /// It was received and not answered.
    Received,
    /// It was answered.
    Answered(Answer),
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is served as if there were no filter.
    Continue,
    /// It is not served; this is what the program gets in its register.
    Result(u64),
}

/// A call that waits.
struct Call {
    id: u64,
    task: Arc<Task>,
    data: Data,
    stage: Stage,
}

/// What a listener receives.
pub struct Received {
    /// Number of the call among those of the listener.
    pub id: u64,
    /// Thread id of its task.
    pub tid: u32,
    /// The call.
    pub data: Data,
}

struct State {
    next: u64,
    calls: Vec<Call>,
    /// Calls that were announced and not received; those that were given up meanwhile count too, as on Linux.
    announced: u64,
}

/// What a filter and its listener share.
pub struct Listener {
    /// `None` once the listener is closed.
    state: SpinLock<Option<State>>,
    /// No task has the filter any more.
    orphaned: AtomicBool,
    /// Those who wait for calls.
    pub queue: WaitQueue,
    /// Those who wait for answers.
    answers: WaitQueue,
}

impl Listener {
    /// A listener without calls.
    pub fn new() -> Arc<Self> {
        // Numbers begin anywhere, so that one of another listener is hardly ever valid.
        let next = u64::from_le_bytes(crate::kernel::random::bytes());
        let state = State { next, calls: Vec::new(), announced: 0 };
        Arc::new(Self {
            state: SpinLock::new(Some(state)),
            orphaned: AtomicBool::new(false),
            queue: WaitQueue::new(),
            answers: WaitQueue::new(),
        })
    }

    /// Whether somebody can still answer.
    pub fn is_open(&self) -> bool {
        self.state.lock().is_some()
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        self.state.lock().as_mut().map_or(Err(Errno::ENOENT), f)
    }

    /// Lets the running task's call wait for its answer.
    pub(super) fn ask(&self, current: &CurrentTask, data: Data) -> Verdict {
        let Some(task) = current.arc() else { return Verdict::Skip(Some(Errno::ESRCH)) };
        let added = self.with(|state| {
            state.calls.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            let id = state.next;
            state.next = id.wrapping_add(1);
            state.calls.push(Call { id, task, data, stage: Stage::Waiting });
            state.announced += 1;
            Ok(id)
        });
        let id = match added {
            Ok(id) => id,
            // Without a listener.
            Err(Errno::ENOENT) => return Verdict::Skip(Some(Errno::ENOSYS)),
            Err(e) => return Verdict::Skip(Some(e)),
        };
        self.queue.wake(Events::IN | Events::RDNORM);
        let answered = wait::wait_until(&[(&self.answers, Events::IN)], None, || {
            let found = self.with(|state| match state.calls.iter().find(|call| call.id == id) {
                Some(Call { stage: Stage::Answered(answer), .. }) => Ok(Some(*answer)),
                Some(_) => Ok(None),
                None => Err(Errno::ENOENT),
            });
            // The listener was closed.
            found.unwrap_or(Some(Answer::Result(Errno::ENOSYS.as_ret())))
        });
        let gone = self.with(|state| {
            let at = state.calls.iter().position(|call| call.id == id);
            Ok(at.map(|at| state.calls.remove(at)))
        });
        drop(gone);
        match answered {
            Ok(Answer::Continue) => Verdict::Allow,
            Ok(Answer::Result(value)) => {
                current.ctx_mut().rax = value;
                Verdict::Skip(None)
            }
            Err(WaitError::Interrupted | WaitError::TimedOut) => {
                current.attention.store(true, Ordering::SeqCst);
                Verdict::Skip(Some(Errno::RESTART_SYS))
            }
        }
    }

    /// Waits for a call and takes it: SECCOMP_IOCTL_NOTIF_RECV.
    ///
    /// # Errors
    /// ENOENT: the call was given up, or there is no task left that could make one; EINTR.
    pub fn receive(&self) -> Result<Received> {
        let take = || {
            let taken = self.with(|state| {
                if state.announced == 0 {
                    return Ok(None);
                }
                state.announced -= 1;
                let call = state.calls.iter_mut().find(|call| call.stage == Stage::Waiting);
                let call = call.ok_or(Errno::ENOENT)?;
                call.stage = Stage::Received;
                Ok(Some(Received { id: call.id, tid: call.task.tid(), data: call.data }))
            });
            match taken {
                Ok(None) if self.orphaned.load(Ordering::SeqCst) => Some(Err(Errno::ENOENT)),
                other => other.transpose(),
            }
        };
        let received = wait::wait_until(&[(&self.queue, Events::IN)], None, take);
        let received = received.map_err(|_| Errno::EINTR)??;
        self.queue.wake(Events::OUT | Events::WRNORM);
        Ok(received)
    }

    /// Undoes [`Listener::receive`].
    pub fn put_back(&self, id: u64) {
        let _ = self.with(|state| {
            if let Some(call) = state.calls.iter_mut().find(|call| call.id == id) {
                call.stage = Stage::Waiting;
                state.announced += 1;
            }
            Ok(())
        });
        self.queue.wake(Events::IN | Events::RDNORM);
    }

    /// Answers a call: SECCOMP_IOCTL_NOTIF_SEND.
    ///
    /// # Errors
    /// ENOENT: there is none of this number (any more); EINPROGRESS: it was not received, or was answered.
    pub fn answer(&self, id: u64, answer: Answer) -> Result<()> {
        self.with(|state| {
            received(state, id)?.stage = Stage::Answered(answer);
            Ok(())
        })?;
        self.answers.wake(Events::IN);
        Ok(())
    }

    /// Whether a call was received and waits for its answer: SECCOMP_IOCTL_NOTIF_ID_VALID.
    pub fn is_valid(&self, id: u64) -> bool {
        self.with(|state| received(state, id).map(drop)).is_ok()
    }

    /// Gives the task of a call a descriptor, at `at` where that is given; `answers`: it is the call's result too.
    /// SECCOMP_IOCTL_NOTIF_ADDFD.
    ///
    /// # Errors
    /// As [`Listener::answer`]; EMFILE, EBADF of the task's limit; ESRCH where it ends.
    pub fn add_file(
        &self,
        id: u64,
        file: Arc<OpenFile>,
        at: Option<i32>,
        cloexec: bool,
        answers: bool,
    ) -> Result<i32> {
        let task = self.with(|state| received(state, id).map(|call| call.task.clone()))?;
        let files = task.try_files()?;
        let (limit, _) = task.rlimit(c::RLIMIT_NOFILE);
        let fd = match at {
            None => files.install(file, cloexec, limit)?,
            Some(fd) => {
                let old = files.install_at(fd, file, cloexec, limit)?;
                drop(old);
                fd
            }
        };
        if answers {
            self.answer(id, Answer::Result(fd as u64))?;
        }
        Ok(fd)
    }

    /// What poll(2) says of the listener.
    pub fn readiness(&self) -> Events {
        let mut events = Events::empty();
        let _ = self.with(|state| {
            for call in &state.calls {
                events |= match call.stage {
                    Stage::Waiting => Events::IN | Events::RDNORM,
                    Stage::Received => Events::OUT | Events::WRNORM,
                    Stage::Answered(_) => Events::empty(),
                };
            }
            Ok(())
        });
        if self.orphaned.load(Ordering::SeqCst) {
            events |= Events::HUP;
        }
        events
    }

    /// The listener's last description is gone: calls that wait answer ENOSYS.
    pub fn close(&self) {
        let state = self.state.lock().take();
        self.answers.wake(Events::IN);
        drop(state);
    }

    /// The last task that has the filter is gone.
    pub(super) fn orphan(&self) {
        self.orphaned.store(true, Ordering::SeqCst);
        self.queue.wake(Events::IN | Events::HUP);
    }
}

fn received(state: &mut State, id: u64) -> Result<&mut Call> {
    let call = state.calls.iter_mut().find(|call| call.id == id).ok_or(Errno::ENOENT)?;
    if call.stage == Stage::Received { Ok(call) } else { Err(Errno::EINPROGRESS) }
}

/// The bits of an answer that are known: SECCOMP_USER_NOTIF_FLAG_CONTINUE.
pub const ANSWER_FLAGS: u32 = p::SECCOMP_USER_NOTIF_FLAG_CONTINUE;
