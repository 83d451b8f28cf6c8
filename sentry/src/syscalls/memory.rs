//! Memory: mmap(2) and its family, brk(2), madvise(2), mlock(2), process_vm_readv(2).

use super::Args;
use crate::errno::{Errno, Result};
use crate::kernel::process;
use crate::kernel::task::CurrentTask;
use crate::mm::AccessKind;
use crate::mm::map::{Content, Placement};
use crate::mm::vma::{Prot, VmFlags};
use abi::PAGE_SIZE;
use linux_raw_sys::general as c;

fn prot(bits: u32) -> Result<Prot> {
    if bits & !(c::PROT_READ | c::PROT_WRITE | c::PROT_EXEC | c::PROT_GROWSDOWN | c::PROT_GROWSUP | 8) != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(Prot::from_bits_truncate(bits))
}

/// mmap(2)
pub fn mmap(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (addr, len, flags, offset) = (args.u64(0), args.u64(1), args.u32(3), args.u64(5));
    // Unknown protection bits are ignored by mmap, unlike by mprotect.
    let prot = Prot::from_bits_truncate(args.u32(2));
    if len == 0 || !offset.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let shared = match flags & c::MAP_TYPE {
        c::MAP_PRIVATE => false,
        c::MAP_SHARED | c::MAP_SHARED_VALIDATE => true,
        _ => return Err(Errno::EINVAL),
    };
    let placement = if flags & c::MAP_FIXED_NOREPLACE != 0 {
        Placement::FixedNoReplace(addr)
    } else if flags & c::MAP_FIXED != 0 {
        Placement::Fixed(addr)
    } else {
        Placement::Hint(addr)
    };
    let mut vm = VmFlags::empty();
    vm.set(VmFlags::SHARED, shared);
    vm.set(VmFlags::GROWSDOWN, flags & c::MAP_GROWSDOWN != 0);
    vm.set(VmFlags::LOCKED, flags & c::MAP_LOCKED != 0);
    if flags & c::MAP_HUGETLB != 0 {
        // There is no pool of huge pages.
        return Err(Errno::ENOMEM);
    }
    let mut sealed_by = None;
    let content = if flags & c::MAP_ANONYMOUS != 0 {
        vm.insert(VmFlags::MAYWRITE);
        Content::Anon
    } else {
        let file = task.files().get(args.i32(4))?;
        if !file.can_read() || (shared && prot.contains(Prot::WRITE) && !file.can_write()) {
            return Err(Errno::EACCES);
        }
        offset.checked_add(len).filter(|end| *end <= i64::MAX as u64).ok_or(Errno::EOVERFLOW)?;
        let object = file.mappable(shared, prot.contains(Prot::WRITE))?;
        // A file that may not be mapped for writing, or not any more (seals), is not written by way of mprotect either.
        let may_write = file.can_write() && (!shared || file.mappable(true, true).is_ok());
        vm.set(VmFlags::MAYWRITE, may_write);
        if shared && may_write {
            sealed_by = Some(file);
        }
        Content::Object(object, offset / PAGE_SIZE)
    };
    let mm = task.mm();
    let at = mm.mmap(placement, len, prot, vm, content, &task.map_limits())?;
    if let Some(file) = sealed_by
        && file.mappable(true, true).is_err()
    {
        // Sealed meanwhile, by who looked before the mapping was there to be seen.
        let _ = mm.munmap(at, len);
        return Err(Errno::EPERM);
    }
    if flags & (c::MAP_POPULATE | c::MAP_LOCKED) != 0 && flags & c::MAP_NONBLOCK == 0 {
        let kind = if prot.contains(Prot::WRITE) { AccessKind::Write } else { AccessKind::Read };
        // What cannot be faulted in now is no error of mmap.
        let _ = mm.populate(at, at + len.next_multiple_of(PAGE_SIZE), kind);
    }
    Ok(at)
}

/// munmap(2)
pub fn munmap(task: &CurrentTask, args: &Args) -> Result<u64> {
    task.mm_ref().munmap(args.u64(0), args.u64(1)).map(|()| 0)
}

/// mprotect(2)
pub fn mprotect(task: &CurrentTask, args: &Args) -> Result<u64> {
    let bits = args.u32(2);
    let new = prot(bits)?;
    task.mm_ref().mprotect(args.u64(0), args.u64(1), new, bits & c::PROT_GROWSDOWN != 0).map(|()| 0)
}

