//! The broker: threads that serve the host calls of the vCPUs, and the watch over the sentry process.

use std::convert::Infallible;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use abi::boot::{
    CPU_AREA_SIZE, CPU_AREAS_GPA, CPU_HOSTCALL, SHARED_GPA, SYSTRAP_CRASH_GPA, SYSTRAP_PHYSMAP,
    SYSTRAP_START_GPA,
};
use abi::hostcall::{HostCallBlock, Request};
use abi::systrap::{CALL_DONE, CALL_REQUEST, CPU_CALL_STATE, CPU_KICK};

use super::SystrapMachine;
use super::sentry::{EXIT_CRASH, EXIT_GATE};
use super::stubs::{Gone, Stubs};
use crate::host::Served;
use crate::memory::{GuestMemory, OutOfRange, errno};
use crate::{Error, Events, HostServices, Outcome};

/// Names of the registers in a crash report, in the kernel's order.
const REGISTERS: [&str; 23] = [
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rdi", "rsi", "rbp", "rbx", "rdx", "rax", "rcx",
    "rsp", "rip", "rflags", "segments", "error", "trap", "mask", "cr2",
];
/// Most frames of a crash that are printed.
const MAX_FRAMES: usize = 24;
/// How long after a spawner the sentry process may end, so that its end is the cause.
const END_OF_SENTRY: Duration = Duration::from_secs(1);

fn area(cpu: u32) -> u64 {
    CPU_AREAS_GPA + u64::from(cpu) * CPU_AREA_SIZE
}

/// Waits while the word is `value`; may return early.
fn futex_wait(word: &AtomicU32, value: u32) {
    // SAFETY: `word` is a live, aligned word; it is in shared memory, so the futex is not private.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, 0, 0, 0) };
}

/// Wakes all who wait at the word.
fn futex_wake(word: &AtomicU32) {
    // SAFETY: as in `futex_wait`.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX, 0, 0, 0) };
}

/// Leaves the end of this process to another thread.
fn rest() -> ! {
    loop {
        std::thread::park();
    }
}

/// Tells the guest of events: bits in the shared page, then a kick of vCPU 0.
struct Kick(Arc<GuestMemory>);

impl Events for Kick {
    fn raise(&self, bits: u64) {
        if self.0.fetch_or(SHARED_GPA, bits).is_ok()
            && let Ok(word) = self.0.word(area(0) + CPU_KICK)
        {
            word.store(1, Ordering::SeqCst);
            futex_wake(word);
        }
    }
}

/// What the threads share.
struct Broker {
    memory: Arc<GuestMemory>,
    services: Arc<HostServices>,
    stubs: Stubs,
    cpus: u32,
    pid: libc::pid_t,
    handle: OwnedFd,
    /// The sandbox ends by itself: the end of the sentry process is no failure.
    ending: AtomicBool,
    ended: Mutex<bool>,
    end: Condvar,
}

/// Lets the boot vCPU begin and serves it on this thread until the sandbox ends.
pub fn boot(machine: SystrapMachine, services: Arc<HostServices>) -> Result<Infallible, Error> {
    let SystrapMachine { memory, sentry, stubs, cpus, .. } = machine;
    services.set_events(Arc::new(Kick(Arc::clone(&memory))));
    let broker = Arc::new(Broker {
        memory,
        services,
        stubs,
        cpus,
        pid: sentry.pid,
        handle: sentry.handle,
        ending: AtomicBool::new(false),
        ended: Mutex::new(false),
        end: Condvar::new(),
    });
    let watch = Arc::clone(&broker);
    spawn("watch".into(), move || watch.watch())?;
    broker.start(0);
    broker.serve(0)
}

fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let operation = format!("starting the thread {name}");
    let started = std::thread::Builder::new().name(name).stack_size(256 << 10).spawn(body);
    started.map(|_| ()).map_err(|source| Error::Os { operation, source })
}

impl Broker {
    /// Lets the thread of a vCPU begin.
    fn start(&self, cpu: u32) {
        if let Ok(word) = self.memory.word(SYSTRAP_START_GPA + 4 * u64::from(cpu)) {
            word.store(1, Ordering::SeqCst);
            futex_wake(word);
        }
    }

    /// Serves the calls of one vCPU.
    fn serve(self: &Arc<Self>, cpu: u32) -> ! {
        let at = area(cpu) + CPU_HOSTCALL;
        let Ok(state) = self.memory.word(area(cpu) + CPU_CALL_STATE) else {
            self.finish(&Outcome::Failed(format!("vCPU {cpu} has no area")));
        };
        loop {
            let now = state.load(Ordering::Acquire);
            if now != CALL_REQUEST {
                futex_wait(state, now);
                continue;
            }
            self.services.count_exit();
            if let Err(OutOfRange) = self.serve_one(at) {
                self.finish(&Outcome::Failed(format!("vCPU {cpu} has no area")));
            }
            state.store(CALL_DONE, Ordering::SeqCst);
            futex_wake(state);
        }
    }

