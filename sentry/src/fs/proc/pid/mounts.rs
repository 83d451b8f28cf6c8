//! Mounts of a process: /proc/PID/mounts, mountinfo, mountstats.

use super::Of;
use crate::errno::Result;
use crate::vfs::inode::{major, minor};
use crate::vfs::{Mount, Path};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general as c;

/// Escapes what separates fields.
fn escape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for byte in text {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => out.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
            _ => out.push(*byte),
        }
    }
    out
}

fn flags_text(mount: &Mount) -> String {
    let flags = mount.flags();
    let mut out = String::from(if mount.is_readonly() { "ro" } else { "rw" });
    for (flag, name) in [
        (c::MS_NOSUID, ",nosuid"),
        (c::MS_NODEV, ",nodev"),
        (c::MS_NOEXEC, ",noexec"),
        (c::MS_NOATIME, ",noatime"),
        (c::MS_NODIRATIME, ",nodiratime"),
        (c::MS_RELATIME, ",relatime"),
        (c::MS_NOSYMFOLLOW, ",nosymfollow"),
    ] {
        if flags & flag != 0 {
            out.push_str(name);
        }
    }
    out
}

/// Mounts that the task can see, and where.
fn visible(of: Of) -> Result<Vec<(Arc<Mount>, Vec<u8>)>> {
    let fs = crate::vfs::hooks::kernel().fs(of.tid).ok_or(crate::errno::Errno::EINVAL)?;
    let root = fs.root();
    let mut list = fs.ns().mounts();
    list.sort_by_key(|m| m.id);
    let list = list.into_iter();
    Ok(list.filter_map(|m| m.root_path().to_bytes_reachable(&root).map(|at| (m, at))).collect())
}

/// The part of its file system that a mount shows.
fn shown(mount: &Arc<Mount>) -> Vec<u8> {
    let whole = Mount::new(mount.sb.clone(), mount.sb.root.clone(), b"", 0);
    let root = whole.root_path();
    Path { mnt: whole, dentry: mount.root.clone() }.to_bytes(&root)
}

/// mountinfo.
pub fn mountinfo(of: Of) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for (mount, at) in visible(of)? {
        let parent = mount.place().map_or(mount.id, |p| p.mnt.id);
        let sb = &mount.sb;
        let head = format!("{} {parent} {}:{} ", mount.id, major(sb.dev), minor(sb.dev));
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(&escape(&shown(&mount)));
        out.push(b' ');
        out.extend_from_slice(&escape(&at));
        out.extend_from_slice(format!(" {} - {} ", flags_text(&mount), sb.fstype).as_bytes());
        out.extend_from_slice(&escape(if mount.source.is_empty() { b"none" } else { &mount.source }));
        let readonly = sb.readonly.load(core::sync::atomic::Ordering::Relaxed);
        let access = if readonly { "ro" } else { "rw" };
        out.extend_from_slice(format!(" {access}{}\n", sb.fs.options()).as_bytes());
    }
    Ok(out)
}

/// mounts.
pub fn mounts(of: Of) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for (mount, at) in visible(of)? {
        out.extend_from_slice(&escape(if mount.source.is_empty() { b"none" } else { &mount.source }));
        out.push(b' ');
        out.extend_from_slice(&escape(&at));
        out.extend_from_slice(
            format!(" {} {}{} 0 0\n", mount.sb.fstype, flags_text(&mount), mount.sb.fs.options()).as_bytes(),
        );
    }
    Ok(out)
}

/// mountstats.
pub fn mountstats(of: Of) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for (mount, at) in visible(of)? {
        out.extend_from_slice(b"device ");
        out.extend_from_slice(&escape(if mount.source.is_empty() { b"none" } else { &mount.source }));
        out.extend_from_slice(b" mounted on ");
        out.extend_from_slice(&escape(&at));
        out.extend_from_slice(format!(" with fstype {}\n", mount.sb.fstype).as_bytes());
    }
    Ok(out)
}
