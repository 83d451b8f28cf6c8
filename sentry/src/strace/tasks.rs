//! What each task is in.

use super::describe;
use crate::kernel::process::{self, Life};
use crate::kernel::task::Task;
use crate::syscalls::Args;
use alloc::string::String;
use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering};

/// Most bytes of a list: what an answer can carry, less its frame.
const MAX_TEXT: usize = 60 << 10;

/// The system call that a task is in, or was in last. Only the task itself writes it.
#[derive(Default)]
pub struct CallRecord {
    /// Number of calls so far in the high 48 bits; number of this one plus 1, or 0 outside of any, in the low 16.
    word: AtomicU64,
    /// Where the program called.
    rip: AtomicU64,
    args: [AtomicU64; 6],
}

impl CallRecord {
    /// A call begins.
    #[inline]
    pub fn begin(&self, nr: u64, args: &Args, rip: u64) {
        let count = (self.word.load(Ordering::Relaxed) >> 16) + 1;
        self.rip.store(rip, Ordering::Relaxed);
        for (to, value) in self.args.iter().zip(args.0) {
            to.store(value, Ordering::Relaxed);
        }
        self.word.store(count << 16 | (nr + 1) & 0xffff, Ordering::Relaxed);
    }

    /// It ends.
    #[inline]
    pub fn end(&self) {
        self.word.store(self.word.load(Ordering::Relaxed) & !0xffff, Ordering::Relaxed);
    }

    /// Number of the call that it is in.
    pub fn number(&self) -> Option<u64> {
        (self.word.load(Ordering::Relaxed) & 0xffff).checked_sub(1)
    }

    /// A value that stays the same for the length of one call; `None` outside of any.
    pub fn identity(&self) -> Option<u64> {
        let word = self.word.load(Ordering::Relaxed);
        (word & 0xffff != 0).then_some(word)
    }

    /// Its arguments.
    pub fn args(&self) -> Args {
        Args(core::array::from_fn(|n| self.args[n].load(Ordering::Relaxed)))
    }

    /// Where the program called.
    pub fn rip(&self) -> u64 {
        self.rip.load(Ordering::Relaxed)
    }
}

/// A task and what it is in, as a line.
pub fn line(task: &Task) -> String {
    let comm = task.comm();
    let end = comm.iter().position(|b| *b == 0).unwrap_or(comm.len());
    let mut out = String::new();
    let state = if task.group.is_stopped() { 'T' } else { task.sched.letter() };
    let ms = task.usage().user_ns / 1_000_000;
    let _ = write!(
        out,
        "[{}:{}] {} {state} cpu {ms} ms ",
        task.pid(),
        task.tid(),
        String::from_utf8_lossy(&comm[..end])
    );
    let rip = task.call.rip();
    let _ = match task.call.number() {
        Some(nr) => {
            let mem = task.try_mm().ok();
            let call = describe(nr, &task.call.args(), mem.as_deref());
            let how = if state == 'R' { "in" } else { "waits in" };
            write!(out, "{how} {call}, rip {rip:#x}")
        }
        None if rip == 0 => write!(out, "runs, without a call so far"),
        None => write!(out, "runs the program, rip of the last call {rip:#x}"),
    };
    if task.sched.letter() == 'D' {
        // What it waits for is the sentry's own: addresses of the image, for addr2line(1).
        out.push_str(", in the sentry at");
        for address in task.context.callers() {
            let _ = write!(out, " {address:#x}");
        }
    }
    out
}

/// All tasks with what they are in, a line each.
pub fn list() -> String {
    let mut out = String::new();
    for group in process::all_groups().into_iter().filter(|group| group.life() == Life::Alive) {
        for task in group.tasks() {
            let line = line(&task);
            if out.len() + line.len() + 4 > MAX_TEXT {
                out.push_str("...\n");
                return out;
            }
            out.push_str(&line);
            out.push('\n');
        }
    }
    out
}
