//! The line by which the VMM tells the guest of events.

use std::sync::Arc;

use abi::boot::{SHARED_GPA, VECTOR_EVENT};
use kvm_bindings::{
    KVM_IRQ_ROUTING_MSI, KvmIrqRouting, kvm_irq_routing_entry, kvm_irq_routing_entry__bindgen_ty_1,
    kvm_irq_routing_msi,
};
use kvm_ioctls::VmFd;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::IOAPIC_PINS;
use crate::memory::GuestMemory;
use crate::{Error, Events};

/// Address that a message-signalled interrupt for APIC 0 is written to.
pub const MSI_ADDRESS: u32 = 0xfee0_0000;

/// An irqfd that raises [`VECTOR_EVENT`] on vCPU 0.
pub struct EventLine {
    irqfd: EventFd,
    memory: Arc<GuestMemory>,
}

impl EventLine {
    /// Makes the line and its route.
    pub fn new(vm: &VmFd, memory: Arc<GuestMemory>) -> Result<Self, Error> {
        let irqfd = EventFd::new(EFD_NONBLOCK)
            .map_err(|source| Error::Os { operation: "making an event descriptor".into(), source })?;
        let msi = kvm_irq_routing_msi {
            address_lo: MSI_ADDRESS,
            data: u32::from(VECTOR_EVENT),
            ..Default::default()
        };
        let entry = kvm_irq_routing_entry {
            gsi: IOAPIC_PINS,
            type_: KVM_IRQ_ROUTING_MSI,
            u: kvm_irq_routing_entry__bindgen_ty_1 { msi },
            ..Default::default()
        };
        let routing = KvmIrqRouting::from_entries(&[entry])
            .map_err(|_| Error::KvmFeature { what: "room for interrupt routes" })?;
        vm.set_gsi_routing(&routing)
            .map_err(|e| Error::kvm("routing the event interrupt (KVM_SET_GSI_ROUTING)", e))?;
        vm.register_irqfd(&irqfd, IOAPIC_PINS)
            .map_err(|e| Error::kvm("making the event interrupt (KVM_IRQFD)", e))?;
        Ok(Self { irqfd, memory })
    }
}

impl Events for EventLine {
    fn raise(&self, bits: u64) {
        if self.memory.fetch_or(SHARED_GPA, bits).is_ok() {
            // A full counter means that an interrupt is on its way already.
            let _ = self.irqfd.write(1);
        }
    }
}
