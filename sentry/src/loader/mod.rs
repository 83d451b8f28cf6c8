//! Programs: ELF files, scripts, the vDSO, and the stack that a program starts with.

pub mod elf;
pub mod exec;
mod initial_stack;
pub mod vdso;
