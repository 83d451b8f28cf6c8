//! Memory: frames, address spaces, page faults, and access to user memory.

pub mod access;
pub mod advise;
mod fault;
#[allow(unsafe_code)]
pub mod frames;
pub mod io;
pub mod map;
pub mod object;
pub mod quarantine;
pub mod shm;
mod space;
pub mod vma;

pub use fault::{AccessKind, FaultError};
pub use space::{Mm, MmInner, ProgramLayout};
