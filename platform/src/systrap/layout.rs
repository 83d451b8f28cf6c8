//! Fills guest memory before the first instruction: image, boot information, launch specification.

use abi::boot::{
    BOOT_INFO_GPA, BootInfo, CPU_AREA_SIZE, CPU_AREAS_GPA, CPU_HOSTCALL, Extent, IMAGE_GPA, MAX_BOOT_EXTENTS,
    MAX_CPUS, PlatformKind, SHARED_GPA, SYSTRAP_PHYSMAP, SYSTRAP_START_GPA, Zone,
};
use abi::systrap::{CPU_AWAY, CPU_CALL_STATE, CPU_HOME, CPU_KICK, STUB_USER_TOP, USER_ZONE_GPA};
use abi::{HOST_INTERFACE_VERSION, PAGE_SIZE};

use super::{Host, raw};
use crate::memory::{BOOT_EXTENT, GuestMemory, OutOfRange};
use crate::{Error, Image, clock};

/// Bytes of the user zone that are there at boot.
pub const USER_EXTENT: u64 = 64 << 20;

/// Lays out the boot extents.
pub fn fill(
    memory: &GuestMemory,
    image: &Image<'_>,
    spec: &[u8],
    cpus: u32,
    host: &Host,
) -> Result<(), Error> {
    let spec_gpa = IMAGE_GPA + image.size();
    if spec_gpa >= BOOT_EXTENT {
        let reason = format!("it needs {} bytes of the {BOOT_EXTENT} at boot", image.size());
        return Err(Error::Image { reason });
    }
    let too_large = |_: OutOfRange| Error::SpecTooLarge { bytes: spec.len() };
    memory.write(IMAGE_GPA, image.bytes).map_err(too_large)?;
    memory.write(spec_gpa, spec).map_err(too_large)?;
    let mut extents = [Extent { gpa: 0, len: 0, zone: 0 }; MAX_BOOT_EXTENTS];
    extents[0] = Extent { gpa: 0, len: BOOT_EXTENT, zone: Zone::Kernel as u64 };
    let user = memory.total() - BOOT_EXTENT;
    extents[1] = Extent { gpa: USER_ZONE_GPA, len: user, zone: Zone::User as u64 };
    let info = BootInfo {
        version: HOST_INTERFACE_VERSION,
        platform: PlatformKind::Systrap as u32,
        cpus,
        tsc_khz: host.tsc_khz,
        physmap: SYSTRAP_PHYSMAP,
        free_gpa: (spec_gpa + spec.len() as u64).next_multiple_of(PAGE_SIZE),
        boot_pgd: 0,
        spec_gpa,
        spec_len: spec.len() as u64,
        memory_limit: memory.limit(),
        user_top: STUB_USER_TOP,
        xcr0: host.xcr0,
        xsave_size: host.xsave_size,
        restored: 0,
        clock: clock::sample(),
        random: clock::random_seed()?,
        extent_count: 2,
        extents,
    };
    memory.write_struct(BOOT_INFO_GPA, &info).map_err(too_large)?;
    place(memory).map_err(too_large)
}

/// Tells each vCPU which CPU is its own, and which another that its stubs can be sent to.
fn place(memory: &GuestMemory) -> Result<(), OutOfRange> {
    let masks = raw::cpu_masks();
    for (cpu, mask) in masks.iter().enumerate() {
        let next = masks[(cpu + 1) % masks.len()];
        let away = if next == *mask { 0 } else { next };
        let area = CPU_AREAS_GPA + cpu as u64 * CPU_AREA_SIZE + CPU_HOSTCALL;
        memory.write_struct(area + CPU_HOME, mask)?;
        memory.write_struct(area + CPU_AWAY, &away)?;
    }
    Ok(())
}

/// Prepares saved memory for its new processes.
pub fn refill(memory: &GuestMemory, cpus: u32, host: &Host) -> Result<(), Error> {
    let damaged =
        |_: OutOfRange| Error::Snapshot { reason: "its memory ends before the boot information".into() };
    let mut info: BootInfo = memory.read_struct(BOOT_INFO_GPA).map_err(damaged)?;
    info.restored = 1;
    info.cpus = cpus;
    info.tsc_khz = host.tsc_khz;
    info.memory_limit = memory.limit();
    info.clock = clock::sample();
    info.random = clock::random_seed()?;
    memory.write_struct(BOOT_INFO_GPA, &info).map_err(damaged)?;
    // What the old broker and its threads were told with: events, begin of the threads, calls and kicks.
    memory.write_struct(SHARED_GPA, &0u64).map_err(damaged)?;
    for cpu in 0..MAX_CPUS as u64 {
        memory.write_struct(SYSTRAP_START_GPA + 4 * cpu, &0u32).map_err(damaged)?;
        let area = CPU_AREAS_GPA + cpu * CPU_AREA_SIZE + CPU_HOSTCALL;
        memory.write_struct(area + CPU_CALL_STATE, &0u32).map_err(damaged)?;
        memory.write_struct(area + CPU_KICK, &0u32).map_err(damaged)?;
    }
    place(memory).map_err(damaged)
}

/// Memory of a machine with at most `limit` bytes, which can be raised up to `most` later.
pub fn memory(limit: u64, most: u64) -> Result<GuestMemory, Error> {
    let user = USER_EXTENT.min(limit.saturating_sub(BOOT_EXTENT).max(abi::HUGE_PAGE_SIZE));
    GuestMemory::zoned(BOOT_EXTENT, user & !(abi::HUGE_PAGE_SIZE - 1), limit, most)
}
