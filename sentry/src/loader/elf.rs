//! ELF executables: elf(5).

use crate::errno::{Errno, Result};
use crate::mm::Mm;
use crate::mm::map::{Content, MapLimits, Placement};
use crate::mm::vma::{Prot, VmFlags};
use crate::vfs::OpenFile;
use abi::PAGE_SIZE;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use linux_raw_sys::elf_uapi as c;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Most bytes of program headers, as Linux has it.
const MAX_HEADERS: usize = 65_536;
/// Bytes of a segment that are mapped before they are touched, where the page cache has them: a fault costs more than
/// 500 entries.
const PREMAP: u64 = 2 << 20;
/// Pages of writable data that are copied at once.
const PREMAP_COPIES: u64 = 8;
const EM_X86_64: u16 = 62;

#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct Header {
    ident: [u8; 16],
    kind: u16,
    machine: u16,
    version: u32,
    entry: u64,
    phoff: u64,
    shoff: u64,
    flags: u32,
    ehsize: u16,
    phentsize: u16,
    phnum: u16,
    shentsize: u16,
    shnum: u16,
    shstrndx: u16,
}

#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct Segment {
    kind: u32,
    flags: u32,
    offset: u64,
    vaddr: u64,
    paddr: u64,
    filesz: u64,
    memsz: u64,
    align: u64,
}

/// An executable, checked but not mapped.
pub struct Executable {
    file: Arc<OpenFile>,
    header: Header,
    segments: Vec<Segment>,
    /// Path of the program interpreter.
    pub interpreter: Option<Vec<u8>>,
}

/// Where an executable was mapped.
#[derive(Debug, Clone, Copy)]
pub struct Mapped {
    /// Entry point.
    pub entry: u64,
    /// What was added to the addresses of the file.
    pub bias: u64,
    /// Address of the program headers.
    pub phdr: u64,
    /// Number of them.
    pub phnum: u16,
    /// Page-aligned end of the highest segment.
    pub end: u64,
    /// First and last address of code, and of data.
    pub code: (u64, u64),
    /// Data.
    pub data: (u64, u64),
}

fn page_down(v: u64) -> u64 {
    v & !(PAGE_SIZE - 1)
}

fn page_up(v: u64) -> Result<u64> {
    v.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::ENOEXEC)
}

fn read_exact(file: &OpenFile, offset: u64, buf: &mut [u8]) -> Result<()> {
    let mut done = 0;
    while done < buf.len() {
        match file.read_at(offset + done as u64, &mut buf[done..])? {
            0 => return Err(Errno::ENOEXEC),
            n => done += n,
        }
    }
    Ok(())
}

impl Executable {
    /// Reads and checks the headers.
    ///
    /// # Errors
    /// ENOEXEC: not an x86-64 ELF executable, or damaged.
    pub fn open(file: Arc<OpenFile>) -> Result<Self> {
        let mut raw = [0; size_of::<Header>()];
        read_exact(&file, 0, &mut raw)?;
        let header = Header::read_from_bytes(&raw).map_err(|_| Errno::ENOEXEC)?;
        let class64_little = header.ident[..6] == [0x7f, b'E', b'L', b'F', 2, 1];
        let kind_ok = u32::from(header.kind) == c::ET_EXEC || u32::from(header.kind) == c::ET_DYN;
        let size = usize::from(header.phnum) * size_of::<Segment>();
        if !class64_little
            || !kind_ok
            || header.machine != EM_X86_64
            || usize::from(header.phentsize) != size_of::<Segment>()
            || header.phnum == 0
            || size > MAX_HEADERS
        {
            return Err(Errno::ENOEXEC);
        }
        let mut raw = vec![0; size];
        header.phoff.checked_add(size as u64).ok_or(Errno::ENOEXEC)?;
        read_exact(&file, header.phoff, &mut raw)?;
        let mut segments = Vec::new();
        for chunk in raw.chunks_exact(size_of::<Segment>()) {
            segments.push(Segment::read_from_bytes(chunk).map_err(|_| Errno::ENOEXEC)?);
        }
        let mut interpreter = None;
        if let Some(segment) = segments.iter().find(|s| s.kind == c::PT_INTERP) {
            if segment.filesz < 2 || segment.filesz > 4096 {
                return Err(Errno::ENOEXEC);
            }
            let mut path = vec![0; segment.filesz as usize];
            segment.offset.checked_add(segment.filesz).ok_or(Errno::ENOEXEC)?;
            read_exact(&file, segment.offset, &mut path)?;
            if path.pop() != Some(0) {
                return Err(Errno::ENOEXEC);
            }
            interpreter = Some(path);
        }
        let this = Self { file, header, segments, interpreter };
        this.check()?;
        Ok(this)
    }

    fn loads(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(|s| s.kind == c::PT_LOAD && s.memsz != 0)
    }

