//! Machines on KVM: one VM for a sandbox, a host thread for each vCPU.
//!
//! Two flavours of hypervisor are served, told apart by asking ([`Flavour`]): *hardware* (VMX, SVM) and *pvm*, whose
//! guest ring 0 runs at CPL 3. Interrupts go through a split irqchip, so that a busy guest never leaves `KVM_RUN`:
//! events of the VMM are an irqfd that is routed to vCPU 0.

mod cpuid;
mod flavour;
mod interrupt;
mod layout;
mod paging;
mod run;
mod selftest;
mod vcpu;

use std::os::fd::AsRawFd;
use std::sync::Arc;

use abi::boot::{IMAGE_GPA, ImageHeader, KVM_IMAGE_BASE};
use abi::control::SavedMachine;
use kvm_bindings::{KVM_CAP_SPLIT_IRQCHIP, kvm_enable_cap, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};

pub use self::flavour::Flavour;
pub use self::selftest::{Verdict, run as self_test};

use self::cpuid::CpuFeatures;
use self::interrupt::EventLine;
use crate::host::control::MachineInfo;
use crate::memory::{ExtentSink, GuestMemory};
use crate::{Error, HostServices, Image, Machine, clock};

/// `_IO(KVMIO, 0x44)`: how many pages of page tables KVM may keep for a VM; no crate has it.
const KVM_SET_NR_MMU_PAGES: libc::c_ulong = 0xae44;
/// Pages of shadow page tables that a VM with so many bytes of memory may have: a fixed part and one for so many bytes.
/// It is a bound; they are made as they are used, and made anew where it is too narrow. Each takes some 8 KiB of the
/// host, on account of the container, whose limit leaves room for them.
const MMU_PAGES: (u64, u64) = (768, 512 << 10);

/// Sets that bound.
fn bound_mmu_pages(vm: &VmFd, memory: u64) {
    let pages = (MMU_PAGES.0 + memory / MMU_PAGES.1) as libc::c_ulong;
    // SAFETY: a request that takes a number and no memory of this process. It fails where page tables are nested and
    // there is nothing to bound; nothing depends on it.
    unsafe { libc::ioctl(vm.as_raw_fd(), KVM_SET_NR_MMU_PAGES, pages) };
}
/// Pins of the I/O APIC that the split irqchip leaves to user space; routes begin after them.
const IOAPIC_PINS: u32 = 24;

/// The KVM device, opened.
pub struct Device {
    kvm: Kvm,
}

impl Device {
    /// Opens /dev/kvm and checks what is needed of it.
    pub fn open() -> Result<Self, Error> {
        let kvm = Kvm::new()
            .map_err(|e| Error::KvmDevice { source: std::io::Error::from_raw_os_error(e.errno()) })?;
        for (cap, what) in [
            (Cap::UserMemory, "memory slots (KVM_CAP_USER_MEMORY)"),
            (Cap::SplitIrqchip, "the split irqchip (KVM_CAP_SPLIT_IRQCHIP)"),
            (Cap::Irqfd, "interrupts by descriptor (KVM_CAP_IRQFD)"),
            (Cap::Xcrs, "XCR0 of vCPUs (KVM_CAP_XCRS)"),
        ] {
            if !kvm.check_extension(cap) {
                return Err(Error::KvmFeature { what });
            }
        }
        Ok(Self { kvm })
    }
}

impl AsRawFd for Device {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.kvm.as_raw_fd()
    }
}

/// Tells KVM of extents as memory slots.
struct Slots(Arc<VmFd>);

impl ExtentSink for Slots {
    fn add(&self, slot: u32, extent: abi::boot::Extent, host: u64) -> std::io::Result<()> {
        let region = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: extent.gpa,
            memory_size: extent.len,
            userspace_addr: host,
        };
        // SAFETY: the range is a mapping of this process that `GuestMemory` owns and keeps as long as the VM; slots
        // and addresses are handed out by it and never overlap.
        unsafe { self.0.set_user_memory_region(region) }
            .map_err(|e| std::io::Error::from_raw_os_error(e.errno()))
    }

    fn limit_raised(&self, limit: u64) {
        bound_mmu_pages(&self.0, limit);
    }
}

/// A VM with its boot vCPU, ready to run.
pub struct KvmMachine {
    vm: Arc<VmFd>,
    boot: VcpuFd,
    common: Arc<vcpu::Common>,
    memory: Arc<GuestMemory>,
}

impl KvmMachine {
    /// Makes a VM of `memory` with `cpus` vCPUs that will run `image` with the launch specification `spec`.
    pub fn new(
        device: &Device,
        image: &Image<'_>,
        spec: &[u8],
        cpus: u32,
        memory: Arc<GuestMemory>,
    ) -> Result<Self, Error> {
        Self::with_tables(device, image, spec, cpus, memory, |_| Ok(()))
    }

