//! CPUID and extended state of the vCPUs.

use core::arch::x86_64::__cpuid_count;

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_ioctls::{Cap, Kvm};

use super::Flavour;
use crate::Error;

/// Extended state that the sentry knows how to switch: x87, SSE, AVX, AVX-512.
const XCR0_KNOWN: u64 = 0xe7;
/// Size of the legacy area and header of XSAVE.
const XSAVE_BASE: u64 = 576;

const ECX1_X2APIC: u32 = 1 << 21;
const ECX1_TSC_DEADLINE: u32 = 1 << 24;
const ECX1_XSAVE: u32 = 1 << 26;
const ECX1_OSXSAVE: u32 = 1 << 27;
const EBX7_FSGSBASE: u32 = 1 << 0;
const EBX7_SMEP: u32 = 1 << 7;
const EBX7_SMAP: u32 = 1 << 20;
const ECX7_UMIP: u32 = 1 << 2;

/// Features of ring 3 that run natively on pvm, whose KVM names few of them: leaf, index, and the bits of EAX, EBX,
/// ECX and EDX that are taken from the host's own CPUID. Whatever the host switches with XSAVES alone is left out.
const NATIVE: &[(u32, u32, [u32; 4])] = &[
    // SSE3 PCLMUL SSSE3 FMA CX16 SSE4.1 SSE4.2 MOVBE POPCNT AES XSAVE OSXSAVE AVX F16C RDRAND
    (1, 0, [0, 0, 0x7ed8_3203, 0]),
    // FSGSBASE BMI1 AVX2 BMI2 ERMS AVX512F/DQ RDSEED ADX IFMA CLFLUSHOPT CLWB AVX512CD SHA AVX512BW/VL; VBMI VBMI2
    // GFNI VAES VPCLMUL VNNI BITALG VPOPCNTDQ RDPID; FSRM VP2INTERSECT
    (7, 0, [0, 0xf1af_0329, 0x0040_5f42, 0x0000_0110]),
    // AVX-VNNI, AVX512-BF16
    (7, 1, [0x30, 0, 0, 0]),
    // XSAVEOPT XSAVEC XGETBV1
    (0xd, 1, [7, 0, 0, 0]),
    // LAHF ABM SSE4A misaligned SSE, 3DNow prefetch; SYSCALL NX FFXSR RDTSCP LM
    (0x8000_0001, 0, [0, 0, 0x0000_01e1, 0x2a10_0800]),
];

/// What the host's KVM offers to a vCPU.
pub struct CpuFeatures {
    cpuid: CpuId,
    /// XCR0 that the vCPUs run with.
    pub xcr0: u64,
    /// Bytes of a standard-format XSAVE area with all of it.
    pub xsave_size: u64,
    /// Supervisor-mode execution prevention.
    pub smep: bool,
    /// Supervisor-mode access prevention.
    pub smap: bool,
    /// User-mode instruction prevention.
    pub umip: bool,
}

impl CpuFeatures {
    /// Asks KVM.
    pub fn probe(kvm: &Kvm, flavour: Flavour) -> Result<Self, Error> {
        let mut cpuid = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(|e| Error::kvm("asking for the supported CPUID (KVM_GET_SUPPORTED_CPUID)", e))?;
        if flavour == Flavour::Pvm {
            cpuid = with_native(&cpuid)?;
        }
        let leaf = |function: u32, index: u32| {
            cpuid
                .as_slice()
                .iter()
                .find(|e| e.function == function && e.index == index)
                .copied()
                .unwrap_or_default()
        };
        let seven = leaf(7, 0);
        if seven.ebx & EBX7_FSGSBASE == 0 {
            return Err(Error::KvmFeature { what: "FSGSBASE" });
        }
        if leaf(1, 0).ecx & ECX1_XSAVE == 0 {
            return Err(Error::KvmFeature { what: "XSAVE" });
        }
        let offered = leaf(0xd, 0);
        let xcr0 = (u64::from(offered.eax) | (u64::from(offered.edx) << 32)) & XCR0_KNOWN;
        let xsave_size = (2..63)
            .filter(|bit| xcr0 & (1 << bit) != 0)
            .map(|bit| leaf(0xd, bit))
            .map(|part| u64::from(part.eax) + u64::from(part.ebx))
            .fold(XSAVE_BASE, u64::max);
        let (smep, smap, umip) =
            (seven.ebx & EBX7_SMEP != 0, seven.ebx & EBX7_SMAP != 0, seven.ecx & ECX7_UMIP != 0);
        let deadline = kvm.check_extension(Cap::TscDeadlineTimer);
        for entry in cpuid.as_mut_slice() {
            if entry.function == 1 {
                entry.ecx |= ECX1_X2APIC | ECX1_OSXSAVE | if deadline { ECX1_TSC_DEADLINE } else { 0 };
            }
        }
        Ok(Self { cpuid, xcr0, xsave_size, smep, smap, umip })
    }

    /// CPUID of vCPU `cpu` of `cpus`: the host's, with its own APIC id and a flat topology.
    pub fn for_cpu(&self, cpu: u32, cpus: u32) -> CpuId {
        let mut cpuid = self.cpuid.clone();
        for entry in cpuid.as_mut_slice() {
            match entry.function {
                1 => {
                    entry.ebx = (entry.ebx & 0x0000_ffff) | (cpus.min(255) << 16) | (cpu << 24);
                }
                // Extended topology: level 0 has one thread a core, level 1 has the package's cores.
                0xb | 0x1f => {
                    entry.edx = cpu;
                    match entry.index {
                        0 => (entry.eax, entry.ebx, entry.ecx) = (0, 1, 1 << 8),
                        1 => {
                            let bits = cpus.next_power_of_two().trailing_zeros();
                            (entry.eax, entry.ebx, entry.ecx) = (bits, cpus, (2 << 8) | 1);
                        }
                        index => (entry.eax, entry.ebx, entry.ecx) = (0, 0, index),
                    }
                }
                _ => {}
            }
        }
        cpuid
    }
}

/// Adds the features of [`NATIVE`] that the host's CPU has, and its layout of XSAVE.
fn with_native(supported: &CpuId) -> Result<CpuId, Error> {
    let mut entries = supported.as_slice().to_vec();
    for &(function, index, masks) in NATIVE {
        let host = __cpuid_count(function, index);
        let entry = entry_of(&mut entries, function, index);
        for (register, (value, mask)) in [&mut entry.eax, &mut entry.ebx, &mut entry.ecx, &mut entry.edx]
            .into_iter()
            .zip([host.eax, host.ebx, host.ecx, host.edx].into_iter().zip(masks))
        {
            *register |= value & mask;
        }
    }
    CpuId::from_entries(&entries).map_err(|_| Error::KvmFeature { what: "room for CPUID leaves" })
}

fn entry_of(entries: &mut Vec<kvm_cpuid_entry2>, function: u32, index: u32) -> &mut kvm_cpuid_entry2 {
    let at = entries.iter().position(|e| e.function == function && e.index == index).unwrap_or_else(|| {
        let flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
        entries.push(kvm_cpuid_entry2 { function, index, flags, ..kvm_cpuid_entry2::default() });
        entries.len() - 1
    });
    &mut entries[at]
}
