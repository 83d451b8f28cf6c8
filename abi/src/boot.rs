//! Guest memory at boot, as the VMM lays it out and the sentry finds it.
//!
//! Physical layout of the first extent (guest-physical address 0 up):
//!
//! | at | what |
//! |---|---|
//! | 0 | one page that is never used, so that 0 is no valid frame |
//! | [`BOOT_INFO_GPA`] | [`BootInfo`], one page |
//! | [`SHARED_GPA`] | [`SharedPage`], one page: events from the VMM |
//! | [`SYSTRAP_START_GPA`] | `systrap`: a word for each vCPU that lets its thread begin; one page |
//! | [`SYSTRAP_CRASH_GPA`] | `systrap`: what the sentry process leaves when it crashes; one page |
//! | [`CPU_AREAS_GPA`] | [`MAX_CPUS`] areas of [`CPU_AREA_SIZE`] bytes, laid out by the `CPU_*` offsets |
//! | [`IMAGE_GPA`] | the sentry image, `.bss` included |
//! | after the image | boot page tables, the launch specification, then free memory ([`BootInfo::free_gpa`]) |
//!
//! Further extents are added by [`MemGrow`](crate::hostcall::MemGrow) and are announced by its answer.
//! Every extent is mapped at [`BootInfo::physmap`] + its guest-physical address; under `kvm` the sentry itself
//! extends that map with 2 MiB leaves, under `systrap` the VMM does.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Most vCPUs of a sandbox.
pub const MAX_CPUS: usize = 32;
/// Guest-physical address of [`BootInfo`].
pub const BOOT_INFO_GPA: u64 = 0x1000;
/// Guest-physical address of [`SharedPage`].
pub const SHARED_GPA: u64 = 0x2000;
/// Guest-physical address of [`MAX_CPUS`] words of 32 bits: under `systrap` the host side sets one to 1, and wakes, to
/// let the thread of that vCPU go to the image's entry point.
pub const SYSTRAP_START_GPA: u64 = 0x3000;
/// Guest-physical address where the sentry process of `systrap` leaves signal, code, address and registers when it
/// crashes: quadwords that only the host side knows the order of.
pub const SYSTRAP_CRASH_GPA: u64 = 0x4000;
/// Guest-physical address of the first vCPU's area.
pub const CPU_AREAS_GPA: u64 = 0x1_0000;
/// Bytes of one vCPU's area.
pub const CPU_AREA_SIZE: u64 = 0x1_0000;
/// Guest-physical address of the sentry image.
pub const IMAGE_GPA: u64 = 0x20_0000 + 0x20_0000;

/// Offset in a vCPU's area of its [`HostCallBlock`](crate::hostcall::HostCallBlock).
pub const CPU_HOSTCALL: u64 = 0;
/// Offset of the vCPU's GDT (10 descriptors), filled in by the VMM.
pub const CPU_GDT: u64 = 0x1000;
/// Offset of the vCPU's 64-bit TSS (104 bytes), filled in by the sentry; the VMM sets the I/O map base only.
pub const CPU_TSS: u64 = 0x1100;
/// Offset of the PV cell of the `pvm` flavour, page-aligned as the hypervisor wants it: byte 0 the virtual IF, byte 1
/// pending, quadword at 8 CR2.
pub const CPU_PV_CELL: u64 = 0x3000;
/// Offset of the vCPU's IDT (256 gates), filled in by the sentry.
pub const CPU_IDT: u64 = 0x2000;
/// End of the stack of IST entry 1 (double fault); one page.
pub const CPU_IST1_TOP: u64 = 0x5000;
/// End of the stack of IST entry 2 (NMI, machine check).
pub const CPU_IST2_TOP: u64 = 0x7000;
/// End of the stack of IST entry 3 (faults taken in ring 0, debug exceptions).
pub const CPU_IST3_TOP: u64 = 0x9000;
/// End of the vCPU's boot stack, later the stack of its idle loop.
pub const CPU_STACK_TOP: u64 = CPU_AREA_SIZE;

/// GDT selector of ring-0 code.
pub const SEL_KERNEL_CODE: u16 = 0x10;
/// GDT selector of ring-0 data.
pub const SEL_KERNEL_DATA: u16 = 0x18;
/// GDT selector of ring-3 data, with its privilege level.
pub const SEL_USER_DATA: u16 = 0x2b;
/// GDT selector of ring-3 64-bit code, with its privilege level.
pub const SEL_USER_CODE: u16 = 0x33;
/// GDT selector of the TSS.
pub const SEL_TSS: u16 = 0x40;

