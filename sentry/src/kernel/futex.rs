//! Futexes: futex(2).

use super::task::CurrentTask;
use super::wait::{self, WaitError};
use crate::errno::{Errno, Result};
use crate::mm::Mm;
use crate::sync::{Events, SpinLock, WaitQueue};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use linux_raw_sys::general as c;

/// Any bitset.
pub const MATCH_ANY: u32 = u32::MAX;

const BUCKETS: usize = 256;
/// Most entries of a robust list that are looked at.
const ROBUST_LIMIT: usize = 2048;

/// Identity of a futex: an address of a space, or a place in an object that several spaces map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    space: usize,
    place: u64,
}

struct Waiter {
    key: SpinLock<Key>,
    bitset: u32,
    woken: AtomicBool,
    queue: WaitQueue,
}

static TABLE: [SpinLock<Vec<Arc<Waiter>>>; BUCKETS] = [const { SpinLock::new(Vec::new()) }; BUCKETS];

fn bucket(key: &Key) -> usize {
    let h = (key.place >> 2).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ (key.space as u64).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (h >> 40) as usize % BUCKETS
}

fn key(mm: &Arc<Mm>, address: u64, shared: bool) -> Result<Key> {
    if !address.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    if address >= mm.user_top {
        return Err(Errno::EFAULT);
    }
    if shared && let Some((object, place)) = mm.shared_place(address) {
        return Ok(Key { space: object, place });
    }
    Ok(Key { space: Arc::as_ptr(mm).addr(), place: address })
}

/// Two buckets locked in the order of their numbers.
fn with_two<R>(
    a: usize,
    b: usize,
    f: impl FnOnce(&mut Vec<Arc<Waiter>>, Option<&mut Vec<Arc<Waiter>>>) -> R,
) -> R {
    if a == b {
        return f(&mut TABLE[a].lock(), None);
    }
    if a < b {
        let mut first = TABLE[a].lock();
        let mut second = TABLE[b].lock();
        f(&mut first, Some(&mut second))
    } else {
        let mut second = TABLE[b].lock();
        let mut first = TABLE[a].lock();
        f(&mut first, Some(&mut second))
    }
}

/// FUTEX_WAIT_BITSET: waits while the word has `expected`, until woken, a signal, or the deadline (CLOCK_MONOTONIC,
/// ns).
///
/// # Errors
/// EAGAIN (another value), ETIMEDOUT, EFAULT, EINVAL, RESTART_SYS.
pub fn wait(
    mm: &Arc<Mm>,
    address: u64,
    expected: u32,
    bitset: u32,
    shared: bool,
    deadline: Option<u64>,
) -> Result<()> {
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    // Faulted in first: the look at the word under the bucket's lock must not block.
    let frame = mm.frame_at(address, false)?;
    let key = key(mm, address, shared)?;
    let waiter = Arc::new(Waiter {
        key: SpinLock::new(key),
        bitset,
        woken: AtomicBool::new(false),
        queue: WaitQueue::new(),
    });
    {
        let mut list = TABLE[bucket(&key)].lock();
        if frame.word((address % abi::PAGE_SIZE) as usize)?.load(Ordering::SeqCst) != expected {
            return Err(Errno::EAGAIN);
        }
        list.push(waiter.clone());
    }
    // The frame may have been copied on write between the two looks; the waker's write then went to the new one.
    let now = mm.frame_at(address, false);
    if let Ok(now) = &now
        && *now != frame
        && now.word((address % abi::PAGE_SIZE) as usize)?.load(Ordering::SeqCst) != expected
        && remove(&waiter)
    {
        return Err(Errno::EAGAIN);
    }
    drop((frame, now));
    let woken = || waiter.woken.load(Ordering::SeqCst).then_some(());
    match wait::wait_until(&[(&waiter.queue, Events::IN)], deadline, woken) {
        Ok(()) => Ok(()),
        // A wake-up that came meanwhile counts.
        Err(_) if !remove(&waiter) => Ok(()),
        Err(WaitError::TimedOut) => Err(Errno::ETIMEDOUT),
        Err(WaitError::Interrupted) => Err(Errno::RESTART_SYS),
    }
}

/// Takes a waiter off its list; `false` where it was woken already.
fn remove(waiter: &Arc<Waiter>) -> bool {
    loop {
        let key = *waiter.key.lock();
        let mut list = TABLE[bucket(&key)].lock();
        if *waiter.key.lock() != key {
            continue;
        }
        if let Some(at) = list.iter().position(|w| Arc::ptr_eq(w, waiter)) {
            list.remove(at);
            return true;
        }
        return false;
    }
}

/// FUTEX_WAKE_BITSET: wakes up to `count` waiters, first come first served. Returns how many.
///
/// # Errors
/// EFAULT, EINVAL.
pub fn wake(mm: &Arc<Mm>, address: u64, count: u32, bitset: u32, shared: bool) -> Result<u64> {
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    let key = key(mm, address, shared)?;
    let mut woken: Vec<Arc<Waiter>> = Vec::new();
    {
        let mut list = TABLE[bucket(&key)].lock();
        let mut at = 0;
        while at < list.len() && woken.len() < count as usize {
            if *list[at].key.lock() == key && list[at].bitset & bitset != 0 {
                let waiter = list.remove(at);
                woken.push(waiter);
            } else {
                at += 1;
            }
        }
    }
    for waiter in &woken {
        waiter.woken.store(true, Ordering::SeqCst);
        waiter.queue.wake(Events::IN);
    }
    Ok(woken.len() as u64)
}

