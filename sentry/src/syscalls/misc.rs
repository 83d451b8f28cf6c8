//! Everything about the system as a whole: uname(2), sysinfo(2), getrandom(2), names.

use super::Args;
use crate::errno::{Errno, Result};
use crate::kernel::cred::cap;
use crate::kernel::task::CurrentTask;
use crate::kernel::{boot, process, random, resources, uts};
use core::sync::atomic::Ordering;

/// uname(2)
pub fn uname(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (host, domain) = uts::names();
    let mut out = [0u8; 6 * 65];
    let fields: [&[u8]; 6] =
        [b"Linux", &host, uts::RELEASE.as_bytes(), uts::VERSION.as_bytes(), b"x86_64", &domain];
    for (i, field) in fields.iter().enumerate() {
        let n = field.len().min(64);
        out[65 * i..65 * i + n].copy_from_slice(&field[..n]);
    }
    task.write_bytes(args.u64(0), &out)?;
    Ok(0)
}

fn read_name(task: &CurrentTask, args: &Args) -> Result<alloc::vec::Vec<u8>> {
    if !task.cred().has(cap::SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let len = args.i32(1);
    if len < 0 || len as usize > uts::MAX_NAME {
        return Err(Errno::EINVAL);
    }
    let mut name = alloc::vec![0; len as usize];
    task.read_bytes(args.u64(0), &mut name)?;
    Ok(name)
}

/// sethostname(2)
pub fn sethostname(task: &CurrentTask, args: &Args) -> Result<u64> {
    uts::set_host(&read_name(task, args)?);
    Ok(0)
}

/// setdomainname(2)
pub fn setdomainname(task: &CurrentTask, args: &Args) -> Result<u64> {
    uts::set_domain(&read_name(task, args)?);
    Ok(0)
}

/// sysinfo(2)
pub fn sysinfo(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (used, total) = resources::memory();
    let mut out = [0u64; 14];
    out[0] =
        crate::time::boottime_ns().saturating_sub(boot::BOOT_NS.load(Ordering::Relaxed)) / crate::time::NS;
    out[4] = total;
    out[5] = total.saturating_sub(used);
    out[10] = (process::task_count() as u64).min(u64::from(u16::MAX));
    // mem_unit
    out[13] = 1;
    task.write_bytes(args.u64(0), zerocopy::IntoBytes::as_bytes(&out))?;
    Ok(0)
}

/// getrandom(2)
pub fn getrandom(task: &CurrentTask, args: &Args) -> Result<u64> {
    const NONBLOCK: u32 = 1;
    const RANDOM: u32 = 2;
    const INSECURE: u32 = 4;
    let flags = args.u32(2);
    if flags & !(NONBLOCK | RANDOM | INSECURE) != 0 || flags & (RANDOM | INSECURE) == RANDOM | INSECURE {
        return Err(Errno::EINVAL);
    }
    let len = args.u64(1).min(i32::MAX as u64);
    let mut done = 0;
    let mut buf = [0; 256];
    while done < len {
        let n = (len - done).min(256) as usize;
        random::fill(&mut buf[..n]);
        if task.write_bytes(args.u64(0).wrapping_add(done), &buf[..n]).is_err() {
            return if done == 0 { Err(Errno::EFAULT) } else { Ok(done) };
        }
        done += n as u64;
        if task.has_signal() && done < len {
            break;
        }
    }
    Ok(done)
}

/// Calls that need a privilege that no container has: reboot(2), init_module(2), swapon(2), acct(2), ...
pub fn not_permitted(_: &CurrentTask, _: &Args) -> Result<u64> {
    Err(Errno::EPERM)
}

/// Of personality(2): program and stack lie where nothing random moves them.
pub const ADDR_NO_RANDOMIZE: u32 = 0x004_0000;
/// What changes nothing here: ADDR_COMPAT_LAYOUT, SHORT_INODE, WHOLE_SECONDS, STICKY_TIMEOUTS.
const WITHOUT_EFFECT: u32 = 0x020_0000 | 0x100_0000 | 0x200_0000 | 0x400_0000;

/// personality(2): PER_LINUX only.
pub fn personality(task: &CurrentTask, args: &Args) -> Result<u64> {
    let wanted = args.u32(0);
    let old = task.personality.load(Ordering::Relaxed);
    if wanted != u32::MAX {
        if wanted & !(ADDR_NO_RANDOMIZE | WITHOUT_EFFECT) != 0 {
            return Err(Errno::EINVAL);
        }
        task.personality.store(wanted, Ordering::Relaxed);
    }
    Ok(u64::from(old))
}
