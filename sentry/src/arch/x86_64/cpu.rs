//! The per-CPU area, descriptor tables and control of one vCPU.

use super::context::{FRAME_END, UserContext};
use super::entry;
use super::port::{self, Flavour};
use crate::mm::frames::physmap;
use abi::boot::{
    CPU_AREA_SIZE, CPU_AREAS_GPA, CPU_IDT, CPU_IST1_TOP, CPU_IST2_TOP, CPU_IST3_TOP, CPU_PV_CELL,
    CPU_STACK_TOP, CPU_TSS, MAX_CPUS, SEL_KERNEL_CODE,
};
use core::arch::asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// What a vCPU reaches through GS. The assembler entries know the first fields.
#[repr(C, align(64))]
pub struct PerCpu {
    this: u64,
    kernel_rsp: u64,
    frame_end: u64,
    scratch: u64,
    id: u64,
    pv_cell: u64,
    tss: u64,
    /// While in ring 3: the value of the global generation at entry; 0 in ring 0.
    pub user_generation: AtomicU64,
    /// Identity of the address space that is loaded.
    pub space: AtomicU64,
    /// The address space's invalidation counter as of this vCPU's last own flush.
    pub flushed: AtomicU64,
    /// Task whose extended registers are loaded (its address), 0 for none.
    pub fpu_owner: AtomicU64,
    /// Whether the timer interrupt came in ring 0 since this was looked at last.
    pub(super) timer_fired: AtomicBool,
}

struct Areas(UnsafeCell<[PerCpu; MAX_CPUS]>);
// SAFETY: an area's plain fields are written by its own vCPU only; what others read is atomic.
unsafe impl Sync for Areas {}

static AREAS: Areas = Areas(UnsafeCell::new(
    [const {
        PerCpu {
            this: 0,
            kernel_rsp: 0,
            frame_end: 0,
            scratch: 0,
            id: 0,
            pv_cell: 0,
            tss: 0,
            user_generation: AtomicU64::new(0),
            space: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
            fpu_owner: AtomicU64::new(0),
            timer_fired: AtomicBool::new(false),
        }
    }; MAX_CPUS],
));
static COUNT: AtomicU32 = AtomicU32::new(1);

/// Number of vCPUs that the sandbox was given.
pub fn count() -> usize {
    COUNT.load(Ordering::Relaxed) as usize
}

pub(super) fn set_count(n: u32) {
    COUNT.store(n.clamp(1, MAX_CPUS as u32), Ordering::Relaxed);
}

/// Index of this vCPU.
#[inline]
pub fn id() -> usize {
    let id: u64;
    // SAFETY: GS holds this vCPU's area since its boot.
    unsafe { asm!("mov {}, gs:[32]", out(reg) id, options(nostack, preserves_flags, readonly)) };
    id as usize
}

/// The area of any vCPU: its atomic fields.
#[inline]
pub fn area(cpu: usize) -> &'static PerCpu {
    // SAFETY: the fields that change under shared access are atomic or private to their vCPU's code in this module.
    unsafe { &(*AREAS.0.get())[cpu] }
}

/// The area of this vCPU.
#[inline]
pub fn this() -> &'static PerCpu {
    area(id())
}

/// CR2 of the last page fault of this vCPU.
#[inline]
pub fn cr2() -> u64 {
    match port::flavour() {
        Flavour::Pvm => {
            // SAFETY: the PV cell is in guest memory for good; the hypervisor writes CR2 at offset 8.
            unsafe { core::ptr::read_volatile((this().pv_cell + 8) as *const u64) }
        }
        Flavour::Hardware => {
            let value: u64;
            // SAFETY: reading CR2 has no effect.
            unsafe { asm!("mov {}, cr2", out(reg) value, options(nostack, preserves_flags)) };
            value
        }
        Flavour::Systrap => 0,
    }
}

