//! File systems and other kinds of files: one module each.

pub mod dev;
pub mod devpts;
pub mod hostfs;
pub mod lower;
pub mod memfd;
pub mod memfs;
pub mod pidfd;
pub mod pipe;
pub mod synth;
pub mod tty;

use crate::errno::{Errno, Result};
use crate::vfs::inode::SuperBlock;
use alloc::sync::Arc;
use memfs::{MemFs, Options};

/// Makes a file system by its type, mount(2).
///
/// # Errors
/// ENODEV for a type that there is not; EINVAL for options.
pub fn make(fstype: &[u8], options: &[u8]) -> Result<Arc<SuperBlock>> {
    let memory = |name| MemFs::tmpfs(&Options::default().parse(options)?, name);
    match fstype {
        b"tmpfs" => memory("tmpfs"),
        b"ramfs" => memory("ramfs"),
        b"devpts" => Ok(devpts::new()),
        _ => Err(Errno::ENODEV),
    }
}
