//! The stubs of an address space, one for each vCPU that has run it, and the spare ones of each vCPU.
//!
//! That a stub is stopped is only its word: a program can write the control words. So frames that were taken out of
//! the page tables are not free before every stub of the space has unmapped them, which the sentry knows
//! ([`Stub::flush`]), or is gone.

use super::area::Area;
use super::stub::Stub;
use crate::arch::x86_64::{cpu, port};
use crate::sync::SpinLock;
use abi::boot::MAX_CPUS;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

/// Stubs of ended address spaces that a vCPU keeps.
const MAX_SPARE: usize = 8;
/// Nothing is mapped there.
const NOTHING: u64 = u64::MAX;

static SPARE: [SpinLock<Vec<Stub>>; MAX_CPUS] = [const { SpinLock::new(Vec::new()) }; MAX_CPUS];

/// Place of a vCPU's stub.
enum Slot {
    None,
    /// Its stub was ended for the sake of memory; the area waits for the next, which there may be none for then.
    Area(Area),
    Idle(Stub),
    /// A vCPU works with it.
    Taken,
}

/// The stubs of an address space.
pub struct Stubs {
    slots: [SpinLock<Slot>; MAX_CPUS],
    /// For each vCPU the generation up to which its stub has unmapped what was taken away, or [`NOTHING`].
    clean: [AtomicU64; MAX_CPUS],
}

impl Stubs {
    /// None yet.
    pub fn new() -> Self {
        Self {
            slots: [const { SpinLock::new(Slot::None) }; MAX_CPUS],
            clean: [const { AtomicU64::new(NOTHING) }; MAX_CPUS],
        }
    }

    /// Whether nothing that was taken away before `generation` began is mapped in any stub.
    pub fn passed(&self, generation: u64) -> bool {
        self.clean.iter().take(cpu::count()).all(|clean| clean.load(Ordering::SeqCst) >= generation)
    }

    /// What is in a vCPU's place, which is taken then.
    fn take_slot(&self, cpu: usize) -> Slot {
        loop {
            let slot = core::mem::replace(&mut *self.slots[cpu].lock(), Slot::Taken);
            if !matches!(slot, Slot::Taken) {
                return slot;
            }
            // It is being ended, by a vCPU that needs the lock for it.
            crate::arch::relax();
        }
    }

    /// Leaves nothing, or an area, in a place that was taken.
    fn leave(&self, cpu: usize, area: Option<Area>) {
        let mut slot = self.slots[cpu].lock();
        *slot = area.map_or(Slot::None, Slot::Area);
        self.clean[cpu].store(NOTHING, Ordering::SeqCst);
    }

    /// Takes this vCPU's stub to run in it, or one without mappings. `generation` and `invalidations` are those of
    /// before. `None`: there is no process to be had.
    pub(super) fn take(&self, generation: u64, invalidations: u64) -> Option<Stub> {
        let me = cpu::id();
        let area = match self.take_slot(me) {
            Slot::Idle(stub) if !stub.is_stale() => return Some(stub),
            Slot::Area(area) => Some(area),
            _ => None,
        };
        // Before it has anything mapped.
        self.clean[me].store(generation, Ordering::SeqCst);
        let stub = match area {
            Some(area) => Stub::spawn_in(area, invalidations),
            None => spare(invalidations).or_else(|| Stub::spawn(invalidations)),
        };
        if stub.is_none() {
            self.leave(me, None);
        }
        stub
    }

    /// The stub that this vCPU has taken has unmapped what was taken away before `generation` began.
    pub(super) fn set_clean(&self, generation: u64) {
        self.clean[cpu::id()].store(generation, Ordering::SeqCst);
    }

    /// Puts the stub back that was taken; a dead one is ended.
    pub(super) fn put(&self, stub: Stub) {
        let me = cpu::id();
        if stub.is_dead() {
            stub.end();
            self.leave(me, None);
        } else {
            *self.slots[me].lock() = Slot::Idle(stub);
        }
    }

    /// Lets go of what was taken away before `generation` began: the stubs of other vCPUs that may have it mapped and
    /// that nobody works with are ended, this vCPU's is emptied where `own` says so. Those that somebody works with let
    /// go before their programs run again.
    pub fn let_go(&self, generation: u64, own: bool) {
        for cpu in 0..cpu::count() {
            if self.clean[cpu].load(Ordering::SeqCst) >= generation || (cpu == cpu::id() && !own) {
                continue;
            }
            let stub = {
                let mut slot = self.slots[cpu].lock();
                match core::mem::replace(&mut *slot, Slot::Taken) {
                    Slot::Idle(stub) => stub,
                    other => {
                        *slot = other;
                        continue;
                    }
                }
            };
            if stub.is_stale() {
                self.leave(cpu, None);
            } else if cpu == cpu::id() {
                self.empty(stub);
            } else {
                self.leave(cpu, Some(stub.kill()));
            }
        }
    }

    /// Empties this vCPU's stub.
    fn empty(&self, mut stub: Stub) {
        let generation = port::generation();
        stub.unmap_all();
        if !stub.is_dead() {
            self.set_clean(generation);
        }
        self.put(stub);
    }

    /// Gives all up; nobody runs in the space any more. This vCPU's is emptied and kept for the next space, those of
    /// other vCPUs, whose listeners are not this one's, are ended.
    pub fn release(&self) {
        for cpu in 0..MAX_CPUS {
            match self.take_slot(cpu) {
                Slot::Idle(stub) if stub.is_stale() => {}
                Slot::Idle(stub) if cpu == cpu::id() => keep_or_end(stub),
                Slot::Idle(stub) => stub.end(),
                Slot::Area(_) | Slot::None | Slot::Taken => {}
            }
            self.leave(cpu, None);
        }
    }
}

impl Default for Stubs {
    fn default() -> Self {
        Self::new()
    }
}

/// Keeps a stub of this vCPU for the next space, as new, if there is room and it complies.
fn keep_or_end(mut stub: Stub) {
    let spares = &SPARE[cpu::id()];
    if spares.lock().len() < MAX_SPARE && stub.clear() {
        spares.lock().push(stub);
    } else {
        stub.end();
    }
}

fn spare(invalidations: u64) -> Option<Stub> {
    loop {
        let stub = SPARE[cpu::id()].lock().pop()?;
        if !stub.is_stale() {
            return Some(stub.reuse(invalidations));
        }
    }
}

/// Who may still reach frames that were taken out of an address space: see [`crate::mm::quarantine`].
pub struct Holders {
    space: u64,
    stubs: Option<alloc::sync::Arc<Stubs>>,
}

impl Holders {
    /// Those of a space; its stubs where it has any.
    pub fn new(space: u64, stubs: Option<alloc::sync::Arc<Stubs>>) -> Self {
        Self { space, stubs }
    }

    /// Whether none can reach what was taken away before `generation` began.
    pub fn gone(&self, generation: u64) -> bool {
        match &self.stubs {
            Some(stubs) => stubs.passed(generation),
            None => port::grace_passed(self.space, generation),
        }
    }

    /// Lets them go sooner; `all`: those too that go by themselves when this vCPU goes back to its program.
    pub fn hurry(&self, generation: u64, all: bool) {
        port::kick_holders(self.space, generation);
        if let Some(stubs) = &self.stubs {
            stubs.let_go(generation, all);
        }
    }
}
