//! Further processes of the container, which commands from outside start: `runsc exec`. Their parent is outside: what
//! they end with goes to the command that started them.

use super::boot::{self, LoadedProcess};
use super::process::{self, ThreadGroup};
use super::signal::{self, SigHandlers, SigInfo};
use super::task::Task;
use crate::errno::{Errno, Result};
use crate::fs::tty::{self, Tty};
use crate::host::streams;
use crate::loader::exec;
use crate::sync::SpinLock;
use abi::control::{Failure, Reply};
use abi::spec::ProcessSpec;
use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::sync::Arc;

/// What was started: the command's number, and the terminal that the process has.
struct Joined {
    command: u64,
    terminal: Option<Arc<Tty>>,
}

static JOINED: SpinLock<BTreeMap<u32, Joined>> = SpinLock::new(BTreeMap::new());

/// A process that is made but does not run yet.
pub struct Prepared {
    /// Its process id.
    pub pid: u32,
    task: Arc<Task>,
    program: exec::Loaded,
}

impl Prepared {
    /// Lets it run.
    pub fn begin(self) {
        exec::begin(&self.task, self.program);
    }
}

/// Makes a process for a control command. It is let run after the command is answered: it may end at once.
///
/// # Errors
/// As for the first process of a container.
pub fn prepare(command: u64, spec: &ProcessSpec) -> core::result::Result<Prepared, Failure> {
    let refuse = |errno: Errno, context: &str| {
        spec.streams.iter().for_each(|stream| streams::close(stream.stream));
        Failure { errno: i32::from(errno.0), context: context.to_string() }
    };
    let running = process::find_group(1).is_some_and(|init| init.life() == process::Life::Alive);
    let root = boot::root().filter(|_| running && boot::started());
    let root = root.ok_or_else(|| refuse(Errno::ESRCH, "container not running"))?;
    let pid = process::allocate_pid_from_outside().map_err(|e| refuse(e, "the process"))?;
    let group = ThreadGroup::new(pid, None, Arc::new(SigHandlers::new()), linux_raw_sys::general::SIGCHLD);
    let give_up = |failure: Failure| {
        group.abandon();
        process::release_pid(pid);
        failure
    };
    let LoadedProcess { task, program, terminal } =
        boot::load_process(root, spec, &group).map_err(give_up)?;
    if let Err(e) = group.add_task(&task) {
        if let Some(terminal) = &terminal {
            tty::release(terminal);
        }
        return Err(give_up(Failure { errno: i32::from(e.0), context: "the process's task".to_string() }));
    }
    process::register_task(&task);
    if let Some(terminal) = &terminal {
        terminal.set_session(pid, pid);
    }
    JOINED.lock().insert(pid, Joined { command, terminal });
    Ok(Prepared { pid, task, program })
}

/// A process without a parent has ended: if a command has started it, that hears of it.
pub fn ended(pid: u32, status: i32) {
    let Some(joined) = JOINED.lock().remove(&pid) else { return };
    if let Some(terminal) = &joined.terminal {
        tty::release(terminal);
    }
    crate::control::reply(&Reply::Exited { id: joined.command, status });
}

/// Sends a signal to a process that was started.
///
/// # Errors
/// ESRCH where there is none (any more), EINVAL.
pub fn signal(pid: u32, number: i32) -> Result<()> {
    let number = u32::try_from(number).ok().filter(|n| (1..=signal::COUNT as u32).contains(n));
    let number = number.ok_or(Errno::EINVAL)?;
    if !JOINED.lock().contains_key(&pid) {
        return Err(Errno::ESRCH);
    }
    let group = process::find_group(pid).ok_or(Errno::ESRCH)?;
    let forced = number == signal::SIGKILL || number == signal::SIGSTOP;
    let info = if forced { SigInfo::kernel(number) } else { SigInfo::user(number, 0, 0, 0) };
    signal::send_group(&group, info)
}

/// The terminal of a process that was started may have another size.
///
/// # Errors
/// ESRCH, ENOTTY.
pub fn resize(pid: u32) -> Result<()> {
    let terminal = JOINED.lock().get(&pid).map(|joined| joined.terminal.clone()).ok_or(Errno::ESRCH)?;
    terminal.ok_or(Errno::ENOTTY)?.read_winsize();
    Ok(())
}
