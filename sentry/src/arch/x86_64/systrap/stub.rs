//! A stub process, from the side of the vCPU whose it is.

use super::area::Area;
use super::host;
use super::pace::{Move, Pace};
use crate::arch::x86_64::cpu;
use crate::arch::x86_64::pgtable::Space;
use crate::kernel::freeze;
use crate::mm::frames::{image, physmap};
use abi::PAGE_SIZE;
use abi::hostcall::{StubKill, StubSpawn};
use abi::systrap::{
    CPU_AWAY, CPU_HOME, LISTENER_FD, NO_SIGNAL, STATE_OPERATE, STATE_RUN, STATE_STOPPED, STUB_AREA,
    STUB_AREA_SIZE, STUB_MEMFD, STUB_USER_TOP, StubControl, USER_ZONE_GPA,
};
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, Ordering};
use linux_raw_sys::general as c;

/// Most pages that are mapped around a fault.
const AROUND: u64 = 64;
/// How long is waited for a stub at a time, to look whether it is there.
const GLANCE_NS: u64 = crate::time::NS / 10;
/// How often, for what it does at once: then a program has made it hang, and it is ended. Not a time, since a host that
/// stops for long stops both.
const PATIENCE: u32 = 30;
/// Turns that a stub on another CPU looks for its answer: some 20 µs.
const AWAY_SPINS: u64 = 500;
/// Calls at the instruction of operations that are refused while another is awaited.
const MAX_REFUSED: u32 = 100;
/// Lowest address that programs can map.
const USER_BOTTOM: u64 = 0x1_0000;

/// A stub process.
pub struct Stub {
    pid: u32,
    area: Area,
    /// The space's invalidations as of its last unmapping.
    flushed: u64,
    dead: bool,
    /// Where it runs.
    pub(super) pace: Pace,
    /// Restore of the sandbox since which it is there: the processes of another machine are not in this one.
    restores: u64,
}

impl Stub {
    /// A new process with nothing mapped; `flushed`: what the space has counted so far.
    pub(super) fn spawn(flushed: u64) -> Option<Self> {
        Self::spawn_in(Area::new()?, flushed)
    }

    /// The same in an area that there is; it is freed where there is no process to be had.
    pub(super) fn spawn_in(area: Area, flushed: u64) -> Option<Self> {
        let gpa = area.gpa();
        let mut stub =
            Self { pid: 0, area, flushed, dead: false, pace: Pace::default(), restores: freeze::restores() };
        stub.write(offset_of!(StubControl, spins) as u64, 0);
        // Its first stop changes the state.
        stub.state().store(STATE_RUN, Ordering::SeqCst);
        let pid = crate::host::call(&StubSpawn { cpu: cpu::id() as u64, area: gpa });
        stub.pid = pid.ok()? as u32;
        let args = [
            STUB_AREA,
            STUB_AREA_SIZE,
            u64::from(c::PROT_READ | c::PROT_WRITE),
            u64::from(c::MAP_SHARED | c::MAP_FIXED),
            STUB_MEMFD,
            gpa - USER_ZONE_GPA,
        ];
        stub.finish_operation(c::__NR_mmap, &args, true);
        if stub.dead {
            stub.end();
            return None;
        }
        Some(stub)
    }

    /// For another space, which has counted `flushed` so far.
    pub(super) fn reuse(mut self, flushed: u64) -> Self {
        if self.pace.is_away() {
            self.go(Move::Home);
        }
        self.pace = Pace::default();
        self.flushed = flushed;
        self
    }

    /// Whether it is not in this machine: nothing is left of it but its area.
    pub(super) fn is_stale(&self) -> bool {
        self.restores != freeze::restores()
    }

    /// The word through which it is told what to do.
    pub(super) fn state(&self) -> &AtomicU32 {
        // SAFETY: the area is a frame block that this stub owns; the word is used atomically by both sides.
        unsafe { &*physmap(self.area.gpa()).cast::<AtomicU32>() }
    }

    /// Address of its area.
    pub(super) fn area(&self) -> u64 {
        self.area.gpa()
    }

    /// It does not do what it is told, or is not there any more: it can only be ended.
    pub(super) fn is_dead(&self) -> bool {
        self.dead
    }

    pub(super) fn give_up(&mut self) {
        self.dead = true;
    }

    /// Reads a word of the area; hostile, and only numbers.
    pub(super) fn read(&self, offset: u64) -> u64 {
        // SAFETY: callers pass offsets within the area; raw, since the program may change it at any time.
        unsafe { physmap(self.area.gpa() + offset).cast::<u64>().read_unaligned() }
    }

    pub(super) fn write(&self, offset: u64, value: u64) {
        // SAFETY: as in `read`.
        unsafe { physmap(self.area.gpa() + offset).cast::<u64>().write_unaligned(value) };
    }

