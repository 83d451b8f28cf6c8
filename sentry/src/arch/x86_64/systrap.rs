//! The port to `systrap`: programs run in stub processes, see [`abi::systrap`].
//!
//! A stub is one vCPU's TLB for one address space: pages are mapped in it when the program faults on them, and
//! unmapped before the program runs on when the page tables have lost rights.

use super::bases::Bases;
use super::context::{UserContext, VECTOR_SYSCALL};
use super::cpu;
use super::fpu::{self, FpuState};
use super::pgtable::Space;
use crate::kernel::freeze;
use crate::mm::frames::{self, physmap};
use crate::sync::SpinLock;
use abi::PAGE_SIZE;
use abi::boot::{CPU_HOSTCALL, MAX_CPUS, VECTOR_IPI, VECTOR_TIMER};
use abi::hostcall::{StubKill, StubSpawn};
use abi::systrap::{
    CALL_DONE, CALL_IDLE, CALL_REQUEST, CPU_CALL_STATE, CPU_KICK, LISTENER_FD, STATE_OPERATE, STATE_RUN,
    STATE_STOPPED, STUB_AREA, STUB_AREA_ORDER, STUB_AREA_SIZE, STUB_KICK_SIGNAL, STUB_MEMFD, STUB_USER_TOP,
    StubControl, USER_ZONE_GPA,
};
use alloc::vec::Vec;
use core::arch::asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use linux_raw_sys::general as c;

/// Turns that are spent looking before a thread waits in futex(2). A vCPU and its stubs are on one CPU, where the
/// other side only runs once this one waits.
const SPINS: u32 = 1;
/// Most pages that are mapped around a fault.
const AROUND: u64 = 64;
/// Stubs of ended address spaces that a vCPU keeps.
const MAX_SPARE: usize = 8;
/// How long a stub may take for what it does at once: then a program has made it hang, and it is ended.
const PATIENCE_NS: u64 = 10 * crate::time::NS;
/// Lowest address that programs can map.
const USER_BOTTOM: u64 = 0x1_0000;

/// seccomp_unotify(2): SECCOMP_IOCTL_NOTIF_RECV and SECCOMP_IOCTL_NOTIF_SEND.
const NOTIF_RECV: u64 = 0xc050_2100;
const NOTIF_SEND: u64 = 0xc018_2101;
const NOTIF_CONTINUE: u32 = 1;
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

/// Offsets in the stub's `ucontext`.
const UC_REGS: u64 = 40;
const UC_ERROR: u64 = UC_REGS + 152;
const UC_TRAP: u64 = UC_REGS + 160;
const UC_CR2: u64 = UC_REGS + 176;
const UC_FPSTATE: u64 = UC_REGS + 184;
const UC_SIZE: u64 = UC_REGS + 256;
/// Part of the extended state that the host's kernel marks for itself.
const SW_RESERVED: core::ops::Range<usize> = 464..512;
/// Offset of the architecture in a SIGSYS siginfo.
const SI_ARCH: u64 = 28;

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Notification {
    id: u64,
    pid: u32,
    flags: u32,
    nr: i32,
    arch: u32,
    rip: u64,
    args: [u64; 6],
}

#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

