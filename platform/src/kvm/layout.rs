//! Fills guest memory before the first instruction: image, boot information, page tables, vCPU areas.

use abi::boot::{
    BOOT_INFO_GPA, BootInfo, CPU_AREA_SIZE, CPU_AREAS_GPA, CPU_GDT, CPU_PV_CELL, CPU_TSS, ClockSample,
    Extent, IMAGE_GPA, KVM_PHYSMAP, MAX_BOOT_EXTENTS, SHARED_GPA, Zone,
};
use abi::{HOST_INTERFACE_VERSION, PAGE_SIZE};

use super::Flavour;
use super::cpuid::CpuFeatures;
use super::paging::Tables;
use crate::memory::{GuestMemory, OutOfRange};
use crate::{Error, Image};

/// First address that programs cannot use.
const USER_TOP: u64 = 0x7fff_ffff_f000;
/// Bytes of a 64-bit TSS.
const TSS_LEN: u64 = 104;
/// Offset in the TSS of its I/O map base; a base beyond the limit means that there is no map.
const TSS_IOMAP: u64 = 102;
/// Number of descriptors in a GDT.
pub const GDT_ENTRIES: u64 = 10;

/// What is put into guest memory.
pub struct Contents<'a> {
    /// The sentry.
    pub image: &'a Image<'a>,
    /// Serialised launch specification.
    pub spec: &'a [u8],
    /// Number of vCPUs.
    pub cpus: u32,
    /// Frequency of the time-stamp counter.
    pub tsc_khz: u32,
    /// Clocks now.
    pub clock: ClockSample,
    /// Random bytes.
    pub random: [u8; 64],
}

/// Guest-physical address of a vCPU's area.
pub fn cpu_area(cpu: u32) -> u64 {
    CPU_AREAS_GPA + u64::from(cpu) * CPU_AREA_SIZE
}

/// Lays out the boot extent of `boot_len` bytes and returns the page tables.
pub fn fill<'a>(
    memory: &'a GuestMemory,
    boot_len: u64,
    flavour: Flavour,
    features: &CpuFeatures,
    contents: &Contents<'_>,
) -> Result<Tables<'a>, Error> {
    let image = contents.image;
    let image_end = IMAGE_GPA + image.size();
    if image_end >= boot_len {
        return Err(Error::Image {
            reason: format!("it needs {} bytes of the {boot_len} at boot", image.size()),
        });
    }
    let too_large = |_: OutOfRange| Error::SpecTooLarge { bytes: contents.spec.len() };
    memory.write(IMAGE_GPA, image.bytes).map_err(too_large)?;
    let mut tables = Tables::new(memory, flavour, image_end);
    tables.map_kernel(IMAGE_GPA, image.size(), boot_len)?;

    let spec_gpa = tables.end();
    memory.write(spec_gpa, contents.spec).map_err(too_large)?;
    let free_gpa = (spec_gpa + contents.spec.len() as u64).next_multiple_of(PAGE_SIZE);

    let mut extents = [Extent { gpa: 0, len: 0, zone: 0 }; MAX_BOOT_EXTENTS];
    extents[0] = Extent { gpa: 0, len: boot_len, zone: Zone::Kernel as u64 };
    let info = BootInfo {
        version: HOST_INTERFACE_VERSION,
        platform: flavour.kind() as u32,
        cpus: contents.cpus,
        tsc_khz: contents.tsc_khz,
        physmap: KVM_PHYSMAP,
        free_gpa,
        boot_pgd: tables.root(),
        spec_gpa,
        spec_len: contents.spec.len() as u64,
        memory_limit: memory.limit(),
        user_top: USER_TOP,
        xcr0: features.xcr0,
        xsave_size: features.xsave_size,
        restored: 0,
        clock: contents.clock,
        random: contents.random,
        extent_count: 1,
        extents,
    };
    memory.write_struct(BOOT_INFO_GPA, &info).map_err(too_large)?;
    for cpu in 0..contents.cpus {
        fill_cpu(memory, cpu).map_err(too_large)?;
    }
    Ok(tables)
}

/// Prepares saved memory for its new machine, and returns its boot page table.
pub fn refill(
    memory: &GuestMemory,
    cpus: u32,
    (tsc_khz, clock, random): (u32, ClockSample, [u8; 64]),
) -> Result<u64, OutOfRange> {
    let mut info: BootInfo = memory.read_struct(BOOT_INFO_GPA)?;
    info.restored = 1;
    info.cpus = cpus;
    info.tsc_khz = tsc_khz;
    info.memory_limit = memory.limit();
    info.clock = clock;
    info.random = random;
    memory.write_struct(BOOT_INFO_GPA, &info)?;
    // Events of the old VMM, and the interrupt flags that vCPUs stood at their barrier with.
    memory.write_struct(SHARED_GPA, &0u64)?;
    for cpu in 0..cpus {
        memory.write_struct(cpu_area(cpu) + CPU_PV_CELL, &[0u64; 2])?;
        fill_cpu(memory, cpu)?;
    }
    Ok(info.boot_pgd)
}

/// Fills the GDT and the constant part of the TSS of one vCPU.
fn fill_cpu(memory: &GuestMemory, cpu: u32) -> Result<(), OutOfRange> {
    let area = cpu_area(cpu);
    let tss = KVM_PHYSMAP + area + CPU_TSS;
    let low = (TSS_LEN - 1) | ((tss & 0xff_ffff) << 16) | (0x89 << 40) | (((tss >> 24) & 0xff) << 56);
    let gdt: [u64; GDT_ENTRIES as usize] = [
        0,
        0,
        0x00af_9b00_0000_ffff, // 0x10: ring-0 code, 64 bits
        0x00cf_9300_0000_ffff, // 0x18: ring-0 data
        0x00cf_fb00_0000_ffff, // 0x23: ring-3 code, 32 bits: where STAR points
        0x00cf_f300_0000_ffff, // 0x2b: ring-3 data
        0x00af_fb00_0000_ffff, // 0x33: ring-3 code, 64 bits
        0,
        low, // 0x40: TSS, two entries
        tss >> 32,
    ];
    memory.write_struct(area + CPU_GDT, &gdt)?;
    memory.write_struct(area + CPU_TSS + TSS_IOMAP, &(TSS_LEN as u16))
}
