//! Commands that come from outside: a task of the kernel serves them.

use crate::errno::Errno;
use crate::kernel::process::{self, Life};
use crate::kernel::signal::{self, SigInfo};
use crate::kernel::wait::{self, WaitError};
use crate::kernel::{boot, events, freeze, join, oom, reclaim, resources};
use crate::mm::frames::page::KernelPage;
use crate::net::unix::collect;
use crate::strace;
use crate::sync::Events;
use abi::control::{Answer, Command, Failure, ProcessInfo, Reply, Request, Usage};
use abi::hostcall::{ControlReceive, ControlReply};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Bytes of a command.
const MAX_COMMAND: usize = (abi::PAGE_SIZE as usize) << MAX_COMMAND_ORDER;
/// The same as pages: 2^4.
const MAX_COMMAND_ORDER: u8 = 4;

/// Takes commands and answers them, for good.
pub fn serve() {
    let Ok(buffer) = KernelPage::alloc_order(MAX_COMMAND_ORDER) else {
        crate::error!("no memory for control commands");
        return;
    };
    let mut told = 0;
    loop {
        reclaim::run();
        collect::collect_due();
        let kills = oom::kills();
        if kills != told {
            reply(&Reply::OutOfMemory { id: 0, kills: kills - told });
            told = kills;
        }
        let due = reclaim::due();
        let request = ControlReceive { gpa: buffer.gpa(), len: MAX_COMMAND as u64 };
        let wanted = || reclaim::due() != due || oom::kills() != kills || collect::is_due();
        let queues =
            [(&events::CONTROL, Events::IN), (&reclaim::WANTED, Events::IN), (&collect::WANTED, Events::IN)];
        let received = wait::wait_until(&queues, due, || match crate::host::call(&request) {
            Ok(len) => Some(Ok(Some(len))),
            Err(Errno::EAGAIN) => wanted().then_some(Ok(None)),
            Err(e) => Some(Err(e)),
        });
        match received {
            Ok(Ok(None)) | Err(WaitError::TimedOut) => {}
            Ok(Ok(Some(len))) => {
                let mut bytes = alloc::vec![0; (len as usize).min(MAX_COMMAND)];
                buffer.read(0, &mut bytes);
                match postcard::from_bytes::<Command>(&bytes) {
                    // The VMM answers: the sandbox cannot.
                    Ok(Command { id, request: Request::Freeze }) => freeze::freeze(id),
                    Ok(Command { id, request: Request::Exec { process, .. } }) => {
                        match join::prepare(id, &process) {
                            Ok(prepared) => {
                                reply(&Reply::Done { id, result: Ok(Answer::Started(prepared.pid)) });
                                prepared.begin();
                            }
                            Err(failure) => reply(&Reply::Done { id, result: Err(failure) }),
                        }
                    }
                    Ok(command) => {
                        let result = run(&command.request);
                        reply(&Reply::Done { id: command.id, result });
                    }
                    Err(_) => crate::warn!("a control command of {len} bytes does not decode"),
                }
            }
            Ok(Err(e)) => {
                crate::error!("control commands end: {}", e.name());
                return;
            }
            Err(WaitError::Interrupted) => return,
        }
    }
}

/// Sends an answer or an event.
pub fn reply(reply: &Reply) {
    let Ok(bytes) = postcard::to_allocvec(reply) else { return };
    let Ok(buffer) = KernelPage::alloc_order(
        bytes.len().div_ceil(abi::PAGE_SIZE as usize).next_power_of_two().trailing_zeros() as u8,
    ) else {
        return;
    };
    buffer.write(0, &bytes);
    if let Err(e) = crate::host::call(&ControlReply { gpa: buffer.gpa(), len: bytes.len() as u64 }) {
        crate::warn!("an answer was not taken: {}", e.name());
    }
}

fn failed(errno: Errno, context: &str) -> Failure {
    Failure { errno: i32::from(errno.0), context: context.to_string() }
}

