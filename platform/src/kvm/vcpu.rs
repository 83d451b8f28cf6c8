//! State of a vCPU before its first instruction.

use abi::boot::{
    BOOT_INFO_GPA, CPU_GDT, CPU_IDT, CPU_PV_CELL, CPU_STACK_TOP, CPU_TSS, KVM_PHYSMAP, SEL_KERNEL_CODE,
    SEL_KERNEL_DATA, SEL_TSS, VECTOR_SPURIOUS,
};
use kvm_bindings::{
    KVM_MP_STATE_RUNNABLE, Msrs, kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_segment, kvm_xcr, kvm_xcrs,
};
use kvm_ioctls::{VcpuFd, VmFd};

use super::Flavour;
use super::cpuid::CpuFeatures;
use super::flavour::{PV_CELL_FLAGS, PV_ENABLE_MSR};
use super::layout::{GDT_ENTRIES, cpu_area};
use crate::Error;

const CR0: u64 = 0x8005_0033; // PE MP ET NE WP AM PG
const CR4_BASE: u64 = (1 << 5) | (1 << 7) | (1 << 9) | (1 << 10) | (1 << 16) | (1 << 18); // PAE PGE OSFXSR OSXMMEXCPT FSGSBASE OSXSAVE
const CR4_UMIP: u64 = 1 << 11;
const CR4_SMEP: u64 = 1 << 20;
const CR4_SMAP: u64 = 1 << 21;
const EFER: u64 = 0xd01; // SCE LME LMA NXE
const APIC_BASE_X2APIC: u64 = 0xc00;
const LAPIC_SVR: usize = 0xf0;
const MSR_STAR: u32 = 0xc000_0081;
const MSR_LSTAR: u32 = 0xc000_0082;
const MSR_SFMASK: u32 = 0xc000_0084;
const MSR_KERNEL_GS_BASE: u32 = 0xc000_0102;
/// SYSRET would load CS from 0x33 and SS from 0x2b; SYSCALL loads 0x10 and 0x18.
const STAR: u64 = (0x23 << 48) | (0x10 << 32);
/// Flags cleared at SYSCALL: TF IF DF IOPL NT AC.
const SFMASK: u64 = 0x4_7700;

/// What every vCPU of a machine has in common.
pub struct Common {
    /// Flavour of the hypervisor.
    pub flavour: Flavour,
    /// Features.
    pub features: CpuFeatures,
    /// Number of vCPUs.
    pub cpus: u32,
    /// Top-level page table.
    pub root: u64,
    /// Entry point.
    pub start: u64,
    /// SYSCALL entry for the flavour.
    pub syscall: u64,
}

/// Makes vCPU `cpu`, ready to run from the entry point.
pub fn create(vm: &VmFd, common: &Common, cpu: u32) -> Result<VcpuFd, Error> {
    let vcpu =
        vm.create_vcpu(u64::from(cpu)).map_err(|e| Error::kvm("creating a vCPU (KVM_CREATE_VCPU)", e))?;
    reset(&vcpu, common, cpu)?;
    Ok(vcpu)
}