    /// A field of [`StubControl`].
    pub(super) fn field(&self, offset: usize) -> u64 {
        self.read(offset as u64)
    }

    /// The signal that it says it stopped for.
    pub(super) fn signal_word(&self) -> u32 {
        (self.field(offset_of!(StubControl, state)) >> 32) as u32
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: callers pass the offset of a word of `StubControl` that both sides use atomically.
        unsafe { &*physmap(self.area.gpa() + offset as u64).cast::<AtomicU32>() }
    }

    /// Tells it what to do. Whether it slept.
    pub(super) fn command(&self, state: u32) -> bool {
        self.state().store(state, Ordering::SeqCst);
        let slept = self.word(offset_of!(StubControl, stub_waits)).load(Ordering::SeqCst) != 0;
        if slept {
            host::futex_wake(self.state());
        }
        slept
    }

    /// Says whether the stub has to wake this thread when it stops. After saying so, look at the state once more.
    pub(super) fn set_waits(&self, waits: bool) {
        self.word(offset_of!(StubControl, sentry_waits)).store(u32::from(waits), Ordering::SeqCst);
    }

    /// Goes to another CPU, or to this vCPU's.
    pub(super) fn go(&mut self, to: Move) {
        let (offset, spins) = match to {
            Move::Away => (CPU_AWAY, AWAY_SPINS),
            Move::Home => (CPU_HOME, 0),
        };
        let mask = super::cpu_mask(offset);
        let at = (&raw const mask).expose_provenance() as u64;
        let done = mask != 0
            && host::host_syscall(c::__NR_sched_setaffinity, [u64::from(self.pid), 8, at, 0, 0, 0]) == 0;
        if !done && to == Move::Away {
            self.pace.fail();
            return;
        }
        self.write(offset_of!(StubControl, spins) as u64, spins);
    }

    /// Waits until the stub is stopped, or says so. One that a program has managed to end or to hang is marked dead.
    pub(super) fn wait_stopped(&mut self) {
        let mut glances = 0;
        loop {
            let state = self.state().load(Ordering::SeqCst);
            if state == STATE_STOPPED {
                return;
            }
            self.set_waits(true);
            let until = crate::time::monotonic_ns() + GLANCE_NS;
            if self.state().load(Ordering::SeqCst) != state {
                continue;
            }
            host::futex_wait(self.state(), state, Some(until));
            if self.state().load(Ordering::SeqCst) == state && crate::time::monotonic_ns() >= until {
                glances += 1;
                if glances > PATIENCE || self.is_gone() {
                    self.dead = true;
                    return;
                }
            }
        }
    }

    /// Whether its process has ended.
    pub(super) fn is_gone(&self) -> bool {
        self.signal(0) != 0
    }

    /// tgkill(2) to the stub.
    pub(super) fn signal(&self, signal: u64) -> i64 {
        let pid = u64::from(self.pid);
        host::host_syscall(c::__NR_tgkill, [pid, pid, signal, 0, 0, 0])
    }

    /// Lets the stub make a system call, and returns its result.
    fn operate(&mut self, nr: u32, args: &[u64; 6], renew: bool) -> i64 {
        let at = offset_of!(StubControl, operation) as u64;
        self.write(at, u64::from(nr));
        for (i, value) in args.iter().enumerate() {
            self.write(at + 8 + 8 * i as u64, *value);
        }
        self.command(STATE_OPERATE);
        self.finish_operation(nr, args, renew)
    }

    /// Waits for the stub at the instruction of operations, lets the call through, and returns its result.
    ///
    /// What is returned is true, whatever the program does. Its process has one thread, and the notification says that
    /// this thread stands in the host's kernel at that instruction: nothing writes the control words now, and what
    /// follows the instruction is our own code, which stores the result and then stops. So the words are set first, and
    /// the next stop is the one after the call. A signal in between would stop it in the handler, which says so.
    ///
    /// `renew`: it then also lets the host's kernel make a new signal frame, so that nothing is left of what a program
    /// had in its registers and in the old one.
    fn finish_operation(&mut self, nr: u32, args: &[u64; 6], renew: bool) -> i64 {
        const FAILED: i64 = -1;
        let listener = LISTENER_FD + cpu::id() as u64;
        let (mut glances, mut refused) = (0, 0);
        loop {
            let call = host::receive(listener, GLANCE_NS / 1_000_000);
            // Before the call it does not stop again: one that says so runs on.
            let lies = call.is_none() && self.state().load(Ordering::SeqCst) == STATE_STOPPED;
            let Some(call) = call else {
                glances += 1;
                if lies || glances > PATIENCE || self.is_gone() {
                    self.dead = true;
                    return FAILED;
                }
                continue;
            };
            if call.pid != self.pid || call.nr != nr as i32 || call.args != *args {
                // A program has jumped to the instruction.
                host::answer(listener, call.id, false);
                refused += 1;
                if refused > MAX_REFUSED {
                    self.dead = true;
                    return FAILED;
                }
                continue;
            }
            self.state().store(STATE_OPERATE, Ordering::SeqCst);
            self.set_waits(true);
            self.write_signal(NO_SIGNAL);
            if renew {
                self.write(offset_of!(StubControl, ucontext) as u64, 0);
            }
            if !host::answer(listener, call.id, true) {
                // A signal has taken it away from there, or ended it.
                self.dead = true;
                return FAILED;
            }
            break;
        }
        self.wait_stopped();
        let stopped_for = if renew { c::SIGSYS } else { 0 };
        if self.signal_word() != stopped_for {
            self.dead = true;
        }
        if self.dead { FAILED } else { self.field(offset_of!(StubControl, result)) as i64 }
    }

