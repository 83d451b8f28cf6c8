//! What two sides must agree on: the sentry (guest ring 0) and its VMM.
//!
//! Both sides take every number, struct and layout of the host interface from this crate; nothing
//! of it is typed in a second time. The interface has three parts:
//!
//! * [`boot`]: where things lie in guest memory when the first instruction of the sentry runs;
//! * [`hostcall`]: the requests of the sentry to its VMM;
//! * [`control`]: commands that come from outside into the sentry, and their answers.
//!
//! [`spec`] is the description of the containers that the VMM hands over at boot.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod boot;
pub mod control;
pub mod hostcall;
pub mod resources;
pub mod spec;
pub mod systrap;

/// Version of the host interface. A VMM refuses a sentry image or a snapshot of another version.
pub const HOST_INTERFACE_VERSION: u32 = 1;

/// Bytes in a page of guest memory.
pub const PAGE_SIZE: u64 = 4096;
/// Bytes in a large page (a page-directory leaf).
pub const HUGE_PAGE_SIZE: u64 = 2 << 20;
