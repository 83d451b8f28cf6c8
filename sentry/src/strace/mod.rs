//! What tasks ask of the kernel, made visible: the trace of system calls, the last calls before a crash, the list of
//! what each task is in. Nothing of it is done while it is off, but for one test of a word in each call.

mod calls;
mod flags;
pub mod ring;
mod show;
mod structs;
pub mod tasks;

use self::calls::signature;
use self::show::Shower;
use crate::errno::Result;
use crate::kernel::task::CurrentTask;
use crate::mm::Mm;
use crate::syscalls::{Args, table};
use abi::spec::Strace;
use alloc::string::String;
use core::fmt::Write;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Words of the set of calls that are traced.
const WORDS: usize = table::COUNT.div_ceil(64);

static ON: AtomicBool = AtomicBool::new(false);
static WANTED: [AtomicU64; WORDS] = [const { AtomicU64::new(0) }; WORDS];
/// Bytes of a buffer that are shown.
static LOG_SIZE: AtomicU32 = AtomicU32::new(0);

/// Switches the trace: `None` is off.
///
/// # Errors
/// The name that is no system call's; nothing has changed then.
pub fn set(trace: Option<&Strace>) -> core::result::Result<(), String> {
    let Some(trace) = trace else {
        ON.store(false, Ordering::Relaxed);
        return Ok(());
    };
    let mut wanted = [0u64; WORDS];
    for name in &trace.calls {
        let known = |e: &Option<table::Entry>| e.as_ref().is_some_and(|e| e.name == *name);
        let nr = table::TABLE.iter().position(known).ok_or_else(|| name.clone())?;
        wanted[nr / 64] |= 1 << (nr % 64);
    }
    if trace.calls.is_empty() {
        wanted = [u64::MAX; WORDS];
    }
    for (word, bits) in WANTED.iter().zip(wanted) {
        word.store(bits, Ordering::Relaxed);
    }
    LOG_SIZE.store(trace.log_size, Ordering::Relaxed);
    ON.store(true, Ordering::Relaxed);
    Ok(())
}

/// Whether a call is traced.
#[inline]
pub fn traces(nr: u64) -> bool {
    ON.load(Ordering::Relaxed)
        && WANTED.get(nr as usize / 64).is_some_and(|word| word.load(Ordering::Relaxed) & 1 << (nr % 64) != 0)
}

/// Name of a call.
pub fn name(nr: u64) -> &'static str {
    table::TABLE.get(nr as usize).and_then(|e| e.as_ref()).map_or("?", |e| e.name)
}

/// Appends a call with its arguments. With `mem` what they point to is shown; `result` tells whether what the call gives
/// back is there.
fn call(out: &mut String, nr: u64, args: &Args, mem: Option<&Mm>, result: Option<&Result<u64>>) {
    let limit = LOG_SIZE.load(Ordering::Relaxed) as usize;
    out.push_str(name(nr));
    out.push('(');
    Shower { out, args, mem, result, limit }.arguments(signature(nr));
    out.push(')');
}

fn head(out: &mut String, task: &CurrentTask, mark: char) {
    let comm = task.comm();
    let end = comm.iter().position(|b| *b == 0).unwrap_or(comm.len());
    let comm = String::from_utf8_lossy(&comm[..end]);
    let _ = write!(out, "[{}:{}] {comm} {mark} ", task.pid(), task.tid());
}

/// A call begins. Returns when, ns.
pub fn enter(task: &CurrentTask, nr: u64, args: &Args) -> u64 {
    let mut line = String::new();
    head(&mut line, task, 'E');
    call(&mut line, nr, args, Some(&task.mm()), None);
    crate::host::log(crate::log::Level::Trace as u64, line.as_bytes());
    crate::time::monotonic_ns()
}

/// A call ends that began at `start`.
pub fn leave(task: &CurrentTask, nr: u64, args: &Args, result: &Result<u64>, start: u64) {
    let us = crate::time::monotonic_ns().saturating_sub(start) / 1000;
    let mut line = String::new();
    head(&mut line, task, 'X');
    call(&mut line, nr, args, Some(&task.mm()), Some(result));
    let _ = match result {
        Ok(value) if calls::returns_address(nr) => write!(line, " = {value:#x} ({us} µs)"),
        Ok(value) => write!(line, " = {} ({us} µs)", *value as i64),
        Err(e) => write!(line, " = -1 {} ({us} µs)", e.name()),
    };
    crate::host::log(crate::log::Level::Trace as u64, line.as_bytes());
}

/// A call as text, without what its arguments point to unless there is an address space.
pub fn describe(nr: u64, args: &Args, mem: Option<&Mm>) -> String {
    let mut out = String::new();
    call(&mut out, nr, args, mem, None);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use linux_raw_sys::general as c;

    fn text(nr: u32, args: [u64; 6]) -> String {
        describe(u64::from(nr), &Args(args), None)
    }

    #[test]
    fn numbers_flags_and_signals() {
        let at_cwd = c::AT_FDCWD as u32;
        let flags = u64::from(c::O_WRONLY | c::O_CREAT | c::O_CLOEXEC);
        assert_eq!(
            text(c::__NR_openat, [u64::from(at_cwd), 0, flags, 0o644, 0, 0]),
            "openat(AT_FDCWD, NULL, O_WRONLY|O_CREAT|O_CLOEXEC, 0644)"
        );
        assert_eq!(
            text(c::__NR_openat, [3, 0x1000, u64::from(c::O_PATH), 0o644, 0, 0]),
            "openat(3, 0x1000, O_RDONLY|O_PATH)"
        );
        assert_eq!(text(c::__NR_kill, [u64::MAX, 9, 0, 0, 0, 0]), "kill(-1, SIGKILL)");
        assert_eq!(text(c::__NR_rt_sigaction, [35, 0, 0, 8, 0, 0]), "rt_sigaction(SIGRT_3, NULL, NULL, 8)");
        let private = u64::from(c::MAP_PRIVATE | c::MAP_ANONYMOUS);
        assert_eq!(
            text(c::__NR_mmap, [0, 4096, 3, private, u64::MAX, 0]),
            "mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)"
        );
        assert_eq!(text(c::__NR_mprotect, [0x1000, 4096, 0x100, 0, 0, 0]), "mprotect(0x1000, 4096, 0x100)");
        assert_eq!(
            text(c::__NR_futex, [0x10, 129, 5, 0, 0, 0]),
            "futex(0x10, FUTEX_WAKE|FUTEX_PRIVATE_FLAG, 5, NULL, NULL, NULL)"
        );
    }

    #[test]
    fn the_filter_knows_names() {
        let spec =
            |names: &[&str]| Strace { calls: names.iter().map(|n| (*n).into()).collect(), log_size: 8 };
        assert_eq!(set(Some(&spec(&["openat", "nosuch"]))), Err("nosuch".into()));
        assert!(!traces(u64::from(c::__NR_openat)));
        assert_eq!(set(Some(&spec(&["openat"]))), Ok(()));
        assert!(traces(u64::from(c::__NR_openat)) && !traces(u64::from(c::__NR_close)));
        assert!(!traces(u64::MAX));
        assert_eq!(set(None), Ok(()));
        assert!(!traces(u64::from(c::__NR_openat)));
    }

    #[test]
    fn every_served_call_has_a_signature() {
        for (nr, entry) in table::TABLE.iter().enumerate() {
            let Some(entry) =
                entry.as_ref().filter(|e| matches!(e.level, table::Level::Full | table::Level::Partial))
            else {
                continue;
            };
            assert!(calls::known(nr as u64), "{} has no signature in strace/calls.rs", entry.name);
        }
    }
}