    fn write_signal(&self, signal: u32) {
        self.word(offset_of!(StubControl, signal)).store(signal, Ordering::SeqCst);
    }

    /// Unmaps a range of addresses. A stub that does not is marked dead: it must not keep what it has no right to.
    fn unmap(&mut self, start: u64, end: u64) {
        let start = start.max(USER_BOTTOM);
        let end = end.min(STUB_USER_TOP);
        if start < end && self.operate(c::__NR_munmap, &[start, end - start, 0, 0, 0, 0], false) < 0 {
            self.dead = true;
        }
    }

    /// Makes it as new: nothing mapped, and nothing left of the program. `false`: it did not comply.
    pub(super) fn clear(&mut self) -> bool {
        let args = [USER_BOTTOM, STUB_USER_TOP - USER_BOTTOM, 0, 0, 0, 0];
        self.operate(c::__NR_munmap, &args, true) >= 0 && !self.dead
    }

    /// Unmaps what the page tables have taken away since the last time.
    pub(super) fn flush(&mut self, space: &Space) {
        let now = space.invalidations();
        if now == self.flushed {
            return;
        }
        match space.invalidated_since(self.flushed) {
            Some(ranges) => {
                for (start, end) in ranges {
                    self.unmap(start, end);
                }
            }
            None => self.unmap_all(),
        }
        self.flushed = now;
    }

    /// Maps the page at an address, and its neighbours that lie side by side in memory too, as the tables say.
    pub(super) fn map_around(&mut self, space: &Space, address: u64) {
        let page = address & !(PAGE_SIZE - 1);
        let Some(here) = space.lookup(page).filter(|m| m.present) else { return };
        let alike = |at: u64, gpa: u64| {
            at < STUB_USER_TOP
                && space.lookup(at).is_some_and(|m| {
                    m.present && m.gpa == gpa && m.write == here.write && m.exec == here.exec
                })
        };
        let (mut start, mut end) = (page, page + PAGE_SIZE);
        while (end - page) / PAGE_SIZE < AROUND && alike(end, here.gpa + (end - page)) {
            end += PAGE_SIZE;
        }
        while (page - start) / PAGE_SIZE < AROUND
            && start > USER_BOTTOM
            && alike(start - PAGE_SIZE, here.gpa.wrapping_sub(page - start + PAGE_SIZE))
        {
            start -= PAGE_SIZE;
        }
        let mut prot = c::PROT_READ;
        if here.write {
            prot |= c::PROT_WRITE;
        }
        if here.exec {
            prot |= c::PROT_EXEC;
        }
        let gpa = here.gpa - (page - start);
        let (file, offset) = image::file_of(gpa).unwrap_or((STUB_MEMFD, gpa.wrapping_sub(USER_ZONE_GPA)));
        let flags = u64::from(c::MAP_SHARED | c::MAP_FIXED);
        let args = [start, end - start, u64::from(prot), flags, file, offset];
        if self.operate(c::__NR_mmap, &args, false) < 0 && !self.dead {
            // Too many mappings: begin anew with this one.
            self.unmap_all();
            if !self.dead && self.operate(c::__NR_mmap, &args, false) < 0 {
                self.dead = true;
            }
        }
    }

    /// Unmaps everything that it has of its program.
    pub(super) fn unmap_all(&mut self) {
        self.unmap(USER_BOTTOM, STUB_USER_TOP);
    }

    /// Ends the process, which has nothing mapped afterwards. Returns its area.
    pub(super) fn kill(self) -> Area {
        let _ = crate::host::call(&StubKill { pid: u64::from(self.pid) });
        self.area
    }

    /// The same, and frees its area.
    pub(super) fn end(self) {
        drop(self.kill());
    }
}
