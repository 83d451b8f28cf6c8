//! prctl(2) on the address space: PR_SET_MM, PR_SET_VMA, PR_GET_AUXV.

use super::Args;
use crate::errno::{Errno, Result};
use crate::kernel::cred::cap;
use crate::kernel::task::CurrentTask;
use crate::mm::map::MMAP_MIN_ADDR;
use crate::mm::vma::Backing;
use crate::mm::{Mm, ProgramLayout};
use abi::PAGE_SIZE;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::prctl as p;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Longest name of a range with its NUL: ANON_VMA_NAME_MAX_LEN.
const NAME_MAX: usize = 80;
/// Longest auxiliary vector, bytes.
const AUXV_MAX: usize = 46 * 8;

/// struct prctl_mm_map.
#[repr(C)]
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct MmMap {
    start_code: u64,
    end_code: u64,
    start_data: u64,
    end_data: u64,
    start_brk: u64,
    brk: u64,
    start_stack: u64,
    arg_start: u64,
    arg_end: u64,
    env_start: u64,
    env_end: u64,
    auxv: u64,
    auxv_size: u32,
    exe_fd: u32,
}

/// PR_SET_MM.
pub fn set_mm(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (option, value, size) = (args.u32(1), args.u64(2), args.u64(3));
    let takes_size = matches!(option, p::PR_SET_MM_AUXV | p::PR_SET_MM_MAP | p::PR_SET_MM_MAP_SIZE);
    if args.u64(4) != 0 || (size != 0 && !takes_size) {
        return Err(Errno::EINVAL);
    }
    match option {
        p::PR_SET_MM_MAP_SIZE => {
            return task.write_obj(value, &(core::mem::size_of::<MmMap>() as u32)).map(|()| 0);
        }
        p::PR_SET_MM_MAP => return set_map(task, value, size),
        _ if !task.cred().has(cap::SYS_RESOURCE) => return Err(Errno::EPERM),
        // The program itself is always mapped.
        p::PR_SET_MM_EXE_FILE => return Err(Errno::EBUSY),
        p::PR_SET_MM_AUXV => {
            let auxv = read_auxv(task, value, size)?;
            task.mm_ref().with(|inner| inner.layout.auxv = auxv);
            return Ok(0);
        }
        _ => {}
    }
    let mm = task.mm();
    if value >= mm.user_top || value < MMAP_MIN_ADDR {
        return Err(Errno::EINVAL);
    }
    mm.with(|inner| {
        let mapped = inner.vmas.find(value).is_some();
        let layout = &mut inner.layout;
        let place = match option {
            p::PR_SET_MM_START_CODE => &mut layout.start_code,
            p::PR_SET_MM_END_CODE => &mut layout.end_code,
            p::PR_SET_MM_START_DATA => &mut layout.start_data,
            p::PR_SET_MM_END_DATA => &mut layout.end_data,
            p::PR_SET_MM_START_STACK => &mut layout.start_stack,
            p::PR_SET_MM_ARG_START => &mut layout.args.start,
            p::PR_SET_MM_ARG_END => &mut layout.args.end,
            p::PR_SET_MM_ENV_START => &mut layout.env.start,
            p::PR_SET_MM_ENV_END => &mut layout.env.end,
            p::PR_SET_MM_START_BRK => &mut inner.brk_start,
            p::PR_SET_MM_BRK => &mut inner.brk,
            _ => return Err(Errno::EINVAL),
        };
        let old = core::mem::replace(place, value);
        let result = if inner.brk_start > inner.brk {
            Err(Errno::EINVAL)
        } else if !mapped && option >= p::PR_SET_MM_START_STACK && !is_brk(option) {
            Err(Errno::EFAULT)
        } else {
            Ok(0)
        };
        if result.is_err() {
            restore(inner, option, old);
        }
        result
    })
}

fn is_brk(option: u32) -> bool {
    matches!(option, p::PR_SET_MM_START_BRK | p::PR_SET_MM_BRK)
}

/// Puts back what was set in vain: only the break and what must be mapped can be refused.
fn restore(inner: &mut crate::mm::MmInner, option: u32, old: u64) {
    match option {
        p::PR_SET_MM_START_STACK => inner.layout.start_stack = old,
        p::PR_SET_MM_ARG_START => inner.layout.args.start = old,
        p::PR_SET_MM_ARG_END => inner.layout.args.end = old,
        p::PR_SET_MM_ENV_START => inner.layout.env.start = old,
        p::PR_SET_MM_ENV_END => inner.layout.env.end = old,
        p::PR_SET_MM_START_BRK => inner.brk_start = old,
        p::PR_SET_MM_BRK => inner.brk = old,
        _ => {}
    }
}

fn read_auxv(task: &CurrentTask, at: u64, size: u64) -> Result<Vec<u8>> {
    let size = usize::try_from(size).ok().filter(|s| *s <= AUXV_MAX).ok_or(Errno::EINVAL)?;
    let mut auxv = alloc::vec![0; size];
    task.read_bytes(at, &mut auxv)?;
    // It ends with AT_NULL, whatever was given.
    auxv.resize(size.next_multiple_of(16), 0);
    auxv.extend_from_slice(&[0; 16]);
    Ok(auxv)
}

