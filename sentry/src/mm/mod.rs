//! Memory: frames, address spaces, page faults, and access to user memory.

#[allow(unsafe_code)]
pub mod frames;
pub mod io;
pub mod object;
