//! Permission checks, path_resolution(7) and capabilities(7).

use super::inode::{Attr, S_IFMT};
use crate::errno::{Errno, Result};
use crate::kernel::cred::{Cred, cap};
use linux_raw_sys::general as c;

/// Execute, or search a directory.
pub const MAY_EXEC: u32 = 1;
/// Write.
pub const MAY_WRITE: u32 = 2;
/// Read.
pub const MAY_READ: u32 = 4;

/// Checks access to a file.
///
/// # Errors
/// EACCES.
#[inline]
pub fn permission(cred: &Cred, attr: &Attr, mask: u32) -> Result<()> {
    let shift = if cred.fsuid == attr.uid {
        6
    } else if cred.in_group(attr.gid) {
        3
    } else {
        0
    };
    if (attr.mode >> shift) & mask == mask {
        return Ok(());
    }
    by_capability(cred, attr, mask)
}

#[cold]
fn by_capability(cred: &Cred, attr: &Attr, mask: u32) -> Result<()> {
    let dir = attr.mode & S_IFMT == c::S_IFDIR;
    if cred.has(cap::DAC_OVERRIDE) && (dir || mask & MAY_EXEC == 0 || attr.mode & 0o111 != 0) {
        return Ok(());
    }
    if cred.has(cap::DAC_READ_SEARCH) && (mask == MAY_READ || dir && mask & MAY_WRITE == 0) {
        return Ok(());
    }
    Err(Errno::EACCES)
}

/// Whether the caller owns the file or may act as if.
pub fn is_owner(cred: &Cred, attr: &Attr) -> bool {
    cred.fsuid == attr.uid || cred.has(cap::FOWNER)
}

/// Checks a directory's sticky bit before an entry is removed.
///
/// # Errors
/// EPERM.
pub fn check_sticky(cred: &Cred, dir: &Attr, victim: &Attr) -> Result<()> {
    if dir.mode & c::S_ISVTX != 0
        && victim.uid != cred.fsuid
        && dir.uid != cred.fsuid
        && !cred.has(cap::FOWNER)
    {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// Credentials for access(2): the real ids instead of the effective ones.
pub fn real(cred: &Cred) -> Cred {
    let mut real = cred.clone();
    real.fsuid = cred.uid;
    real.fsgid = cred.gid;
    // SECBIT_NO_SETUID_FIXUP (bit 2) leaves the capabilities alone.
    if cred.securebits & (1 << 2) == 0 {
        real.effective = if cred.uid == 0 { cred.permitted } else { 0 };
    }
    real
}