    fn check(&self) -> Result<()> {
        let mut end = 0;
        for s in self.loads() {
            let sane = s.filesz <= s.memsz
                && s.offset.checked_add(s.filesz).is_some()
                && s.vaddr.checked_add(s.memsz).is_some_and(|e| e < 1 << 47)
                && s.offset % PAGE_SIZE == s.vaddr % PAGE_SIZE
                && s.vaddr >= end;
            if !sane {
                return Err(Errno::ENOEXEC);
            }
            end = s.vaddr + s.memsz;
        }
        if end == 0 { Err(Errno::ENOEXEC) } else { Ok(()) }
    }

    /// Whether the file asks for an executable stack.
    pub fn exec_stack(&self) -> bool {
        self.segments.iter().find(|s| s.kind == c::PT_GNU_STACK).is_some_and(|s| s.flags & c::PF_X != 0)
    }

    /// Whether it can be mapped anywhere.
    pub fn relocatable(&self) -> bool {
        u32::from(self.header.kind) == c::ET_DYN
    }

    /// Maps the segments. `base`: where a relocatable file goes; `None` lets the address space choose.
    ///
    /// # Errors
    /// ENOMEM, ENOEXEC, EIO.
    pub fn map(&self, mm: &Arc<Mm>, base: Option<u64>) -> Result<Mapped> {
        let low = page_down(self.loads().map(|s| s.vaddr).min().ok_or(Errno::ENOEXEC)?);
        let high = page_up(self.loads().map(|s| s.vaddr + s.memsz).max().ok_or(Errno::ENOEXEC)?)?;
        let limits = MapLimits::NONE;
        let bias = if self.relocatable() {
            let placement = base.map_or(Placement::Hint(0), Placement::FixedNoReplace);
            // The whole span is taken first, so that the segments find their places free.
            let align = self.loads().map(|s| s.align).max().unwrap_or(PAGE_SIZE).clamp(PAGE_SIZE, 1 << 21);
            let span = high - low;
            let at =
                mm.mmap(placement, span + align, Prot::empty(), VmFlags::empty(), Content::Anon, &limits)?;
            mm.munmap(at, span + align)?;
            let at = if align.is_power_of_two() { at.next_multiple_of(align) } else { at };
            at.wrapping_sub(low)
        } else {
            0
        };
        let mut mapped = Mapped {
            entry: self.header.entry.wrapping_add(bias),
            bias,
            phdr: 0,
            phnum: self.header.phnum,
            end: high.wrapping_add(bias),
            code: (u64::MAX, 0),
            data: (u64::MAX, 0),
        };
        for segment in self.loads() {
            self.map_segment(mm, segment, bias)?;
            let start = segment.vaddr + bias;
            let range = if segment.flags & c::PF_X != 0 { &mut mapped.code } else { &mut mapped.data };
            range.0 = range.0.min(start);
            range.1 = range.1.max(start + segment.filesz);
            if (segment.offset..segment.offset + segment.filesz).contains(&self.header.phoff) {
                mapped.phdr = start + (self.header.phoff - segment.offset);
            }
        }
        if mapped.entry >= mm.user_top {
            return Err(Errno::ENOEXEC);
        }
        Ok(mapped)
    }

    fn map_segment(&self, mm: &Arc<Mm>, s: &Segment, bias: u64) -> Result<()> {
        let mut prot = Prot::empty();
        prot.set(Prot::READ, s.flags & c::PF_R != 0);
        prot.set(Prot::WRITE, s.flags & c::PF_W != 0);
        prot.set(Prot::EXEC, s.flags & c::PF_X != 0);
        let start = page_down(s.vaddr + bias);
        let file_end = s.vaddr + bias + s.filesz;
        let memory_end = page_up(s.vaddr + bias + s.memsz)?;
        let mut anon_start = start;
        if s.filesz != 0 {
            let len = page_up(file_end)? - start;
            let object = self.file.mappable(false, false)?;
            let content = Content::Object(object, page_down(s.offset) / PAGE_SIZE);
            mm.mmap(Placement::Fixed(start), len, prot, VmFlags::empty(), content, &MapLimits::NONE)?;
            mm.premap(start, start + len.min(PREMAP), PREMAP_COPIES);
            anon_start = start + len;
        }
        if memory_end > anon_start {
            let len = memory_end - anon_start;
            mm.mmap(
                Placement::Fixed(anon_start),
                len,
                prot,
                VmFlags::empty(),
                Content::Anon,
                &MapLimits::NONE,
            )?;
        }
        // What follows the file's bytes in their last page is zero where the segment is longer.
        if s.memsz > s.filesz
            && s.filesz != 0
            && !file_end.is_multiple_of(PAGE_SIZE)
            && prot.contains(Prot::WRITE)
        {
            let zeros = vec![0; (PAGE_SIZE - file_end % PAGE_SIZE) as usize];
            mm.write_bytes(file_end, &zeros)?;
        }
        Ok(())
    }
}
