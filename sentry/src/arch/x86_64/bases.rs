//! FS and GS base of a task.

use super::port::{self, Flavour};
use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const MSR_KERNEL_GS_BASE: u32 = 0xc000_0102;

/// FS and GS base while a task is switched out.
#[derive(Debug, Default)]
pub struct Bases {
    fs: AtomicU64,
    gs: AtomicU64,
    /// The task has set its GS base: only then it is switched on pvm, where that costs microseconds.
    uses_gs: AtomicBool,
}

fn read_fs() -> u64 {
    let value: u64;
    // SAFETY: FSGSBASE is on; reading has no effect.
    unsafe { asm!("rdfsbase {}", out(reg) value, options(nostack, preserves_flags)) };
    value
}

fn write_fs(value: u64) {
    // SAFETY: the kernel does not use FS; values are checked to be canonical where they are set.
    unsafe { asm!("wrfsbase {}", in(reg) value, options(nostack, preserves_flags)) };
}

fn read_gs() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the register holds the program's GS base while the kernel's is loaded.
    unsafe {
        asm!("rdmsr", in("ecx") MSR_KERNEL_GS_BASE, out("eax") low, out("edx") high, options(nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

fn write_gs(value: u64) {
    // SAFETY: as in `read_gs`; the value is canonical.
    unsafe {
        asm!("wrmsr", in("ecx") MSR_KERNEL_GS_BASE, in("eax") value as u32, in("edx") (value >> 32) as u32,
             options(nostack, preserves_flags));
    }
}

impl Bases {
    fn switches_gs(&self) -> bool {
        match port::flavour() {
            Flavour::Pvm => self.uses_gs.load(Ordering::Relaxed),
            Flavour::Hardware => true,
            Flavour::Systrap => false,
        }
    }

    /// Keeps the values of the running task, which is about to be left.
    pub fn save(&self) {
        if port::flavour() == Flavour::Systrap {
            return;
        }
        self.fs.store(read_fs(), Ordering::Relaxed);
        if self.switches_gs() {
            self.gs.store(read_gs(), Ordering::Relaxed);
        }
    }

    /// Loads the values of the task that runs now.
    pub fn load(&self) {
        if port::flavour() == Flavour::Systrap {
            return;
        }
        write_fs(self.fs.load(Ordering::Relaxed));
        if self.switches_gs() {
            write_gs(self.gs.load(Ordering::Relaxed));
        }
    }

    /// For a new task: the values of the running one.
    pub fn copy_from_running(&self, running: &Bases) {
        running.save();
        self.fs.store(running.fs.load(Ordering::Relaxed), Ordering::Relaxed);
        self.gs.store(running.gs.load(Ordering::Relaxed), Ordering::Relaxed);
        self.uses_gs.store(running.uses_gs.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Sets the FS base of a task that does not run.
    pub fn set_fs(&self, value: u64) {
        self.fs.store(value, Ordering::Relaxed);
    }

    /// Sets the FS base of the running task.
    pub fn set_running_fs(&self, value: u64) {
        self.fs.store(value, Ordering::Relaxed);
        if port::flavour() != Flavour::Systrap {
            write_fs(value);
        }
    }

    /// Sets the GS base of the running task.
    pub fn set_running_gs(&self, value: u64) {
        self.uses_gs.store(true, Ordering::Relaxed);
        self.gs.store(value, Ordering::Relaxed);
        if port::flavour() != Flavour::Systrap {
            write_gs(value);
        }
    }

    /// FS base of the running task.
    pub fn running_fs(&self) -> u64 {
        if port::flavour() == Flavour::Systrap { self.fs.load(Ordering::Relaxed) } else { read_fs() }
    }

    /// GS base of the running task.
    pub fn running_gs(&self) -> u64 {
        if port::flavour() == Flavour::Systrap || !self.switches_gs() {
            self.gs.load(Ordering::Relaxed)
        } else {
            read_gs()
        }
    }

    /// The kept values, FS first.
    pub(super) fn kept(&self) -> (u64, u64) {
        (self.fs.load(Ordering::Relaxed), self.gs.load(Ordering::Relaxed))
    }

    /// Keeps these values.
    pub(super) fn keep(&self, fs: u64, gs: u64) {
        self.fs.store(fs, Ordering::Relaxed);
        self.gs.store(gs, Ordering::Relaxed);
    }

    /// For exec: both 0.
    pub fn reset_running(&self) {
        self.set_running_fs(0);
        if self.switches_gs() {
            self.set_running_gs(0);
        }
        self.gs.store(0, Ordering::Relaxed);
        self.uses_gs.store(false, Ordering::Relaxed);
    }
}