/// FUTEX_REQUEUE and FUTEX_CMP_REQUEUE: wakes up to `count` waiters and lets up to `more` others wait at `target`.
/// Returns how many were woken, and how many moved.
///
/// # Errors
/// EAGAIN (the word is not `expected`), EFAULT, EINVAL.
pub fn requeue(
    mm: &Arc<Mm>,
    address: u64,
    count: u32,
    target: u64,
    more: u32,
    expected: Option<u32>,
    shared: bool,
) -> Result<(u64, u64)> {
    let frame = mm.frame_at(address, false)?;
    let from = key(mm, address, shared)?;
    let to = key(mm, target, shared)?;
    let mut woken: Vec<Arc<Waiter>> = Vec::new();
    let moved = with_two(bucket(&from), bucket(&to), |source, mut destination| -> Result<u64> {
        if let Some(expected) = expected
            && frame.word((address % abi::PAGE_SIZE) as usize)?.load(Ordering::SeqCst) != expected
        {
            return Err(Errno::EAGAIN);
        }
        let mut moved = 0;
        let mut at = 0;
        while at < source.len() {
            if *source[at].key.lock() != from {
                at += 1;
            } else if woken.len() < count as usize {
                let waiter = source.remove(at);
                woken.push(waiter);
            } else if moved < u64::from(more) {
                moved += 1;
                *source[at].key.lock() = to;
                match destination.as_deref_mut() {
                    Some(list) => {
                        let waiter = source.remove(at);
                        list.push(waiter);
                    }
                    None => at += 1,
                }
            } else {
                break;
            }
        }
        Ok(moved)
    })?;
    for waiter in &woken {
        waiter.woken.store(true, Ordering::SeqCst);
        waiter.queue.wake(Events::IN);
    }
    Ok((woken.len() as u64, moved))
}

/// FUTEX_WAKE_OP.
///
/// # Errors
/// ENOSYS (operation), EFAULT, EINVAL.
pub fn wake_op(
    mm: &Arc<Mm>,
    address: u64,
    count: u32,
    target: u64,
    count2: u32,
    op: u32,
    shared: bool,
) -> Result<u64> {
    let mut operand = (op >> 12 & 0xfff) as i32;
    let compare = ((op << 20) as i32) >> 20;
    operand = (operand << 20) >> 20;
    if op & 0x8000_0000 != 0 {
        operand = 1i32.checked_shl(operand as u32 & 31).unwrap_or(0);
    }
    let apply = |old: u32| -> Result<u32> {
        let operand = operand as u32;
        Ok(match op >> 28 & 7 {
            c::FUTEX_OP_SET => operand,
            c::FUTEX_OP_ADD => old.wrapping_add(operand),
            c::FUTEX_OP_OR => old | operand,
            c::FUTEX_OP_ANDN => old & !operand,
            c::FUTEX_OP_XOR => old ^ operand,
            _ => return Err(Errno::ENOSYS),
        })
    };
    let old = mm.with_word(target, true, |word| -> Result<u32> {
        loop {
            let old = word.load(Ordering::SeqCst);
            if word.compare_exchange(old, apply(old)?, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                return Ok(old);
            }
        }
    })?? as i32;
    let mut woken = wake(mm, address, count, MATCH_ANY, shared)?;
    let also = match op >> 24 & 0xf {
        c::FUTEX_OP_CMP_EQ => old == compare,
        c::FUTEX_OP_CMP_NE => old != compare,
        c::FUTEX_OP_CMP_LT => old < compare,
        c::FUTEX_OP_CMP_LE => old <= compare,
        c::FUTEX_OP_CMP_GT => old > compare,
        c::FUTEX_OP_CMP_GE => old >= compare,
        _ => return Err(Errno::ENOSYS),
    };
    if also {
        woken += wake(mm, target, count2, MATCH_ANY, shared)?;
    }
    Ok(woken)
}

/// At a task's end: marks the robust futexes that it holds as their owner's death, and wakes one waiter each.
pub fn exit_robust_list(current: &CurrentTask) {
    let head = current.robust_list.swap(0, Ordering::Relaxed);
    if head == 0 {
        return;
    }
    let mm = current.mm();
    let word = |at: u64| current.read_obj::<u64>(at);
    let (Ok(mut entry), Ok(offset), Ok(pending)) = (word(head), word(head + 8), word(head + 16)) else {
        return;
    };
    for _ in 0..ROBUST_LIMIT {
        if entry & !1 == head {
            break;
        }
        let next = word(entry & !1);
        if entry & !1 != pending & !1 {
            release_robust(current, &mm, (entry & !1).wrapping_add(offset), false);
        }
        match next {
            Ok(next) => entry = next,
            Err(_) => return,
        }
    }
    if pending & !1 != 0 {
        release_robust(current, &mm, (pending & !1).wrapping_add(offset), true);
    }
}

fn release_robust(current: &CurrentTask, mm: &Arc<Mm>, address: u64, pending: bool) {
    let tid = current.tid();
    let result = mm.with_word(address, true, |word: &AtomicU32| {
        loop {
            let old = word.load(Ordering::SeqCst);
            if old & c::FUTEX_TID_MASK != tid {
                return pending && old == 0;
            }
            let new = old & c::FUTEX_WAITERS | c::FUTEX_OWNER_DIED;
            if word.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                return old & c::FUTEX_WAITERS != 0;
            }
        }
    });
    if result == Ok(true) {
        let _ = wake(mm, address, 1, MATCH_ANY, true);
        let _ = wake(mm, address, 1, MATCH_ANY, false);
    }
}