#[repr(C)]
struct FutexWaiter {
    value: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

/// A system call of the sentry process itself; its own filter names the few that there are.
fn host_syscall(nr: u32, args: [u64; 6]) -> i64 {
    let ret: i64;
    // SAFETY: callers pass addresses of memory of their own that outlives the call.
    unsafe {
        asm!("syscall", inlateout("rax") i64::from(nr) => ret, in("rdi") args[0], in("rsi") args[1],
             in("rdx") args[2], in("r10") args[3], in("r8") args[4], in("r9") args[5],
             lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    ret
}

fn address<T>(value: &T) -> u64 {
    core::ptr::from_ref(value).expose_provenance() as u64
}

fn futex_wake(word: &AtomicU32) {
    host_syscall(c::__NR_futex, [address(word), u64::from(c::FUTEX_WAKE), 1, 0, 0, 0]);
}

fn timespec(ns: u64) -> [u64; 2] {
    [ns / crate::time::NS, ns % crate::time::NS]
}

/// Waits while `word` is `value`, at most until a CLOCK_MONOTONIC time.
fn futex_wait(word: &AtomicU32, value: u32, deadline: Option<u64>) {
    let limit = timespec(deadline.unwrap_or(0));
    let at = if deadline.is_some() { address(&limit) } else { 0 };
    let op = u64::from(c::FUTEX_WAIT_BITSET);
    host_syscall(c::__NR_futex, [address(word), op, u64::from(value), at, 0, u64::from(u32::MAX)]);
}

/// Waits while both words have their values, at most until a CLOCK_MONOTONIC time.
fn futex_wait_two(a: (&AtomicU32, u32), b: (&AtomicU32, u32), deadline: Option<u64>) {
    const SIZE_U32: u32 = 2;
    let waiters = [a, b].map(|(word, value)| FutexWaiter {
        value: u64::from(value),
        address: address(word),
        flags: SIZE_U32,
        reserved: 0,
    });
    let limit = timespec(deadline.unwrap_or(0));
    let at = if deadline.is_some() { address(&limit) } else { 0 };
    host_syscall(c::__NR_futex_waitv, [address(&waiters), 2, 0, at, u64::from(c::CLOCK_MONOTONIC), 0]);
}

/// A word of a vCPU's area.
fn cpu_word(cpu: usize, offset: u64) -> &'static AtomicU32 {
    // SAFETY: the area is in guest memory for good, and the word is only used atomically by both sides.
    unsafe { &*((cpu::cpu_area_va(cpu) + CPU_HOSTCALL + offset) as *const AtomicU32) }
}

/// Lets the broker serve this vCPU's host-call block.
pub(super) fn host_call() {
    let state = cpu_word(cpu::id(), CPU_CALL_STATE);
    state.store(CALL_REQUEST, Ordering::SeqCst);
    futex_wake(state);
    while state.load(Ordering::SeqCst) != CALL_DONE {
        futex_wait(state, CALL_REQUEST, None);
    }
    state.store(CALL_IDLE, Ordering::SeqCst);
}

/// When each vCPU's timer fires, ns of CLOCK_MONOTONIC.
static ARMED: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(u64::MAX) }; MAX_CPUS];

pub(super) fn arm(ns: u64) {
    ARMED[cpu::id()].store(crate::time::monotonic_ns().saturating_add(ns), Ordering::SeqCst);
}

fn deadline() -> Option<u64> {
    match ARMED[cpu::id()].load(Ordering::SeqCst) {
        u64::MAX => None,
        at => Some(at),
    }
}

fn timer_expired() -> bool {
    let armed = &ARMED[cpu::id()];
    if armed.load(Ordering::SeqCst) <= crate::time::monotonic_ns() {
        armed.store(u64::MAX, Ordering::SeqCst);
        return true;
    }
    false
}

pub(super) fn kick(cpu: usize) {
    let word = cpu_word(cpu, CPU_KICK);
    word.store(1, Ordering::SeqCst);
    futex_wake(word);
}

pub(super) fn idle(ready: bool) -> bool {
    let word = cpu_word(cpu::id(), CPU_KICK);
    if !ready {
        futex_wait(word, 0, deadline());
    }
    word.store(0, Ordering::SeqCst);
    timer_expired()
}

/// A stub process.
pub struct Stub {
    pid: u32,
    area: u64,
    /// The space's invalidations as of its last unmapping.
    flushed: u64,
    dead: bool,
    /// Restore of the sandbox since which it is there: the processes of another machine are not in this one.
    restores: u64,
}

static SPARE: [SpinLock<Vec<Stub>>; MAX_CPUS] = [const { SpinLock::new(Vec::new()) }; MAX_CPUS];

impl Stub {
    /// A stub for this vCPU with nothing mapped; `flushed`: what the space has counted so far.
    fn new(flushed: u64) -> Option<Self> {
        while let Some(mut stub) = SPARE[cpu::id()].lock().pop() {
            if stub.forget_stale() {
                continue;
            }
            stub.flushed = flushed;
            return Some(stub);
        }
        let area = frames::alloc_area(STUB_AREA_ORDER)?;
        let mut stub = Self { pid: 0, area, flushed, dead: false, restores: freeze::restores() };
        // Its first stop changes the state.
        stub.state().store(STATE_RUN, Ordering::SeqCst);
        let pid = crate::host::call(&StubSpawn { cpu: cpu::id() as u64, area });
        let Ok(pid) = pid else {
            frames::free_area(area, STUB_AREA_ORDER);
            return None;
        };
        stub.pid = pid as u32;
        let args = [
            STUB_AREA,
            STUB_AREA_SIZE,
            u64::from(c::PROT_READ | c::PROT_WRITE),
            u64::from(c::MAP_SHARED | c::MAP_FIXED),
            STUB_MEMFD,
            area - USER_ZONE_GPA,
        ];
        stub.answer(c::__NR_mmap, &args);
        stub.wait_stopped();
        (!stub.dead).then_some(stub)
    }

