//! File systems and other kinds of files: one module each.

pub mod bind;
pub mod cgroup;
pub mod dev;
pub mod devpts;
pub mod epoll;
pub mod eventfd;
pub mod hostfs;
pub mod inotify;
pub mod lower;
pub mod memfd;
pub mod memfs;
pub mod mqueue;
pub mod pidfd;
pub mod pipe;
pub mod proc;
pub mod rofs;
pub mod seccomp_listener;
pub mod signalfd;
pub mod stream;
pub mod synth;
pub mod sysfs;
pub mod timerfd;
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
        b"devtmpfs" => {
            MemFs::tmpfs(&Options { mode: 0o755, ..Options::default() }.parse(options)?, "devtmpfs")
        }
        b"mqueue" => Ok(mqueue::super_block()),
        b"devpts" => Ok(devpts::new()),
        b"proc" => Ok(proc::new()),
        b"sysfs" => Ok(sysfs::new()),
        b"cgroup" => cgroup::version_1(options),
        b"cgroup2" => Ok(cgroup::version_2()),
        _ => Err(Errno::ENODEV),
    }
}
