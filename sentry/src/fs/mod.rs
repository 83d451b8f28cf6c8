//! File systems and other kinds of files: one module each.

pub mod dev;
pub mod hostfs;
pub mod lower;
pub mod memfs;
pub mod pipe;
