//! From the first instruction to the kernel's start.

use super::{apic, cpu, fpu, hostcall, pgtable, port};
use crate::mm::frames;
use abi::boot::{BootInfo, Extent, MAX_BOOT_EXTENTS, PlatformKind, Zone};
use abi::hostcall::MemGrow;
use core::sync::atomic::{AtomicBool, Ordering};

static READY: AtomicBool = AtomicBool::new(false);

/// Entry of every vCPU, on its boot stack.
pub(super) extern "C" fn start(info: *const BootInfo, cpu: u64) -> ! {
    // SAFETY: the VMM passes the address of the page that it has filled in.
    let info = unsafe { &*info };
    let restored = info.restored != 0;
    if cpu == 0 && restored {
        cpu::set_count(info.cpus);
    } else if cpu == 0 {
        let kind = PlatformKind::from_u32(info.platform).unwrap_or(PlatformKind::Hardware);
        port::set_flavour(kind);
        frames::init(
            info.physmap,
            kind == PlatformKind::Systrap,
            // What lies below the first free address counts for the host.
            info.memory_limit,
            info.free_gpa,
            grow,
            pgtable::extent_added,
        );
        cpu::set_count(info.cpus);
    }
    // SAFETY: once for each vCPU, first of all.
    unsafe { cpu::init(cpu as usize) };
    if port::flavour() != port::Flavour::Systrap {
        apic::init();
    }
    if cpu != 0 {
        while !READY.load(Ordering::Acquire) {
            core::hint::spin_loop();
        }
        crate::kernel::boot::run_secondary()
    }
    if restored {
        super::stack::restored();
        crate::kernel::freeze::restored(info)
    }
    assert!(info.version == abi::HOST_INTERFACE_VERSION, "host interface version {}", info.version);
    fpu::init(info.xcr0, info.xsave_size);
    for extent in info.extents.iter().take((info.extent_count as usize).min(MAX_BOOT_EXTENTS)) {
        let mut extent = *extent;
        if extent.gpa == 0 {
            extent.gpa = info.free_gpa;
            extent.len -= info.free_gpa;
        }
        frames::add_extent(extent);
    }
    pgtable::init(info.boot_pgd);
    READY.store(true, Ordering::Release);
    let spec = (frames::physmap(info.spec_gpa), info.spec_len as usize);
    // SAFETY: the VMM has put the specification there; nothing else uses that memory.
    let spec = unsafe { core::slice::from_raw_parts(spec.0, spec.1) };
    crate::kernel::boot::run_first(info, spec)
}

fn grow(len: u64, zone: Zone) -> Option<Extent> {
    let gpa = hostcall::host_call(&MemGrow { len, zone: zone as u64 });
    let gpa = u64::try_from(gpa).ok()?;
    pgtable::map_extent(gpa, len)?;
    Some(Extent { gpa, len, zone: zone as u64 })
}
