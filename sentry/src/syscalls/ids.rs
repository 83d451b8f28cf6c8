//! Users, groups and capabilities: credentials(7), capget(2).

use super::Args;
use crate::errno::{Errno, Result};
use crate::kernel::cred::{Cred, cap};
use crate::kernel::process;
use crate::kernel::task::CurrentTask;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Most supplementary groups: NGROUPS_MAX.
const MAX_GROUPS: usize = 65_536;
/// _LINUX_CAPABILITY_VERSION_1 to 3
const CAP_VERSIONS: [u32; 3] = [0x1998_0330, 0x2007_1026, 0x2008_0522];

/// getuid(2)
pub fn getuid(task: &CurrentTask, _: &Args) -> Result<u64> {
    Ok(u64::from(task.cred().uid))
}

/// geteuid(2)
pub fn geteuid(task: &CurrentTask, _: &Args) -> Result<u64> {
    Ok(u64::from(task.cred().euid))
}

/// getgid(2)
pub fn getgid(task: &CurrentTask, _: &Args) -> Result<u64> {
    Ok(u64::from(task.cred().gid))
}

/// getegid(2)
pub fn getegid(task: &CurrentTask, _: &Args) -> Result<u64> {
    Ok(u64::from(task.cred().egid))
}

/// getresuid(2)
pub fn getresuid(task: &CurrentTask, args: &Args) -> Result<u64> {
    let cred = task.cred();
    task.write_obj(args.u64(0), &cred.uid)?;
    task.write_obj(args.u64(1), &cred.euid)?;
    task.write_obj(args.u64(2), &cred.suid)?;
    Ok(0)
}

/// getresgid(2)
pub fn getresgid(task: &CurrentTask, args: &Args) -> Result<u64> {
    let cred = task.cred();
    task.write_obj(args.u64(0), &cred.gid)?;
    task.write_obj(args.u64(1), &cred.egid)?;
    task.write_obj(args.u64(2), &cred.sgid)?;
    Ok(0)
}

/// Effect of changes of the user ids on the capabilities: capabilities(7).
fn fix_capabilities(old: &Cred, new: &mut Cred) {
    // SECBIT_NO_SETUID_FIXUP
    if old.securebits & 4 != 0 {
        return;
    }
    let had_root = old.uid == 0 || old.euid == 0 || old.suid == 0;
    let has_root = new.uid == 0 || new.euid == 0 || new.suid == 0;
    if had_root && !has_root {
        // SECBIT_KEEP_CAPS
        if old.securebits & 16 == 0 {
            new.permitted = 0;
            new.effective = 0;
        }
        new.ambient = 0;
    }
    if old.euid == 0 && new.euid != 0 {
        new.effective = 0;
    }
    if old.euid != 0 && new.euid == 0 {
        new.effective = new.permitted;
    }
}

fn set_users(task: &CurrentTask, f: impl FnOnce(&Cred, &mut Cred) -> Result<()>) -> Result<u64> {
    let old = task.cred();
    let mut new = (*old).clone();
    f(&old, &mut new)?;
    new.fsuid = new.euid;
    fix_capabilities(&old, &mut new);
    task.set_cred(new);
    Ok(0)
}

fn set_groups(task: &CurrentTask, f: impl FnOnce(&Cred, &mut Cred) -> Result<()>) -> Result<u64> {
    let old = task.cred();
    let mut new = (*old).clone();
    f(&old, &mut new)?;
    new.fsgid = new.egid;
    task.set_cred(new);
    Ok(0)
}

const KEEP: u32 = u32::MAX;

/// setuid(2)
pub fn setuid(task: &CurrentTask, args: &Args) -> Result<u64> {
    let id = args.u32(0);
    set_users(task, |old, new| {
        if id == KEEP {
            return Err(Errno::EINVAL);
        }
        if old.has(cap::SETUID) {
            (new.uid, new.euid, new.suid) = (id, id, id);
        } else if id == old.uid || id == old.suid {
            new.euid = id;
        } else {
            return Err(Errno::EPERM);
        }
        Ok(())
    })
}