    /// The same, with additions to the boot page tables.
    fn with_tables(
        device: &Device,
        image: &Image<'_>,
        spec: &[u8],
        cpus: u32,
        memory: Arc<GuestMemory>,
        extend: impl FnOnce(&mut paging::Tables<'_>) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let Parts { vm, boot, flavour, features, tsc_khz } = Parts::new(device, &memory)?;
        let contents = layout::Contents {
            image,
            spec,
            cpus,
            tsc_khz,
            clock: clock::sample(),
            random: clock::random_seed()?,
        };
        let boot_len = memory.total();
        let mut tables = layout::fill(&memory, boot_len, flavour, &features, &contents)?;
        extend(&mut tables)?;
        let root = tables.root();
        Self::finish(Parts { vm, boot, flavour, features, tsc_khz }, &image.header, root, cpus, memory)
    }

    /// Makes a VM with `cpus` vCPUs of `memory` that was saved from a frozen one, `saved`.
    ///
    /// # Errors
    /// [`Error::Snapshot`] where this host or this VMM cannot run it.
    pub fn restore(
        device: &Device,
        saved: &SavedMachine,
        cpus: u32,
        memory: Arc<GuestMemory>,
    ) -> Result<Self, Error> {
        let parts = Parts::new(device, &memory)?;
        let here = (parts.flavour.kind() as u32, parts.features.xcr0, parts.features.xsave_size);
        let refuse = |reason: String| Error::Snapshot { reason };
        if here != (saved.platform, saved.xcr0, saved.xsave_size) {
            return Err(refuse(format!(
                "it was made on platform {} with extended state {:#x} of {} bytes, this host has platform {} with \
                 {:#x} of {} bytes",
                saved.platform, saved.xcr0, saved.xsave_size, here.0, here.1, here.2
            )));
        }
        let header = memory.read_struct(IMAGE_GPA).map_err(|_| refuse("it holds no sentry".into()))?;
        let header = Image::check_header(&header, KVM_IMAGE_BASE)?;
        let clocks = (parts.tsc_khz, clock::sample(), clock::random_seed()?);
        let root = layout::refill(&memory, cpus, clocks)
            .map_err(|_| refuse("its memory ends before the boot information".into()))?;
        Self::finish(parts, &header, root, cpus, memory)
    }

    fn finish(
        parts: Parts,
        header: &ImageHeader,
        root: u64,
        cpus: u32,
        memory: Arc<GuestMemory>,
    ) -> Result<Self, Error> {
        let Parts { vm, boot, flavour, features, .. } = parts;
        let syscall = match flavour {
            Flavour::Pvm => header.syscall_pvm,
            Flavour::Hardware => header.syscall_hw,
        };
        let common = vcpu::Common { flavour, features, cpus, root, start: header.start, syscall };
        vcpu::reset(&boot, &common, 0)?;
        Ok(Self { vm, boot, common: Arc::new(common), memory })
    }

    /// Flavour of the hypervisor.
    pub fn flavour(&self) -> Flavour {
        self.common.flavour
    }
}

/// A VM with memory and a vCPU, and what is known of it.
struct Parts {
    vm: Arc<VmFd>,
    boot: VcpuFd,
    flavour: Flavour,
    features: CpuFeatures,
    tsc_khz: u32,
}

impl Parts {
    fn new(device: &Device, memory: &GuestMemory) -> Result<Self, Error> {
        let vm = device
            .kvm
            .create_vm()
            .map_err(|e| Error::kvm("creating a virtual machine (KVM_CREATE_VM)", e))?;
        let cap = kvm_enable_cap {
            cap: KVM_CAP_SPLIT_IRQCHIP,
            args: [u64::from(IOAPIC_PINS), 0, 0, 0],
            ..Default::default()
        };
        vm.enable_cap(&cap).map_err(|e| Error::kvm("enabling the split irqchip (KVM_ENABLE_CAP)", e))?;
        bound_mmu_pages(&vm, memory.limit());
        let vm = Arc::new(vm);
        memory
            .attach(Box::new(Slots(Arc::clone(&vm))))
            .map_err(|source| Error::Memory { bytes: memory.total(), source })?;

        let boot = vm.create_vcpu(0).map_err(|e| Error::kvm("creating a vCPU (KVM_CREATE_VCPU)", e))?;
        let flavour = Flavour::probe(&boot);
        let features = CpuFeatures::probe(&device.kvm, flavour)?;
        let tsc_khz = flavour
            .tsc_khz(&boot)
            .ok_or(Error::KvmFeature { what: "the frequency of the time-stamp counter (KVM_GET_TSC_KHZ)" })?;
        Ok(Self { vm, boot, flavour, features, tsc_khz })
    }
}

impl Machine for KvmMachine {
    fn run(self: Box<Self>, services: Arc<HostServices>) -> Result<std::convert::Infallible, Error> {
        services.set_machine(MachineInfo {
            platform: self.common.flavour.kind(),
            xcr0: self.common.features.xcr0,
            xsave_size: self.common.features.xsave_size,
            cpus: self.common.cpus,
        });
        services.set_events(Arc::new(EventLine::new(&self.vm, Arc::clone(&self.memory))?));
        run::boot(*self, services)
    }
}
