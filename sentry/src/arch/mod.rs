//! All that is the CPU's and the platform's: entries and exits, contexts, page tables, time-stamp counter.
//!
//! What the kernel proper uses is re-exported here; the flavours differ behind [`x86_64::port`]. Unit tests, which
//! run as a program of the host, use the parts that need no privilege.

pub mod x86_64;
pub use x86_64::*;
