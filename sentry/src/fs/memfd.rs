//! Files without a name, memfd_create(2).

use super::memfs::{MemFs, Node};
use crate::errno::Result;
use crate::kernel::cred::Cred;
use crate::sync::Once;
use crate::vfs::dentry::Dentry;
use crate::vfs::{OpenFile, Path, anon};
use alloc::sync::Arc;
use linux_raw_sys::general as c;

static FS: Once<Arc<MemFs>> = Once::new();

fn fs() -> Arc<MemFs> {
    if let Some(fs) = FS.get() {
        return fs.clone();
    }
    let _ = FS.set(MemFs::unlimited());
    FS.get().cloned().unwrap_or_else(MemFs::unlimited)
}

/// A file in memory that is in no directory.
///
/// # Errors
/// ENOSPC.
pub fn node(mode: u32, uid: u32, gid: u32) -> Result<Arc<Node>> {
    fs().unnamed_file(mode, uid, gid)
}

/// memfd_create(2), the flags checked.
///
/// # Errors
/// ENOSPC.
pub fn create(name: &[u8], flags: u32, cred: &Cred) -> Result<Arc<OpenFile>> {
    let sealed_exec = flags & c::MFD_NOEXEC_SEAL != 0;
    let node = node(if sealed_exec { 0o666 } else { 0o777 }, cred.fsuid, cred.fsgid)?;
    if sealed_exec {
        node.allow_seals(c::F_SEAL_EXEC);
    } else if flags & c::MFD_ALLOW_SEALING != 0 {
        node.allow_seals(0);
    }
    let dentry = Dentry::anonymous(node.clone(), &[b"/memfd:", name].concat());
    dentry.set_unlinked();
    Ok(OpenFile::new(Path { mnt: anon::mount(), dentry }, node, c::O_RDWR | c::O_LARGEFILE))
}