/// Link address of the sentry image under `kvm` (code model `kernel`).
pub const KVM_IMAGE_BASE: u64 = 0xffff_ffff_8000_0000;
/// Base of the map of all guest memory under `kvm`. (Slot 256 of the top-level table is unusable on pvm.)
pub const KVM_PHYSMAP: u64 = 0xffff_9000_0000_0000;
/// Base of the kernel stacks under `kvm`: mapped by the sentry, with guard pages.
pub const KVM_STACKS: u64 = 0xffff_a000_0000_0000;
/// Link address of the sentry image under `systrap`.
pub const SYSTRAP_IMAGE_BASE: u64 = 0x4000_0000;
/// Base of the map of all guest memory in the sentry process under `systrap`.
pub const SYSTRAP_PHYSMAP: u64 = 0x1000_0000_0000;

/// Where images of file systems begin in guest-physical space. The pages of an image are the host's page cache: the VMM
/// maps its file there, in pieces of [`IMAGE_EXTENT`] bytes as the sentry asks for them
/// ([`ImageMap`](crate::hostcall::ImageMap)); nobody can write them.
pub const IMAGES_GPA: u64 = 0x30_0000_0000;
/// End of that range.
pub const IMAGES_END: u64 = 0x40_0000_0000;
/// Bytes of a piece. A piece costs the host's kernel 1.85 KiB for each MiB (pvm), and some 100 µs once.
pub const IMAGE_EXTENT: u64 = 32 << 20;
/// Most images of a sandbox.
pub const MAX_IMAGES: usize = 8;

/// Vector of events from the VMM (see [`SharedPage`]).
pub const VECTOR_EVENT: u8 = 0x40;
/// Vector of the local APIC timer.
pub const VECTOR_TIMER: u8 = 0x41;
/// Vector of kicks between vCPUs.
pub const VECTOR_IPI: u8 = 0x42;
/// Spurious vector of the local APIC.
pub const VECTOR_SPURIOUS: u8 = 0xff;

/// First quadword of the sentry image.
pub const IMAGE_MAGIC: u64 = u64::from_le_bytes(*b"runsc-k1");

/// Head of the sentry image, at its link address.
#[repr(C)]
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ImageHeader {
    /// [`IMAGE_MAGIC`].
    pub magic: u64,
    /// [`HOST_INTERFACE_VERSION`](crate::HOST_INTERFACE_VERSION) that the image was built with.
    pub version: u64,
    /// Address of the entry point of every vCPU. On entry: RDI = address (in the map of guest memory) of
    /// [`BootInfo`], RSI = index of the vCPU, RSP = top of the vCPU's boot stack; flavour pvm: RCX and EDX:EAX
    /// hold the number and value of the PV-enable register, which the entry writes first if RCX is not 0.
    pub start: u64,
    /// Address of the SYSCALL entry for the `pvm` flavour.
    pub syscall_pvm: u64,
    /// Address of the SYSCALL entry for the `hardware` flavour.
    pub syscall_hw: u64,
    /// First address after the image, `.bss` included; page-aligned.
    pub end: u64,
    /// First address of what is only read, after the code; page-aligned.
    pub rodata: u64,
    /// First address of what is written; page-aligned.
    pub data: u64,
}

/// Kind of machine that the sentry runs on.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlatformKind {
    /// KVM on a paravirtual hypervisor: ring 0 runs at CPL 3.
    Pvm = 1,
    /// KVM on VMX or SVM.
    Hardware = 2,
    /// No virtual machine: stub processes trapped by seccomp.
    Systrap = 3,
}

impl PlatformKind {
    /// The kind with this number, if there is one.
    pub fn from_u32(n: u32) -> Option<Self> {
        match n {
            1 => Some(Self::Pvm),
            2 => Some(Self::Hardware),
            3 => Some(Self::Systrap),
            _ => None,
        }
    }
}

/// What memory of an extent is for. Under `systrap` the two are separate memfds and stubs map only the second.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// The sentry's own: heap, page tables, stacks.
    Kernel = 0,
    /// Frames that programs may have mapped.
    User = 1,
}

