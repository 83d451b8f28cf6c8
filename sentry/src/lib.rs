//! The application kernel of a sandbox: it serves the Linux system calls of unmodified programs.
//!
//! A library, so that its parts are unit-tested natively; `sentry-image` links it as a freestanding image for
//! each platform's address layout.
//!
//! `unsafe` stays in [`arch`], [`mm::frames`] and [`sync`]; every other module forbids it.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

extern crate alloc;

#[allow(unsafe_code)]
pub mod arch;
pub mod control;
pub mod errno;
pub mod fs;
pub mod host;
pub mod ipc;
pub mod kernel;
pub mod loader;
pub mod log;
pub mod mm;
pub mod net;
pub mod strace;
#[allow(unsafe_code)]
pub mod sync;
pub mod syscalls;
pub mod time;
pub mod vfs;