/// pkey_mprotect(2): without protection keys only key -1 exists.
pub fn pkey_mprotect(task: &CurrentTask, args: &Args) -> Result<u64> {
    if args.i32(3) != -1 {
        return Err(Errno::EINVAL);
    }
    mprotect(task, args)
}

/// pkey_alloc(2): the CPU's keys are not offered.
pub fn pkey_alloc(_: &CurrentTask, _: &Args) -> Result<u64> {
    Err(Errno::ENOSPC)
}

/// pkey_free(2)
pub fn pkey_free(_: &CurrentTask, _: &Args) -> Result<u64> {
    Err(Errno::EINVAL)
}

/// mremap(2)
pub fn mremap(task: &CurrentTask, args: &Args) -> Result<u64> {
    let limits = task.map_limits();
    task.mm_ref().mremap(args.u64(0), args.u64(1), args.u64(2), args.u32(3), args.u64(4), &limits)
}

/// remap_file_pages(2): as Linux has it since 4.0, by mapping the part anew.
pub fn remap_file_pages(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (start, size) = (args.u64(0) & !(PAGE_SIZE - 1), args.u64(1) & !(PAGE_SIZE - 1));
    let page = args.u64(3);
    let end = start.checked_add(size).filter(|end| *end > start).ok_or(Errno::EINVAL)?;
    if args.u64(2) != 0 || page.checked_add(size / PAGE_SIZE).is_none() {
        return Err(Errno::EINVAL);
    }
    task.mm_ref().remap_pages(start, end, page, &task.map_limits()).map(|()| 0)
}

/// brk(2)
pub fn brk(task: &CurrentTask, args: &Args) -> Result<u64> {
    let limits = task.map_limits();
    Ok(task.mm_ref().brk(args.u64(0), &limits))
}

/// madvise(2)
pub fn madvise(task: &CurrentTask, args: &Args) -> Result<u64> {
    task.mm_ref().madvise(args.u64(0), args.u64(1), args.u32(2)).map(|()| 0)
}

/// mincore(2)
pub fn mincore(task: &CurrentTask, args: &Args) -> Result<u64> {
    let pages = args.u64(1).div_ceil(PAGE_SIZE);
    if pages > 1 << 24 {
        return Err(Errno::ENOMEM);
    }
    // In pieces: the answer is a byte for each page.
    let mut done = 0;
    if !args.u64(0).is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    while done < pages {
        let n = (pages - done).min(4096);
        let start = args.u64(0).checked_add(done * PAGE_SIZE).ok_or(Errno::ENOMEM)?;
        let out = task.mm_ref().mincore(start, n * PAGE_SIZE)?;
        task.write_bytes(args.u64(2).wrapping_add(done), &out)?;
        done += n;
    }
    Ok(0)
}

/// mlock(2)
pub fn mlock(task: &CurrentTask, args: &Args) -> Result<u64> {
    let limits = task.map_limits();
    task.mm_ref().mlock(args.u64(0), args.u64(1), true, false, &limits).map(|()| 0)
}

/// mlock2(2)
pub fn mlock2(task: &CurrentTask, args: &Args) -> Result<u64> {
    if args.u32(2) & !c::MLOCK_ONFAULT != 0 {
        return Err(Errno::EINVAL);
    }
    let limits = task.map_limits();
    task.mm_ref().mlock(args.u64(0), args.u64(1), true, args.u32(2) != 0, &limits).map(|()| 0)
}

/// munlock(2)
pub fn munlock(task: &CurrentTask, args: &Args) -> Result<u64> {
    let limits = task.map_limits();
    task.mm_ref().mlock(args.u64(0), args.u64(1), false, false, &limits).map(|()| 0)
}

/// mlockall(2)
pub fn mlockall(task: &CurrentTask, args: &Args) -> Result<u64> {
    let flags = args.u32(0);
    if flags == 0
        || flags & !(c::MCL_CURRENT | c::MCL_FUTURE | c::MCL_ONFAULT) != 0
        || flags == c::MCL_ONFAULT
    {
        return Err(Errno::EINVAL);
    }
    let limits = task.map_limits();
    task.mm_ref().mlockall(flags & c::MCL_CURRENT != 0, flags & c::MCL_FUTURE != 0, &limits).map(|()| 0)
}

