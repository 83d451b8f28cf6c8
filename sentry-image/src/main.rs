//! The sentry as a freestanding image, linked once for each platform's address layout.
//!
//! It adds what a `no_std` library cannot bring itself: the header that the VMM reads, the global allocator, the
//! panic handler, and the memory functions that the compiler calls.
#![no_std]
#![no_main]

mod mem;

use abi::boot::{IMAGE_MAGIC, ImageHeader};
use core::panic::PanicInfo;
use sentry::mm::frames::heap::Heap;

#[global_allocator]
static HEAP: Heap = Heap;

unsafe extern "C" {
    static runsc_rodata: u8;
    static runsc_data: u8;
    static runsc_image_end: u8;
}

/// [`ImageHeader`] as the linker can fill it in: addresses are pointers.
#[repr(C)]
struct Header {
    magic: u64,
    version: u64,
    start: unsafe extern "C" fn(),
    syscall_pvm: unsafe extern "C" fn(),
    syscall_hw: unsafe extern "C" fn(),
    end: *const u8,
    rodata: *const u8,
    data: *const u8,
}

// SAFETY: the header is constant.
unsafe impl Sync for Header {}

const _: () = assert!(size_of::<Header>() == size_of::<ImageHeader>());

#[used]
#[unsafe(link_section = ".head.header")]
static HEADER: Header = Header {
    magic: IMAGE_MAGIC,
    version: abi::HOST_INTERFACE_VERSION as u64,
    start: sentry::arch::runsc_start,
    syscall_pvm: sentry::arch::runsc_syscall_pvm,
    syscall_hw: sentry::arch::runsc_syscall_hw,
    end: &raw const runsc_image_end,
    rodata: &raw const runsc_rodata,
    data: &raw const runsc_data,
};

/// A bug of the sentry: the VMM logs it and ends the sandbox.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    sentry::host::panic(info)
}

/// Named by the precompiled `core`; never called, since panics abort.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// As [`rust_eh_personality`].
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() {}