    /// Frees the area of a stub that is not in this machine; `false` where it is.
    fn forget_stale(&self) -> bool {
        let stale = self.restores != freeze::restores();
        if stale {
            frames::free_area(self.area, STUB_AREA_ORDER);
        }
        stale
    }

    fn state(&self) -> &AtomicU32 {
        // SAFETY: the area is a frame block that this stub owns; the word is used atomically by both sides.
        unsafe { &*physmap(self.area).cast::<AtomicU32>() }
    }

    /// Reads a word of the area; hostile, and only numbers.
    fn read(&self, offset: u64) -> u64 {
        // SAFETY: callers pass offsets within the area; volatile, since the program may change it at any time.
        unsafe { physmap(self.area + offset).cast::<u64>().read_unaligned() }
    }

    fn write(&self, offset: u64, value: u64) {
        // SAFETY: as in `read`.
        unsafe { physmap(self.area + offset).cast::<u64>().write_unaligned(value) };
    }

    fn field(&self, offset: usize) -> u64 {
        self.read(offset as u64)
    }

    /// Waits until the stub is stopped. A stub that a program has managed to end is marked dead.
    fn wait_stopped(&mut self) {
        let mut turns = 0;
        let start = crate::time::monotonic_ns();
        while self.state().load(Ordering::SeqCst) != STATE_STOPPED {
            turns += 1;
            if turns < SPINS {
                core::hint::spin_loop();
                continue;
            }
            let state = self.state().load(Ordering::SeqCst);
            if state == STATE_STOPPED {
                break;
            }
            futex_wait(self.state(), state, Some(crate::time::monotonic_ns() + crate::time::NS / 10));
            let late = crate::time::monotonic_ns() - start > PATIENCE_NS;
            if self.state().load(Ordering::SeqCst) != STATE_STOPPED && (late || self.signal(0) != 0) {
                self.dead = true;
                return;
            }
        }
    }

    /// tgkill(2) to the stub; 0 only asks whether it is there.
    fn signal(&self, signal: u64) -> i64 {
        let pid = u64::from(self.pid);
        host_syscall(c::__NR_tgkill, [pid, pid, signal, 0, 0, 0])
    }

    /// Answers notifications of this vCPU's listener until the expected call of this stub was let through. Any
    /// other is refused: a program has jumped to the instruction.
    fn answer(&mut self, nr: u32, args: &[u64; 6]) {
        let fd = LISTENER_FD + cpu::id() as u64;
        let start = crate::time::monotonic_ns();
        loop {
            let mut poll = [fd, 0];
            // struct pollfd: descriptor and events.
            poll[0] |= 1 << 32;
            if host_syscall(c::__NR_poll, [address(&poll), 1, 1000, 0, 0, 0]) <= 0 {
                if crate::time::monotonic_ns() - start > PATIENCE_NS || self.signal(0) != 0 {
                    self.dead = true;
                    return;
                }
                continue;
            }
            let notification = Notification::default();
            if host_syscall(c::__NR_ioctl, [fd, NOTIF_RECV, address(&notification), 0, 0, 0]) < 0 {
                continue;
            }
            // SAFETY: the host has filled the struct in behind the compiler's back.
            let got = unsafe { core::ptr::read_volatile(&raw const notification) };
            let expected = got.pid == self.pid && got.nr == nr as i32 && got.args == *args;
            let response = Response {
                id: got.id,
                value: 0,
                error: if expected { 0 } else { -1 },
                flags: if expected { NOTIF_CONTINUE } else { 0 },
            };
            host_syscall(c::__NR_ioctl, [fd, NOTIF_SEND, address(&response), 0, 0, 0]);
            if expected {
                return;
            }
        }
    }

    /// Lets the stub make a system call, and returns its result.
    fn operate(&mut self, nr: u32, args: &[u64; 6]) -> i64 {
        let at = offset_of!(StubControl, operation) as u64;
        self.write(at, u64::from(nr));
        for (i, value) in args.iter().enumerate() {
            self.write(at + 8 + 8 * i as u64, *value);
        }
        self.state().store(STATE_OPERATE, Ordering::SeqCst);
        futex_wake(self.state());
        self.answer(nr, args);
        self.wait_stopped();
        if self.dead { -3 } else { self.field(offset_of!(StubControl, result)) as i64 }
    }

