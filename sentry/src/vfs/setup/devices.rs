//! The device nodes of a container: the standard ones, and those of config.json.

use super::ensure;
use crate::errno::{Errno, Result};
use crate::fs::dev;
use crate::vfs::attr;
use crate::vfs::inode::{Create, makedev};
use crate::vfs::namei;
use crate::vfs::path::Path;
use crate::vfs::state::Ctx;
use abi::spec::{DeviceKind, DeviceSpec, MountSource, MountSpec};
use alloc::format;
use alloc::string::{String, ToString};
use linux_raw_sys::general as c;

/// Whether a mount puts a directory of the host in the place of /dev.
pub fn is_foreign_dev(mount: &MountSpec) -> bool {
    let mut parts = mount.destination.split('/').filter(|part| !matches!(*part, "" | "."));
    matches!(mount.source, MountSource::Bind { .. }) && parts.next() == Some("dev") && parts.next().is_none()
}

/// Puts the devices that every container has into /dev, and those of `list` where they say. What there is already
/// stays as it is; a device of the list goes before a standard one of its name.
///
/// # Errors
/// What the file system says, with what was being made.
pub fn populate(ctx: &Ctx, list: &[DeviceSpec]) -> core::result::Result<(), (Errno, String)> {
    let standard = |e: Errno| (e, "making the devices of /dev".to_string());
    let at = ensure(ctx, b"/dev", true).map_err(standard)?;
    for (name, major, minor, mode) in dev::STANDARD {
        if list.iter().any(|device| device.path.strip_prefix("/dev/") == Some(*name)) {
            continue;
        }
        let what = Create::Node(c::S_IFCHR, makedev(*major, *minor));
        unless_there(namei::make(ctx, at.clone(), name.as_bytes(), what, *mode)).map_err(standard)?;
    }
    for device in list {
        let (path, name) = device.path.rsplit_once('/').unwrap_or(("", &device.path));
        let what = |e: Errno| (e, format!("error creating device nodes: mknod {}", device.path));
        if matches!(name, "" | "." | "..") {
            // A directory, if there is anything.
            ensure(ctx, device.path.as_bytes(), true).map_err(what)?;
            continue;
        }
        let parent = ensure(ctx, if path.is_empty() { b"/" } else { path.as_bytes() }, true)
            .and_then(|at| if at.dentry.is_dir() { Ok(at) } else { Err(Errno::ENOTDIR) })
            .map_err(|e| (e, format!("error creating device nodes: mkdir {path}")))?;
        make(ctx, parent, name, device).map_err(what)?;
    }
    let links: [(&[u8], &[u8]); 5] = [
        (b"fd", b"/proc/self/fd"),
        (b"stdin", b"/proc/self/fd/0"),
        (b"stdout", b"/proc/self/fd/1"),
        (b"stderr", b"/proc/self/fd/2"),
        (b"ptmx", b"pts/ptmx"),
    ];
    for (name, target) in links {
        let made = namei::make(ctx, at.clone(), name, Create::Symlink(target), 0o777);
        unless_there(made).map_err(standard)?;
    }
    Ok(())
}

fn make(ctx: &Ctx, parent: Path, name: &str, device: &DeviceSpec) -> Result<()> {
    let rdev = makedev(device.major, device.minor);
    let what = match device.kind {
        DeviceKind::Character => Create::Node(c::S_IFCHR, rdev),
        DeviceKind::Block => Create::Node(c::S_IFBLK, rdev),
        DeviceKind::Fifo => Create::Node(c::S_IFIFO, 0),
    };
    match unless_there(namei::make(ctx, parent, name.as_bytes(), what, device.mode))? {
        Some(node) => attr::chown(&ctx.cred, &node, device.uid, device.gid),
        None => Ok(()),
    }
}

/// What was made; `None` where there was something.
fn unless_there(made: Result<Path>) -> Result<Option<Path>> {
    match made {
        Ok(path) => Ok(Some(path)),
        Err(Errno::EEXIST) => Ok(None),
        Err(e) => Err(e),
    }
}
