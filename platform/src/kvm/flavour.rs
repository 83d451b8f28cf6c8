//! Which kind of hypervisor stands behind /dev/kvm.

use abi::boot::PlatformKind;
use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::VcpuFd;

/// MSR that identifies the paravirtual hypervisor.
const PV_SIGNATURE_MSR: u32 = 0x4b56_4d11;
/// Its value.
const PV_SIGNATURE: u64 = 0x4d_5650;
/// MSR that holds the TSC frequency in kHz there.
const PV_TSC_KHZ_MSR: u32 = 0x4b56_4d13;
/// MSR that switches paravirtual ring 0 on; only the guest can write it.
pub const PV_ENABLE_MSR: u32 = 0x4b56_4d10;
/// Flags that go with the cell's address: pair of page tables, GS and CR3 switched before entry, fast returns.
pub const PV_CELL_FLAGS: u64 = 0x1ff;

/// Flavour of the hypervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// Paravirtual: guest ring 0 runs at CPL 3.
    Pvm,
    /// VMX or SVM.
    Hardware,
}

impl Flavour {
    /// Asks a fresh vCPU.
    pub fn probe(vcpu: &VcpuFd) -> Self {
        if read_msr(vcpu, PV_SIGNATURE_MSR) == Some(PV_SIGNATURE) { Self::Pvm } else { Self::Hardware }
    }

    /// Number of it in the boot information.
    pub fn kind(self) -> PlatformKind {
        match self {
            Self::Pvm => PlatformKind::Pvm,
            Self::Hardware => PlatformKind::Hardware,
        }
    }

    /// Name of it in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pvm => "pvm",
            Self::Hardware => "hardware",
        }
    }

    /// Frequency of the guest's time-stamp counter in kHz, if KVM tells.
    pub fn tsc_khz(self, vcpu: &VcpuFd) -> Option<u32> {
        let told = vcpu.get_tsc_khz().ok().filter(|khz| *khz != 0);
        match self {
            Self::Pvm => read_msr(vcpu, PV_TSC_KHZ_MSR)
                .and_then(|khz| u32::try_from(khz).ok())
                .filter(|k| *k != 0)
                .or(told),
            Self::Hardware => told,
        }
    }
}

fn read_msr(vcpu: &VcpuFd, index: u32) -> Option<u64> {
    let mut msrs = Msrs::from_entries(&[kvm_msr_entry { index, ..kvm_msr_entry::default() }]).ok()?;
    (vcpu.get_msrs(&mut msrs).ok()? == 1).then(|| msrs.as_slice()[0].data)
}