    fn unmap(&mut self, start: u64, end: u64) {
        let start = start.max(USER_BOTTOM);
        let end = end.min(STUB_USER_TOP);
        if start < end && self.operate(c::__NR_munmap, &[start, end - start, 0, 0, 0, 0]) < 0 {
            // It must not keep what it has no right to.
            self.dead = true;
        }
    }

    /// Unmaps what the page tables have taken away since the last time.
    fn flush(&mut self, space: &Space) {
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
            None => self.unmap(USER_BOTTOM, STUB_USER_TOP),
        }
        self.flushed = now;
    }

    /// Maps the page at an address, and its neighbours that lie side by side in memory too, as the tables say.
    fn map_around(&mut self, space: &Space, address: u64) {
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
        let args = [
            start,
            end - start,
            u64::from(prot),
            u64::from(c::MAP_SHARED | c::MAP_FIXED),
            STUB_MEMFD,
            here.gpa - (page - start) - USER_ZONE_GPA,
        ];
        if self.operate(c::__NR_mmap, &args) < 0 && !self.dead {
            // Too many mappings: begin anew with this one.
            self.unmap(USER_BOTTOM, STUB_USER_TOP);
            if self.operate(c::__NR_mmap, &args) < 0 {
                self.dead = true;
            }
        }
    }

    /// Offset in the area of the signal frame's `ucontext`, if it is where it can be.
    fn frame(&self) -> Option<u64> {
        let offset = self.field(offset_of!(StubControl, ucontext)).checked_sub(STUB_AREA)?;
        (PAGE_SIZE..=STUB_AREA_SIZE - UC_SIZE).contains(&offset).then_some(offset)
    }

    /// Offset in the area of the extended state, if it is where it can be.
    fn state_offset(&self, frame: u64) -> Option<u64> {
        let offset = self.read(frame + UC_FPSTATE).checked_sub(STUB_AREA)?;
        let size = fpu::area_size() as u64;
        (offset >= PAGE_SIZE && offset <= STUB_AREA_SIZE.checked_sub(size)?).then_some(offset)
    }

    fn load_registers(&self, frame: u64, x: &UserContext, fpu: &FpuState) {
        let regs = [
            x.r8, x.r9, x.r10, x.r11, x.r12, x.r13, x.r14, x.r15, x.rdi, x.rsi, x.rbp, x.rbx, x.rdx, x.rax,
            x.rcx, x.rsp, x.rip, x.rflags,
        ];
        for (i, value) in regs.iter().enumerate() {
            self.write(frame + UC_REGS + 8 * i as u64, *value);
        }
        if let Some(at) = self.state_offset(frame) {
            let state = fpu.export(x);
            // SAFETY: the range lies in the area; the marks of the host's kernel stay as they are.
            unsafe {
                frames::write_raw(self.area + at, &state[..SW_RESERVED.start]);
                frames::write_raw(self.area + at + SW_RESERVED.end as u64, &state[SW_RESERVED.end..]);
            }
        }
    }

    fn store_registers(&self, frame: u64, x: &mut UserContext, fpu: &mut FpuState) {
        let mut regs = [0; 18];
        for (i, slot) in regs.iter_mut().enumerate() {
            *slot = self.read(frame + UC_REGS + 8 * i as u64);
        }
        let [r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, rflags] =
            regs;
        (x.r8, x.r9, x.r10, x.r11, x.r12, x.r13, x.r14, x.r15) = (r8, r9, r10, r11, r12, r13, r14, r15);
        (x.rdi, x.rsi, x.rbp, x.rbx, x.rdx, x.rax, x.rcx) = (rdi, rsi, rbp, rbx, rdx, rax, rcx);
        (x.rsp, x.rip, x.rflags) = (rsp, rip, rflags);
        x.sanitize();
        if let Some(at) = self.state_offset(frame) {
            let mut state = alloc::vec![0; fpu::area_size()];
            // SAFETY: the range lies in the area.
            unsafe { frames::read_raw(self.area + at, &mut state) };
            fpu.import(&state, x);
        }
    }

    /// Ends the process.
    fn end(self) {
        let _ = crate::host::call(&StubKill { pid: u64::from(self.pid) });
        frames::free_area(self.area, STUB_AREA_ORDER);
    }
}

/// Gives the stubs of an address space up, before its frames are freed: this vCPU's is emptied and kept for the next
/// space, those of other vCPUs, whose listeners are not this one's, are ended.
pub(super) fn release(stubs: Vec<Option<Stub>>) {
    for (cpu, stub) in stubs.into_iter().enumerate() {
        let Some(mut stub) = stub else { continue };
        if stub.forget_stale() {
            continue;
        }
        if cpu == cpu::id() && SPARE[cpu].lock().len() < MAX_SPARE {
            stub.unmap(USER_BOTTOM, STUB_USER_TOP);
            if !stub.dead {
                SPARE[cpu].lock().push(stub);
                continue;
            }
        }
        stub.end();
    }
}