/// A range of guest memory.
#[repr(C)]
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Extent {
    /// First guest-physical address; a multiple of 2 MiB (except the boot extent, which begins at 0).
    pub gpa: u64,
    /// Length in bytes; a multiple of 2 MiB.
    pub len: u64,
    /// A [`Zone`] as a number.
    pub zone: u64,
}

/// Most extents that are announced at boot.
pub const MAX_BOOT_EXTENTS: usize = 8;

/// Clock readings taken together by the VMM.
#[repr(C)]
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ClockSample {
    /// Time-stamp counter.
    pub tsc: u64,
    /// CLOCK_REALTIME, nanoseconds.
    pub realtime_ns: u64,
    /// CLOCK_MONOTONIC of the host, nanoseconds.
    pub monotonic_ns: u64,
    /// CLOCK_BOOTTIME of the host, nanoseconds.
    pub boottime_ns: u64,
}

/// What the VMM tells the sentry at boot.
#[repr(C)]
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct BootInfo {
    /// [`HOST_INTERFACE_VERSION`](crate::HOST_INTERFACE_VERSION).
    pub version: u32,
    /// A [`PlatformKind`] as a number.
    pub platform: u32,
    /// Number of vCPUs that the VMM has made; 1 to [`MAX_CPUS`].
    pub cpus: u32,
    /// Frequency of the time-stamp counter, kHz.
    pub tsc_khz: u32,
    /// Base of the map of guest memory.
    pub physmap: u64,
    /// First guest-physical address in the boot extent that is free for the sentry; page-aligned.
    pub free_gpa: u64,
    /// Guest-physical address of the boot top-level page table (`pvm`: of the pair).
    pub boot_pgd: u64,
    /// Guest-physical address of the serialised [`LaunchSpec`](crate::spec::LaunchSpec).
    pub spec_gpa: u64,
    /// Length of it in bytes.
    pub spec_len: u64,
    /// Most bytes of guest memory that the sentry may have, all extents together.
    pub memory_limit: u64,
    /// First address that programs can not use.
    pub user_top: u64,
    /// XCR0 that the vCPUs run with.
    pub xcr0: u64,
    /// Bytes of a standard-format XSAVE area with all of `xcr0`.
    pub xsave_size: u64,
    /// 1 where memory is that of a frozen sandbox: the sentry in it runs on instead of beginning. Then everything
    /// about memory here (extents, free address, specification) is what it was at the first boot.
    pub restored: u64,
    /// Clocks at boot.
    pub clock: ClockSample,
    /// Seed for the sentry's generator of random numbers.
    pub random: [u8; 64],
    /// Number of entries of `extents` that are valid; the first is the boot extent.
    pub extent_count: u64,
    /// Memory that is there at boot.
    pub extents: [Extent; MAX_BOOT_EXTENTS],
}

/// Event bit: a control command waits ([`ControlReceive`](crate::hostcall::ControlReceive)).
pub const EVENT_CONTROL: u64 = 1 << 0;
/// Event bit: a standard stream or console may be ready ([`StreamPoll`](crate::hostcall::StreamPoll)).
pub const EVENT_STREAM: u64 = 1 << 1;
/// Event bit: the window size of the console changed.
pub const EVENT_WINCH: u64 = 1 << 2;
/// Watched host files have events.
pub const EVENT_FILES: u64 = 1 << 3;
/// An image has become shorter: see [`SharedPage::image_lost`].
pub const EVENT_IMAGES: u64 = 1 << 4;

/// Page that the VMM writes and the sentry reads; both sides use atomic accesses.
///
/// The VMM sets bits of `events` and then raises [`VECTOR_EVENT`] on vCPU 0; the sentry takes bits by exchanging
/// the word with 0.
#[repr(C)]
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SharedPage {
    /// `EVENT_*` bits.
    pub events: u64,
    /// How often the VMM has found an image shorter than it was.
    pub image_cuts: u64,
    /// For each image: how many bytes of it are gone, from its end.
    pub image_lost: [u64; MAX_IMAGES],
}

/// Guest-physical address of [`SharedPage::image_cuts`].
pub const IMAGE_CUTS_GPA: u64 = SHARED_GPA + core::mem::offset_of!(SharedPage, image_cuts) as u64;
/// Guest-physical address of [`SharedPage::image_lost`].
pub const IMAGE_LOST_GPA: u64 = SHARED_GPA + core::mem::offset_of!(SharedPage, image_lost) as u64;