/// setgid(2)
pub fn setgid(task: &CurrentTask, args: &Args) -> Result<u64> {
    let id = args.u32(0);
    set_groups(task, |old, new| {
        if id == KEEP {
            return Err(Errno::EINVAL);
        }
        if old.has(cap::SETGID) {
            (new.gid, new.egid, new.sgid) = (id, id, id);
        } else if id == old.gid || id == old.sgid {
            new.egid = id;
        } else {
            return Err(Errno::EPERM);
        }
        Ok(())
    })
}

/// setreuid(2)
pub fn setreuid(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (real, effective) = (args.u32(0), args.u32(1));
    set_users(task, |old, new| {
        let free = old.has(cap::SETUID);
        if real != KEEP {
            if !free && real != old.uid && real != old.euid {
                return Err(Errno::EPERM);
            }
            new.uid = real;
        }
        if effective != KEEP {
            if !free && ![old.uid, old.euid, old.suid].contains(&effective) {
                return Err(Errno::EPERM);
            }
            new.euid = effective;
        }
        if real != KEEP || (effective != KEEP && effective != old.uid) {
            new.suid = new.euid;
        }
        Ok(())
    })
}

/// setregid(2)
pub fn setregid(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (real, effective) = (args.u32(0), args.u32(1));
    set_groups(task, |old, new| {
        let free = old.has(cap::SETGID);
        if real != KEEP {
            if !free && real != old.gid && real != old.egid {
                return Err(Errno::EPERM);
            }
            new.gid = real;
        }
        if effective != KEEP {
            if !free && ![old.gid, old.egid, old.sgid].contains(&effective) {
                return Err(Errno::EPERM);
            }
            new.egid = effective;
        }
        if real != KEEP || (effective != KEEP && effective != old.gid) {
            new.sgid = new.egid;
        }
        Ok(())
    })
}

/// setresuid(2)
pub fn setresuid(task: &CurrentTask, args: &Args) -> Result<u64> {
    let wanted = [args.u32(0), args.u32(1), args.u32(2)];
    set_users(task, |old, new| {
        let have = [old.uid, old.euid, old.suid];
        let allowed = wanted.iter().all(|id| *id == KEEP || have.contains(id));
        if !allowed && !old.has(cap::SETUID) {
            return Err(Errno::EPERM);
        }
        for (slot, id) in [&mut new.uid, &mut new.euid, &mut new.suid].into_iter().zip(wanted) {
            if id != KEEP {
                *slot = id;
            }
        }
        Ok(())
    })
}

/// setresgid(2)
pub fn setresgid(task: &CurrentTask, args: &Args) -> Result<u64> {
    let wanted = [args.u32(0), args.u32(1), args.u32(2)];
    set_groups(task, |old, new| {
        let have = [old.gid, old.egid, old.sgid];
        let allowed = wanted.iter().all(|id| *id == KEEP || have.contains(id));
        if !allowed && !old.has(cap::SETGID) {
            return Err(Errno::EPERM);
        }
        for (slot, id) in [&mut new.gid, &mut new.egid, &mut new.sgid].into_iter().zip(wanted) {
            if id != KEEP {
                *slot = id;
            }
        }
        Ok(())
    })
}

/// setfsuid(2): returns the old id, never an error.
pub fn setfsuid(task: &CurrentTask, args: &Args) -> Result<u64> {
    let old = task.cred();
    let id = args.u32(0);
    if id != KEEP && (old.has(cap::SETUID) || [old.uid, old.euid, old.suid, old.fsuid].contains(&id)) {
        let mut new = (*old).clone();
        new.fsuid = id;
        task.set_cred(new);
    }
    Ok(u64::from(old.fsuid))
}

/// setfsgid(2): returns the old id, never an error.
pub fn setfsgid(task: &CurrentTask, args: &Args) -> Result<u64> {
    let old = task.cred();
    let id = args.u32(0);
    if id != KEEP && (old.has(cap::SETGID) || [old.gid, old.egid, old.sgid, old.fsgid].contains(&id)) {
        let mut new = (*old).clone();
        new.fsgid = id;
        task.set_cred(new);
    }
    Ok(u64::from(old.fsgid))
}