/// munlockall(2)
pub fn munlockall(task: &CurrentTask, _: &Args) -> Result<u64> {
    task.mm_ref().mlockall(false, false, &task.map_limits()).map(|()| 0)
}

/// msync(2)
pub fn msync(task: &CurrentTask, args: &Args) -> Result<u64> {
    task.mm_ref().msync(args.u64(0), args.u64(1), args.u32(2)).map(|()| 0)
}

/// membarrier(2)
pub fn membarrier(task: &CurrentTask, args: &Args) -> Result<u64> {
    const QUERY: u32 = 0;
    const GLOBAL: u32 = 1;
    const GLOBAL_EXPEDITED: u32 = 2;
    const REGISTER_GLOBAL_EXPEDITED: u32 = 4;
    const PRIVATE_EXPEDITED: u32 = 8;
    const REGISTER_PRIVATE_EXPEDITED: u32 = 16;
    const PRIVATE_EXPEDITED_SYNC_CORE: u32 = 32;
    const REGISTER_SYNC_CORE: u32 = 64;
    const ALL: u32 = 127;
    if args.u32(1) != 0 {
        return Err(Errno::EINVAL);
    }
    match args.u32(0) {
        QUERY => Ok(u64::from(ALL)),
        REGISTER_GLOBAL_EXPEDITED | REGISTER_PRIVATE_EXPEDITED | REGISTER_SYNC_CORE => Ok(0),
        GLOBAL | GLOBAL_EXPEDITED | PRIVATE_EXPEDITED | PRIVATE_EXPEDITED_SYNC_CORE => {
            // Every vCPU that runs this space has been in the kernel since.
            crate::arch::port::synchronize(task.mm_ref().space());
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Copies between the caller and another process. `write`: to the other.
fn process_vm(task: &CurrentTask, args: &Args, write: bool) -> Result<u64> {
    if args.u64(5) != 0 || args.u64(2) > 1024 || args.u64(4) > 1024 {
        return Err(Errno::EINVAL);
    }
    let read_iov = |at: u64, count: u64| -> Result<alloc::vec::Vec<[u64; 2]>> {
        (0..count).map(|i| task.read_obj::<[u64; 2]>(at.wrapping_add(16 * i))).collect()
    };
    let local = read_iov(args.u64(1), args.u64(2))?;
    let remote = read_iov(args.u64(3), args.u64(4))?;
    let other = process::find_task(args.u32(0)).ok_or(Errno::ESRCH)?;
    crate::kernel::ptrace::may_access(task, &other)?;
    let mm = other.try_mm()?;
    let mine = task.mm();
    let (from, to, from_iov, to_iov) =
        if write { (&mine, &mm, &local, &remote) } else { (&mm, &mine, &remote, &local) };
    let mut total = 0u64;
    let mut buf = alloc::vec![0u8; 4096];
    let (mut fi, mut fo, mut ti, mut to_off) = (0, 0u64, 0, 0u64);
    while let (Some(f), Some(t)) = (from_iov.get(fi), to_iov.get(ti)) {
        let n = (f[1] - fo).min(t[1] - to_off).min(4096) as usize;
        if n == 0 {
            if f[1] == fo {
                (fi, fo) = (fi + 1, 0);
            }
            if t[1] == to_off {
                (ti, to_off) = (ti + 1, 0);
            }
            continue;
        }
        let got = from.read_some(f[0].wrapping_add(fo), &mut buf[..n]);
        let put = to.write_some(t[0].wrapping_add(to_off), &buf[..got]);
        total += put as u64;
        if put < n {
            return if total == 0 { Err(Errno::EFAULT) } else { Ok(total) };
        }
        fo += n as u64;
        to_off += n as u64;
    }
    Ok(total)
}

/// process_vm_readv(2)
pub fn process_vm_readv(task: &CurrentTask, args: &Args) -> Result<u64> {
    process_vm(task, args, false)
}

/// process_vm_writev(2)
pub fn process_vm_writev(task: &CurrentTask, args: &Args) -> Result<u64> {
    process_vm(task, args, true)
}