/// Runs the program in this vCPU's stub of the space until it stops.
pub(super) fn enter(ctx: &mut UserContext, space: &Space, fpu: &mut FpuState, bases: &Bases) {
    let me = cpu::id();
    let resolved = (ctx.vector == 14).then_some(ctx.cr2);
    let kept = space.take_stub(me).filter(|stub| !stub.forget_stale());
    let stub = kept.or_else(|| Stub::new(space.invalidations()));
    let Some(mut stub) = stub else {
        // No process for it: the program cannot run. As if it were out of memory.
        died(ctx);
        return;
    };
    stub.flush(space);
    if let Some(address) = resolved {
        stub.map_around(space, address);
        stub.flush(space);
    }
    let frame = stub.frame();
    match frame {
        Some(frame) if !stub.dead => run(&mut stub, frame, ctx, fpu, bases),
        _ => stub.dead = true,
    }
    if stub.dead {
        died(ctx);
        stub.end();
    } else {
        space.put_stub(me, stub);
    }
}

/// The program has destroyed its stub: it gets what a fault gives that nothing can mend.
fn died(ctx: &mut UserContext) {
    ctx.vector = 13;
    ctx.error = 0;
}

fn run(stub: &mut Stub, frame: u64, ctx: &mut UserContext, fpu: &mut FpuState, bases: &Bases) {
    stub.load_registers(frame, ctx, fpu);
    let (fs, gs) = bases.kept();
    stub.write(offset_of!(StubControl, fs_base) as u64, fs);
    stub.write(offset_of!(StubControl, gs_base) as u64, gs);
    let kick = cpu_word(cpu::id(), CPU_KICK);
    let mut vector = 0;
    stub.state().store(STATE_RUN, Ordering::SeqCst);
    futex_wake(stub.state());
    let mut turns = 0;
    while stub.state().load(Ordering::SeqCst) == STATE_RUN {
        let (timer, kicked) = (timer_expired(), kick.swap(0, Ordering::SeqCst) != 0);
        if timer || kicked {
            vector = if timer { VECTOR_TIMER } else { VECTOR_IPI };
            stub.signal(STUB_KICK_SIGNAL);
            stub.wait_stopped();
            break;
        }
        turns += 1;
        if turns < SPINS {
            core::hint::spin_loop();
            continue;
        }
        let second = crate::time::monotonic_ns() + crate::time::NS;
        let until = deadline().map_or(second, |d| d.min(second));
        futex_wait_two((stub.state(), STATE_RUN), (kick, 0), Some(until));
        if stub.state().load(Ordering::SeqCst) == STATE_RUN && stub.signal(0) != 0 {
            stub.dead = true;
        }
        if stub.dead {
            return;
        }
    }
    let Some(frame) = stub.frame() else {
        stub.dead = true;
        return;
    };
    stub.store_registers(frame, ctx, fpu);
    bases.keep(stub.field(offset_of!(StubControl, fs_base)), stub.field(offset_of!(StubControl, gs_base)));
    let signal = stub.read(0) >> 32;
    let trap = stub.read(frame + UC_TRAP);
    ctx.error = stub.read(frame + UC_ERROR);
    ctx.cr2 = stub.read(frame + UC_CR2);
    ctx.vector = match signal as u32 {
        c::SIGSYS => {
            let info = stub.field(offset_of!(StubControl, siginfo)).wrapping_sub(STUB_AREA);
            let native = (PAGE_SIZE..=STUB_AREA_SIZE - 128).contains(&info)
                && stub.read(info + SI_ARCH) as u32 == AUDIT_ARCH_X86_64;
            ctx.error = ctx.rax;
            // 32-bit system calls are not there.
            if native { VECTOR_SYSCALL } else { 13 }
        }
        s if u64::from(s) == STUB_KICK_SIGNAL => u64::from(if vector == 0 { VECTOR_IPI } else { vector }),
        _ if trap < 32 => trap,
        _ => 13,
    };
    if vector == VECTOR_TIMER && ctx.vector != u64::from(VECTOR_TIMER) {
        // The program stopped by itself first: the timer is still to be told of.
        ARMED[cpu::id()].store(0, Ordering::SeqCst);
    }
}