/// Puts `vcpu` into the state of a first boot.
pub fn reset(vcpu: &VcpuFd, common: &Common, cpu: u32) -> Result<(), Error> {
    vcpu.set_cpuid2(&common.features.for_cpu(cpu, common.cpus))
        .map_err(|e| Error::kvm("setting the CPUID of a vCPU (KVM_SET_CPUID2)", e))?;
    set_sregs(vcpu, common, cpu)?;
    let mut xcrs = kvm_xcrs { nr_xcrs: 1, ..kvm_xcrs::default() };
    xcrs.xcrs[0] = kvm_xcr { xcr: 0, value: common.features.xcr0, ..kvm_xcr::default() };
    vcpu.set_xcrs(&xcrs).map_err(|e| Error::kvm("setting XCR0 of a vCPU (KVM_SET_XCRS)", e))?;
    set_msrs(
        vcpu,
        &[(MSR_STAR, STAR), (MSR_LSTAR, common.syscall), (MSR_SFMASK, SFMASK), (MSR_KERNEL_GS_BASE, 0)],
    )?;
    let mut lapic = vcpu.get_lapic().map_err(|e| Error::kvm("reading the local APIC (KVM_GET_LAPIC)", e))?;
    let svr = 0x100 | u32::from(VECTOR_SPURIOUS);
    for (byte, value) in lapic.regs[LAPIC_SVR..].iter_mut().zip(svr.to_le_bytes()) {
        *byte = value as i8;
    }
    vcpu.set_lapic(&lapic).map_err(|e| Error::kvm("setting the local APIC (KVM_SET_LAPIC)", e))?;
    vcpu.set_mp_state(kvm_mp_state { mp_state: KVM_MP_STATE_RUNNABLE })
        .map_err(|e| Error::kvm("starting a vCPU (KVM_SET_MP_STATE)", e))?;

    let area = KVM_PHYSMAP + cpu_area(cpu);
    let mut regs = kvm_regs {
        rip: common.start,
        rsp: area + CPU_STACK_TOP,
        rflags: 2,
        rdi: KVM_PHYSMAP + BOOT_INFO_GPA,
        rsi: u64::from(cpu),
        ..kvm_regs::default()
    };
    if common.flavour == Flavour::Pvm {
        let cell = (cpu_area(cpu) + CPU_PV_CELL) | PV_CELL_FLAGS;
        regs.rcx = u64::from(PV_ENABLE_MSR);
        regs.rax = cell & 0xffff_ffff;
        regs.rdx = cell >> 32;
    }
    vcpu.set_regs(&regs).map_err(|e| Error::kvm("setting the registers of a vCPU (KVM_SET_REGS)", e))
}

fn set_sregs(vcpu: &VcpuFd, common: &Common, cpu: u32) -> Result<(), Error> {
    let area = KVM_PHYSMAP + cpu_area(cpu);
    let mut sregs =
        vcpu.get_sregs().map_err(|e| Error::kvm("reading system registers (KVM_GET_SREGS)", e))?;
    sregs.cr0 = CR0;
    sregs.cr3 = common.root;
    sregs.cr4 = CR4_BASE;
    if common.flavour == Flavour::Hardware {
        for (there, bit) in [
            (common.features.smep, CR4_SMEP),
            (common.features.smap, CR4_SMAP),
            (common.features.umip, CR4_UMIP),
        ] {
            sregs.cr4 |= if there { bit } else { 0 };
        }
    }
    sregs.efer = EFER;
    sregs.cs = segment(SEL_KERNEL_CODE, 11, true);
    sregs.ss = segment(SEL_KERNEL_DATA, 3, false);
    let none = kvm_segment { unusable: 1, ..kvm_segment::default() };
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ldt) = (none, none, none, none, none);
    sregs.tr = kvm_segment {
        base: area + CPU_TSS,
        limit: 0x67,
        selector: SEL_TSS,
        type_: 11,
        present: 1,
        ..kvm_segment::default()
    };
    sregs.gdt.base = area + CPU_GDT;
    sregs.gdt.limit = (GDT_ENTRIES * 8 - 1) as u16;
    sregs.idt.base = area + CPU_IDT;
    sregs.idt.limit = 0xfff;
    sregs.apic_base |= APIC_BASE_X2APIC;
    vcpu.set_sregs(&sregs).map_err(|e| Error::kvm("setting system registers (KVM_SET_SREGS)", e))
}

fn segment(selector: u16, type_: u8, code: bool) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        dpl: 0,
        db: u8::from(!code),
        s: 1,
        l: u8::from(code),
        g: 1,
        ..kvm_segment::default()
    }
}

fn set_msrs(vcpu: &VcpuFd, values: &[(u32, u64)]) -> Result<(), Error> {
    let entries: Vec<_> = values
        .iter()
        .map(|&(index, data)| kvm_msr_entry { index, data, ..kvm_msr_entry::default() })
        .collect();
    let msrs = Msrs::from_entries(&entries).map_err(|_| Error::KvmFeature { what: "room for MSRs" })?;
    let done = vcpu.set_msrs(&msrs).map_err(|e| Error::kvm("setting MSRs of a vCPU (KVM_SET_MSRS)", e))?;
    if done == values.len() { Ok(()) } else { Err(Error::KvmFeature { what: "the MSRs of SYSCALL" }) }
}