fn set_map(task: &CurrentTask, at: u64, size: u64) -> Result<u64> {
    if size != core::mem::size_of::<MmMap>() as u64 {
        return Err(Errno::EINVAL);
    }
    let map: MmMap = task.read_obj(at)?;
    let mm: Arc<Mm> = task.mm();
    let addresses = [
        map.start_code,
        map.end_code,
        map.start_data,
        map.end_data,
        map.start_brk,
        map.brk,
        map.start_stack,
        map.arg_start,
        map.arg_end,
        map.env_start,
        map.env_end,
    ];
    let ordered = map.start_code < map.end_code
        && map.start_data <= map.end_data
        && map.start_brk <= map.brk
        && map.arg_start <= map.arg_end
        && map.env_start <= map.env_end;
    if !ordered || addresses.iter().any(|a| *a >= mm.user_top || *a < MMAP_MIN_ADDR) {
        return Err(Errno::EINVAL);
    }
    if map.auxv_size != 0 && (map.auxv == 0 || map.auxv_size as usize > AUXV_MAX) {
        return Err(Errno::EINVAL);
    }
    if map.exe_fd != u32::MAX {
        // The program itself is always mapped.
        return Err(if task.cred().has(cap::SYS_RESOURCE) { Errno::EBUSY } else { Errno::EPERM });
    }
    let auxv = match map.auxv_size {
        0 => None,
        size => Some(read_auxv(task, map.auxv, u64::from(size))?),
    };
    mm.with(|inner| {
        let old = core::mem::take(&mut inner.layout);
        inner.layout = ProgramLayout {
            start_code: map.start_code,
            end_code: map.end_code,
            start_data: map.start_data,
            end_data: map.end_data,
            start_stack: map.start_stack,
            args: map.arg_start..map.arg_end,
            env: map.env_start..map.env_end,
            auxv: auxv.unwrap_or(old.auxv),
            exe: old.exe,
        };
        inner.brk_start = map.start_brk;
        inner.brk = map.brk;
    });
    Ok(0)
}

/// PR_SET_VMA: names a range of anonymous memory, for /proc/PID/maps.
pub fn set_vma(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (start, len, at) = (args.u64(2), args.u64(3), args.u64(4));
    if args.u64(1) != u64::from(p::PR_SET_VMA_ANON_NAME) {
        return Err(Errno::EINVAL);
    }
    let name = if at == 0 { None } else { Some(read_name(task, at)?) };
    let len = len.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::EINVAL)?;
    let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
    if !start.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    task.mm_ref().name_range(start, end, name).map(|()| 0)
}

fn read_name(task: &CurrentTask, at: u64) -> Result<Arc<[u8]>> {
    let name = task.read_cstr(at, NAME_MAX).map_err(|e| match e {
        Errno::ENAMETOOLONG => Errno::EINVAL,
        e => e,
    })?;
    // What could be taken for something else in /proc/PID/maps.
    let fine = |b: &u8| (b' '..=b'~').contains(b) && !br"\`$[]".contains(b);
    if name.iter().all(fine) { Ok(name.into()) } else { Err(Errno::EINVAL) }
}

/// PR_GET_AUXV: as much of the auxiliary vector as there is room for; returns its whole length.
pub fn get_auxv(task: &CurrentTask, args: &Args) -> Result<u64> {
    if args.u64(3) | args.u64(4) != 0 {
        return Err(Errno::EINVAL);
    }
    let auxv = task.mm_ref().with(|inner| inner.layout.auxv.clone());
    let n = usize::try_from(args.u64(2)).unwrap_or(usize::MAX).min(auxv.len());
    task.write_bytes(args.u64(1), &auxv[..n])?;
    Ok(auxv.len() as u64)
}

impl Mm {
    /// Names the anonymous ranges of `start..end`, or takes their names away.
    ///
    /// # Errors
    /// ENOMEM where a part is not mapped or there are too many ranges; EBADF where a part shows a file.
    fn name_range(&self, start: u64, end: u64, name: Option<Arc<[u8]>>) -> Result<()> {
        self.with(|inner| {
            let mut at = start;
            let mut holes = false;
            while at < end {
                let Some(vma) = inner.vmas.next(at).filter(|v| v.start < end) else {
                    holes = true;
                    break;
                };
                holes |= vma.start > at;
                let (from, to) = (vma.start.max(at), vma.end.min(end));
                let anonymous = match &vma.backing {
                    Backing::Anon => true,
                    Backing::Object { object, .. } => object.anonymous(),
                };
                if !anonymous {
                    return Err(Errno::EBADF);
                }
                if inner.vmas.len() + inner.vmas.splits(from, to) > crate::mm::map::MAX_MAP_COUNT {
                    return Err(Errno::ENOMEM);
                }
                inner.vmas.update(from, to, |vma| vma.name.clone_from(&name));
                at = to;
            }
            if holes { Err(Errno::ENOMEM) } else { Ok(()) }
        })
    }
}