    fn serve_one(self: &Arc<Self>, at: u64) -> Result<(), OutOfRange> {
        let block = self.memory.read_struct::<HostCallBlock>(at)?;
        let stubs = match Request::decode(&block) {
            Some(Request::StubSpawn(call)) => Some(self.stubs.spawn(&self.memory, call)),
            Some(Request::StubKill(call)) => Some(self.stubs.kill(call)),
            _ => None,
        };
        let ret = match stubs {
            Some(Ok(ret)) => ret,
            Some(Err(Gone)) => self.spawner_is_gone(),
            None => match self.services.serve(&block) {
                Served::Return(ret) => ret,
                Served::StartCpus => self.start_others(),
                Served::End(outcome) => self.finish(&outcome),
            },
        };
        self.memory.write_struct(at + std::mem::offset_of!(HostCallBlock, ret) as u64, &ret)
    }

    fn start_others(self: &Arc<Self>) -> i64 {
        for cpu in 1..self.cpus {
            let broker = Arc::clone(self);
            if let Err(error) = spawn(format!("vcpu{cpu}"), move || broker.serve(cpu)) {
                self.finish(&Outcome::Failed(error.to_string()));
            }
            self.start(cpu);
        }
        0
    }

    /// A spawner is gone: with the sentry process, whose end says more, or by itself.
    fn spawner_is_gone(&self) -> ! {
        let ended = self.ended.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let wait = self.end.wait_timeout_while(ended, END_OF_SENTRY, |ended| !*ended);
        let (ended, _) = wait.unwrap_or_else(|poisoned| poisoned.into_inner());
        if *ended {
            drop(ended);
            rest();
        }
        drop(ended);
        self.finish(&Outcome::Failed("a spawner of stubs ended".into()))
    }

    /// Ends the sentry process, and with it its namespace, and then this one. What other vCPUs find missing because of
    /// that is no outcome: the first one counts.
    fn finish(&self, outcome: &Outcome) -> ! {
        if self.ending.swap(true, Ordering::SeqCst) {
            rest();
        }
        let none = std::ptr::null_mut::<libc::siginfo_t>();
        // SAFETY: takes a descriptor and numbers. It fails only where the process has ended already.
        unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, self.handle.as_raw_fd(), libc::SIGKILL, none, 0)
        };
        let mut ended = self.ended.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        while !*ended {
            ended = self.end.wait(ended).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        drop(ended);
        self.services.end(outcome)
    }

    /// Waits for the end of the sentry process, which comes after that of all processes in its namespace.
    fn watch(&self) {
        let mut status = 0;
        // SAFETY: `status` is a valid place; the process is a child that nobody else waits for.
        while unsafe { libc::waitpid(self.pid, &mut status, 0) } < 0 && errno() == libc::EINTR {}
        *self.ended.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = true;
        self.end.notify_all();
        if !self.ending.load(Ordering::SeqCst) {
            self.services.end(&Outcome::Failed(self.diagnose(status)));
        }
    }

    /// What the end of the sentry process says, for a bug report.
    fn diagnose(&self, status: i32) -> String {
        if libc::WIFSIGNALED(status) {
            return format!("the sentry process was killed by signal {}", libc::WTERMSIG(status));
        }
        match libc::WEXITSTATUS(status) {
            EXIT_CRASH => self.crash().unwrap_or_else(|_| "the sentry process crashed".into()),
            EXIT_GATE => "the sentry process could not be set up (munmap, clone or seccomp)".into(),
            code => format!("the sentry process ended with status {code}"),
        }
    }

    fn crash(&self) -> Result<String, OutOfRange> {
        let words: [u64; 5] = self.memory.read_struct(SYSTRAP_CRASH_GPA)?;
        let registers: [u64; 23] = self.memory.read_struct(SYSTRAP_CRASH_GPA + 64)?;
        let [_, signal, code, address, call] = words;
        let mut text =
            format!("the sentry process crashed: signal {signal}, code {code}, address {address:#x}");
        if signal == libc::SIGSYS as u64 {
            text += &format!(", forbidden system call {call}");
        }
        for (index, (name, value)) in REGISTERS.iter().zip(registers).enumerate() {
            text += if index % 4 == 0 { "\n " } else { " " };
            text += &format!("{name} {value:016x}");
        }
        // Frame pointers are kept in the image: the stack can be followed through guest memory.
        text += "\n callers";
        let mut frame = registers[10];
        for _ in 0..MAX_FRAMES {
            let Some(gpa) = frame.checked_sub(SYSTRAP_PHYSMAP) else { break };
            let Ok([next, caller]) = self.memory.read_struct::<[u64; 2]>(gpa) else { break };
            text += &format!(" {caller:x}");
            frame = next;
        }
        Ok(text)
    }
}
