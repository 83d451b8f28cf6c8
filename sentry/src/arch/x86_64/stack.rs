//! Kernel stacks and the switch between them.

use super::entry;
use super::pgtable;
use super::port::{self, Flavour};
use crate::mm::frames;
use crate::sync::SpinLock;
use abi::PAGE_SIZE;
use abi::boot::KVM_STACKS;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering};
use smallvec::SmallVec;

/// Bytes of a kernel stack: 2^3 frames.
const STACK_ORDER: u8 = 3;
const STACK_SIZE: u64 = PAGE_SIZE << STACK_ORDER;
/// Distance between stacks under `kvm`: what lies between is never mapped, so an overflow is a double fault.
const STRIDE: u64 = 2 * STACK_SIZE;
/// Lowest pages of stacks under `systrap`, which cannot be reached: an overflow ends the sentry process.
static GUARDS: SpinLock<Vec<u64>> = SpinLock::new(Vec::new());

/// Most return addresses of a task that are told.
const MAX_CALLERS: usize = 24;

static NEXT: AtomicU64 = AtomicU64::new(0);
static SPARE: SpinLock<Vec<u64>> = SpinLock::new(Vec::new());

/// A kernel stack; given to a list of spare ones when dropped.
struct Stack {
    top: u64,
}

impl Stack {
    fn new() -> Option<Self> {
        let spare = SPARE.lock().pop();
        if let Some(top) = spare {
            return Some(Self { top });
        }
        let block = frames::alloc_kernel_or_fail(STACK_ORDER)?;
        if port::flavour() == Flavour::Systrap {
            let base = block.expose_provenance() as u64;
            if !super::systrap::forbid_page(base) {
                // SAFETY: allocated just now with this order; nobody else knows of it.
                unsafe { frames::free_kernel(block, STACK_ORDER) };
                return None;
            }
            GUARDS.lock().push(base);
            return Some(Self { top: base + STACK_SIZE });
        }
        let base = KVM_STACKS + NEXT.fetch_add(1, Ordering::Relaxed) * STRIDE + STACK_SIZE;
        let gpa = frames::gpa_of(block);
        for page in 0..1 << STACK_ORDER {
            pgtable::map_kernel(base + page * PAGE_SIZE, gpa + page * PAGE_SIZE)?;
        }
        Some(Self { top: base + STACK_SIZE })
    }
}

/// After a restore under `systrap`: the new sentry process has all its memory.
pub(super) fn restored() {
    for base in GUARDS.lock().iter() {
        if !super::systrap::forbid_page(*base) {
            crate::warn!("a kernel stack has no guard page");
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        SPARE.lock().push(self.top);
    }
}

/// Where a task that is switched out goes on.
pub struct KernelContext {
    rsp: UnsafeCell<u64>,
    stack: Option<Stack>,
}

// SAFETY: `rsp` is only used by `switch`, whose callers own the scheduling of both contexts.
unsafe impl Sync for KernelContext {}

impl KernelContext {
    /// A context on a new stack that begins in [`crate::kernel::sched::task_entry`]. `None`: no memory.
    pub fn new() -> Option<Self> {
        let stack = Stack::new()?;
        let rsp = stack.top - 9 * 8;
        // SAFETY: the stack is ours alone.
        unsafe {
            let frame = rsp as *mut u64;
            for i in 0..9 {
                frame.add(i).write(0);
            }
            // Six registers, then the return address; two words keep the alignment of a call.
            frame.add(6).write(entry::runsc_task_entry as *const () as u64);
        }
        Some(Self { rsp: UnsafeCell::new(rsp), stack: Some(stack) })
    }

    /// The context of a vCPU's idle loop, which runs on its boot stack already.
    pub const fn idle() -> Self {
        Self { rsp: UnsafeCell::new(0), stack: None }
    }

    /// Lowest and highest address of the stack, where it has one of its own.
    pub fn bounds(&self) -> Option<(u64, u64)> {
        self.stack.as_ref().map(|s| (s.top - STACK_SIZE, s.top))
    }

    /// Return addresses of the functions that a task which is switched out is in, innermost first. Of one that is
    /// switched in meanwhile they may be any numbers.
    pub fn callers(&self) -> SmallVec<[u64; MAX_CALLERS]> {
        let mut out = SmallVec::new();
        let Some((base, top)) = self.bounds() else { return out };
        // The lowest page may be a guard page.
        let word = |at: u64| {
            let within = at.is_multiple_of(8) && at >= base + PAGE_SIZE && at <= top - 8;
            // SAFETY: the word lies in a stack of this context, which stays mapped; it is only a number, whoever writes
            // it meanwhile.
            within.then(|| unsafe { (at as *const u64).read_volatile() })
        };
        // SAFETY: only a number, which `word` checks.
        let rsp = unsafe { self.rsp.get().read_volatile() };
        // Six registers were pushed, the frame pointer first; then comes the return address.
        let mut caller = word(rsp + 6 * 8);
        let mut frame = word(rsp + 5 * 8);
        while let Some(address) = caller.filter(|a| *a != 0)
            && out.len() < MAX_CALLERS
        {
            out.push(address);
            let Some(at) = frame else { break };
            caller = word(at + 8);
            frame = word(at).filter(|next| *next > at);
        }
        out
    }
}

/// Leaves `from` and goes on with `to`. Returns when something switches back to `from`.
///
/// The scheduler's part of the contract: `from` is the running context, and `to` is switched out and run by nobody
/// else.
pub fn switch(from: &KernelContext, to: &KernelContext) {
    // SAFETY: see above.
    unsafe { entry::runsc_switch(from.rsp.get(), *to.rsp.get()) };
}

/// The context of a task, without a borrow of the reference: the scheduler keeps the task alive as long as it may be
/// switched to or from.
pub fn context_of(task: &alloc::sync::Arc<crate::kernel::task::Task>) -> &'static KernelContext {
    // SAFETY: see above.
    unsafe { &*core::ptr::from_ref(&task.context) }
}

pub(super) extern "C" fn task_start() -> ! {
    crate::kernel::sched::task_entry()
}