/// Opens (`true`) or closes the pvm flavour's virtual interrupt flag of ring 0.
pub(super) fn set_pv_if(on: bool) {
    // SAFETY: the PV cell is in guest memory for good; byte 0 is the virtual interrupt flag.
    unsafe { core::ptr::write_volatile(this().pv_cell as *mut u8, u8::from(on)) };
}

/// Makes `ctx` the place where entries from ring 3 leave the registers.
pub fn set_frame(ctx: &UserContext) {
    let end = core::ptr::from_ref(ctx).expose_provenance() as u64 + FRAME_END as u64;
    let area = this();
    // SAFETY: own area; the TSS is read by the CPU at each delivery, so a plain store is enough.
    unsafe {
        asm!("mov gs:[16], {}", in(reg) end, options(nostack, preserves_flags));
        if area.tss != 0 {
            ((area.tss + 4) as *mut u64).write_unaligned(end);
        }
    }
}

pub(super) fn cpu_area_va(cpu: usize) -> u64 {
    physmap(CPU_AREAS_GPA + cpu as u64 * CPU_AREA_SIZE).expose_provenance() as u64
}

/// Sets this vCPU's area and descriptor tables up.
///
/// # Safety
/// Once for each vCPU, by that vCPU, before anything else of it.
pub(super) unsafe fn init(cpu: usize) {
    let base = cpu_area_va(cpu);
    // SAFETY: the area of this vCPU, which no other touches.
    unsafe {
        let area = &mut (*AREAS.0.get())[cpu];
        area.id = cpu as u64;
        // In a restored machine they have the values of the old one's vCPU.
        area.user_generation = AtomicU64::new(0);
        area.space = AtomicU64::new(0);
        area.flushed = AtomicU64::new(0);
        area.fpu_owner = AtomicU64::new(0);
        area.this = core::ptr::from_ref(area).expose_provenance() as u64;
        area.pv_cell = base + CPU_PV_CELL;
        asm!("wrgsbase {}", in(reg) area.this, options(nostack, preserves_flags));
        if port::flavour() == Flavour::Systrap {
            return;
        }
        area.tss = base + CPU_TSS;
        let tss = area.tss as *mut u8;
        tss.add(4).cast::<u64>().write_unaligned(base + CPU_STACK_TOP);
        tss.add(36).cast::<u64>().write_unaligned(base + CPU_IST1_TOP);
        tss.add(44).cast::<u64>().write_unaligned(base + CPU_IST2_TOP);
        tss.add(52).cast::<u64>().write_unaligned(base + CPU_IST3_TOP);
        tss.add(102).cast::<u16>().write_unaligned(104);
        let vectors = match port::flavour() {
            Flavour::Pvm => &raw const entry::runsc_vectors_pvm,
            _ => &raw const entry::runsc_vectors_hw,
        };
        let idt = (base + CPU_IDT) as *mut u64;
        for vector in 0..256u64 {
            let handler = vectors.expose_provenance() as u64 + vector * 16;
            // int3 and into may be executed by programs.
            let dpl: u64 = if vector == 3 || vector == 4 { 3 } else { 0 };
            let ist: u64 = match vector {
                8 => 1,
                2 | 18 => 2,
                _ => 0,
            };
            let low = (handler & 0xffff)
                | u64::from(SEL_KERNEL_CODE) << 16
                | ist << 32
                | (0x8e | dpl << 5) << 40
                | (handler >> 16 & 0xffff) << 48;
            idt.add(2 * vector as usize).write_volatile(low);
            idt.add(2 * vector as usize + 1).write_volatile(handler >> 32);
        }
    }
}

/// AT_HWCAP and AT_HWCAP2: the features of CPUID leaf 1, and whether ring 3 may use FSGSBASE.
pub fn hwcap() -> (u64, u64) {
    let leaf = core::arch::x86_64::__cpuid(1);
    (u64::from(leaf.edx), 2)
}