/// getgroups(2)
pub fn getgroups(task: &CurrentTask, args: &Args) -> Result<u64> {
    let cred = task.cred();
    let size = args.i32(0);
    if size < 0 {
        return Err(Errno::EINVAL);
    }
    if size != 0 {
        if (size as usize) < cred.groups.len() {
            return Err(Errno::EINVAL);
        }
        task.write_bytes(args.u64(1), cred.groups.as_bytes())?;
    }
    Ok(cred.groups.len() as u64)
}

/// setgroups(2)
pub fn setgroups(task: &CurrentTask, args: &Args) -> Result<u64> {
    let mut cred = (*task.cred()).clone();
    if !cred.has(cap::SETGID) {
        return Err(Errno::EPERM);
    }
    let size = args.i32(0);
    if size < 0 || size as usize > MAX_GROUPS {
        return Err(Errno::EINVAL);
    }
    let mut groups = alloc::vec![0u32; size as usize];
    task.read_bytes(args.u64(1), groups.as_mut_bytes())?;
    groups.sort_unstable();
    cred.groups = groups;
    task.set_cred(cred);
    Ok(0)
}

#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct CapHeader {
    version: u32,
    pid: i32,
}

fn cap_header(task: &CurrentTask, at: u64) -> Result<(CapHeader, usize)> {
    let header: CapHeader = task.read_obj(at)?;
    match CAP_VERSIONS.iter().position(|v| *v == header.version) {
        Some(0) => Ok((header, 1)),
        Some(_) => Ok((header, 2)),
        None => {
            task.write_obj(at, &CapHeader { version: CAP_VERSIONS[2], pid: header.pid })?;
            Err(Errno::EINVAL)
        }
    }
}

/// capget(2)
pub fn capget(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (header, words) = match cap_header(task, args.u64(0)) {
        // Asking for the version with no place for data is no error.
        Err(Errno::EINVAL) if args.u64(1) == 0 => return Ok(0),
        other => other?,
    };
    if header.pid < 0 {
        return Err(Errno::EINVAL);
    }
    let cred = if header.pid == 0 || header.pid as u32 == task.tid() {
        task.cred()
    } else {
        process::find_task(header.pid as u32).ok_or(Errno::ESRCH)?.cred()
    };
    if args.u64(1) == 0 {
        return Ok(0);
    }
    let mut out = [0u32; 6];
    for word in 0..words {
        let part = |set: u64| (set >> (32 * word)) as u32;
        out[3 * word] = part(cred.effective);
        out[3 * word + 1] = part(cred.permitted);
        out[3 * word + 2] = part(cred.inheritable);
    }
    task.write_bytes(args.u64(1), &out.as_bytes()[..12 * words])?;
    Ok(0)
}

/// capset(2)
pub fn capset(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (header, words) = cap_header(task, args.u64(0))?;
    if header.pid != 0 && header.pid as u32 != task.tid() {
        return Err(Errno::EPERM);
    }
    let mut raw = [0u32; 6];
    task.read_bytes(args.u64(1), &mut raw.as_mut_bytes()[..12 * words])?;
    let join = |i: usize| (u64::from(raw[i]) | u64::from(raw[3 + i]) << 32) & ((1 << (cap::LAST + 1)) - 1);
    let (effective, permitted, inheritable) = (join(0), join(1), join(2));
    let old = task.cred();
    if permitted & !old.permitted != 0 || effective & !permitted != 0 {
        return Err(Errno::EPERM);
    }
    let limit =
        if old.has(cap::SETPCAP) { old.inheritable | old.bounding } else { old.inheritable | old.permitted };
    if inheritable & !limit != 0 {
        return Err(Errno::EPERM);
    }
    let mut new = (*old).clone();
    new.effective = effective;
    new.permitted = permitted;
    new.inheritable = inheritable;
    new.ambient &= permitted & inheritable;
    task.set_cred(new);
    Ok(0)
}
