//! Memory: frames, address spaces, page faults, and access to user memory.

#[cfg(not(test))]
pub mod access;
#[cfg(not(test))]
pub mod advise;
#[cfg(not(test))]
mod fault;
#[allow(unsafe_code)]
pub mod frames;
pub mod io;
#[cfg(not(test))]
pub mod map;
pub mod object;
#[cfg(not(test))]
pub mod quarantine;
pub mod shm;
#[cfg(not(test))]
mod space;
pub mod vma;

#[cfg(not(test))]
pub use fault::{AccessKind, FaultError};
#[cfg(not(test))]
pub use space::{Mm, MmInner, ProgramLayout};