fn run(request: &Request) -> Result<Answer, Failure> {
    match request {
        Request::Start => {
            boot::start_container().map_err(|e| failed(e, "cannot start an already running container"))?;
            Ok(Answer::Ok)
        }
        Request::Kill { signal, all } => kill(*signal, *all).map(|()| Answer::Ok),
        // Served above.
        Request::Exec { .. } => Err(failed(Errno::EINVAL, "a process cannot be started here")),
        Request::Signal { pid, signal } => {
            join::signal(*pid, *signal).map(|()| Answer::Ok).map_err(|e| failed(e, "process not running"))
        }
        Request::Resize { pid } => {
            join::resize(*pid).map(|()| Answer::Ok).map_err(|e| failed(e, "resizing the terminal"))
        }
        Request::Strace { trace } => strace::set(trace.as_ref())
            .map(|()| Answer::Ok)
            .map_err(|name| failed(Errno::EINVAL, &alloc::format!("there is no system call {name:?}"))),
        Request::LogLevel { level } => {
            crate::log::set_level(*level);
            Ok(Answer::Ok)
        }
        Request::Stacks => Ok(Answer::Text(strace::tasks::list())),
        Request::Update { resources } => {
            let lowered = resources.machine_memory.is_some();
            resources::apply((**resources).clone())
                .map_err(|e| failed(e, "more memory is in use than the limit would be"))?;
            if lowered {
                // The host's limit may come down next.
                reclaim::give_back();
            }
            Ok(Answer::Ok)
        }
        // Freezing is served above; a command that comes here while the sandbox runs has nothing to thaw or save.
        Request::Freeze | Request::Thaw | Request::Save | Request::Wait | Request::Watch => {
            Err(failed(Errno::EINVAL, "the sandbox is not frozen"))
        }
        Request::Usage => Ok(Answer::Usage(usage())),
        Request::Processes => Ok(Answer::Processes(processes())),
        Request::Counters => Err(failed(Errno::ENOSYS, "the sandbox process counts, not the sentry")),
    }
}

fn usage() -> Usage {
    let (memory, memory_limit) = resources::memory();
    Usage {
        memory,
        memory_peak: resources::memory_peak(),
        memory_limit,
        shortages: oom::shortages(),
        kills: oom::kills(),
        tasks: process::task_count() as u64,
    }
}

fn kill(number: i32, all: bool) -> Result<(), Failure> {
    let valid = (1..=signal::COUNT as i32).contains(&number);
    if !valid {
        return Err(failed(Errno::EINVAL, "invalid signal"));
    }
    let Some(init) = process::find_group(1).filter(|g| g.life() == Life::Alive) else {
        return Err(failed(Errno::ESRCH, "container not running"));
    };
    let number = number as u32;
    // From outside the PID namespace: init must take SIGKILL and SIGSTOP, others only with a handler.
    let forced = number == signal::SIGKILL || number == signal::SIGSTOP;
    let info = if forced { SigInfo::kernel(number) } else { SigInfo::user(number, 0, 0, 0) };
    let targets: Vec<_> = if all { process::all_groups() } else { alloc::vec![init] };
    for group in targets.into_iter().filter(|g| g.life() == Life::Alive) {
        if number == signal::SIGKILL && boot::kill_created() {
            continue;
        }
        let _ = signal::send_group(&group, info);
    }
    Ok(())
}

fn processes() -> Vec<ProcessInfo> {
    process::all_groups()
        .into_iter()
        .filter(|g| g.life() == Life::Alive)
        .filter_map(|g| {
            let leader = g.leader()?;
            let comm = leader.comm();
            let end = comm.iter().position(|b| *b == 0).unwrap_or(comm.len());
            Some(ProcessInfo {
                pid: g.pid,
                ppid: g.ppid(),
                uid: leader.cred().uid,
                comm: String::from_utf8_lossy(&comm[..end]).into_owned(),
                state: leader.sched.letter(),
                cpu_ms: g.usage().user_ns / 1_000_000,
            })
        })
        .collect()
}
