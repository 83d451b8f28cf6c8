//! The last system calls of the sandbox: a ring for each vCPU, which only code on that vCPU writes. Always on, since it
//! costs a few stores; shown when the sentry panics, and when a process dies of a fault while details are logged.

use super::describe;
use crate::arch::{cpu, tsc};
use crate::errno::Result;
use crate::kernel::task::Task;
use crate::log::{self, Level};
use crate::syscalls::Args;
use abi::boot::MAX_CPUS;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Calls that a vCPU remembers.
const LENGTH: usize = 128;
/// Calls that are shown.
const SHOWN: usize = 100;
/// Result of a call that has not ended.
const PENDING: u64 = i64::MIN as u64;

/// One call.
pub struct Slot {
    /// Time-stamp counter at its begin; also what tells it from a later call in the same place.
    at: AtomicU64,
    /// Task and number.
    who: AtomicU64,
    args: [AtomicU64; 6],
    result: AtomicU64,
}

struct Ring {
    next: AtomicUsize,
    slots: [Slot; LENGTH],
}

static RINGS: [Ring; MAX_CPUS] = [const {
    Ring {
        next: AtomicUsize::new(0),
        slots: [const {
            Slot {
                at: AtomicU64::new(0),
                who: AtomicU64::new(0),
                args: [const { AtomicU64::new(0) }; 6],
                result: AtomicU64::new(0),
            }
        }; LENGTH],
    }
}; MAX_CPUS];

/// A call begins. What is returned goes to [`end`].
#[inline]
pub fn begin(task: &Task, nr: u64, args: &Args) -> (&'static Slot, u64) {
    let ring = &RINGS[cpu::id() % MAX_CPUS];
    let next = ring.next.load(Ordering::Relaxed);
    ring.next.store(next.wrapping_add(1), Ordering::Relaxed);
    let slot = &ring.slots[next % LENGTH];
    let now = tsc::read_unordered();
    slot.at.store(now, Ordering::Relaxed);
    slot.who.store(u64::from(task.tid()) << 32 | nr & 0xffff_ffff, Ordering::Relaxed);
    for (to, value) in slot.args.iter().zip(args.0) {
        to.store(value, Ordering::Relaxed);
    }
    slot.result.store(PENDING, Ordering::Relaxed);
    (slot, now)
}

/// A call ends, maybe on another vCPU. Where others have taken its place it is forgotten.
#[inline]
pub fn end((slot, began): (&'static Slot, u64), result: &Result<u64>) {
    if slot.at.load(Ordering::Relaxed) == began {
        slot.result.store(result.as_ref().map_or_else(|e| e.as_ret(), |value| *value), Ordering::Relaxed);
    }
}

/// The latest call before a time.
fn before(time: u64) -> Option<(&'static Slot, u64)> {
    let slots = RINGS.iter().take(cpu::count()).flat_map(|ring| &ring.slots);
    slots
        .map(|slot| (slot, slot.at.load(Ordering::Relaxed)))
        .filter(|(_, at)| *at != 0 && *at < time)
        .max_by_key(|(_, at)| *at)
}

/// Writes the last calls of the sandbox to the log, the latest last. Without `decoded` nothing is allocated.
pub fn dump(level: Level, decoded: bool) {
    let now = tsc::read();
    let mut list: [Option<(&Slot, u64)>; SHOWN] = [None; SHOWN];
    let mut time = now;
    for place in list.iter_mut().rev() {
        let Some((slot, at)) = before(time) else { break };
        *place = Some((slot, at));
        time = at;
    }
    log::write(level, format_args!("the last system calls, and how long before now they began:"));
    for (slot, at) in list.iter().flatten() {
        let us = crate::time::ns_of(now - at) / 1000;
        let who = slot.who.load(Ordering::Relaxed);
        let (tid, nr) = (who >> 32, who & 0xffff_ffff);
        let args = Args(core::array::from_fn(|n| slot.args[n].load(Ordering::Relaxed)));
        let result = slot.result.load(Ordering::Relaxed);
        let result = Shown(result);
        if decoded {
            log::write(level, format_args!("-{us} µs [{tid}] {} = {result}", describe(nr, &args, None)));
        } else {
            let (name, [a, b, c, d, e, f]) = (super::name(nr), args.0);
            log::write(
                level,
                format_args!(
                    "-{us} µs [{tid}] {name}({a:#x}, {b:#x}, {c:#x}, {d:#x}, {e:#x}, {f:#x}) = {result}"
                ),
            );
        }
    }
}

/// A result as text.
struct Shown(u64);

impl core::fmt::Display for Shown {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            PENDING => f.write_str("?"),
            value => match crate::errno::Errno::check(value as i64) {
                Ok(value) if value > 0xffff_ffff => write!(f, "{value:#x}"),
                Ok(value) => write!(f, "{value}"),
                Err(e) => write!(f, "-1 {}", e.name()),
            },
        }
    }
}
