//! The vDSO: an ELF image that every program gets, vdso(7), and its data page.

use crate::arch::vdso::{CODE_OFFSET, code, entries};
use crate::errno::{Errno, Result};
use crate::mm::Mm;
use crate::mm::frames::FrameRef;
use crate::mm::map::{Content, MapLimits, Placement};
use crate::mm::object::{Mappable, Mappings, ObjectName};
use crate::mm::vma::{Prot, VmFlags};
use crate::sync::Once;
use abi::PAGE_SIZE;
use alloc::sync::Arc;
use alloc::vec::Vec;
use smallvec::SmallVec;

/// The two pages: data, then the image.
struct Pages {
    frames: [FrameRef; 2],
    mappings: Mappings,
}

impl Mappable for Pages {
    fn frame(&self, index: u64, _write: bool) -> Result<FrameRef> {
        self.frames.get(index as usize).cloned().ok_or(Errno::EFAULT)
    }

    fn frames_present(&self, index: u64, max: usize) -> SmallVec<[FrameRef; 16]> {
        self.frames.iter().skip(index as usize).take(max).cloned().collect()
    }

    fn mappings(&self) -> &Mappings {
        &self.mappings
    }

    fn describe(&self) -> ObjectName {
        ObjectName::default()
    }
}

static PAGES: Once<Arc<Pages>> = Once::new();

/// Makes the pages. Without memory programs run without a vDSO.
///
/// # Errors
/// ENOMEM.
pub fn init() -> Result<()> {
    let data = FrameRef::alloc_zeroed()?;
    let image = FrameRef::alloc_zeroed()?;
    let bytes = build();
    image.write(0, &bytes);
    image.write(CODE_OFFSET, code());
    let _ = PAGES.set(Arc::new(Pages { frames: [data, image], mappings: Mappings::new() }));
    update();
    Ok(())
}

/// Writes the clocks' parameters into the data page. Readers see an odd count while it changes.
pub fn update() {
    let Some(pages) = PAGES.get() else { return };
    let page = &pages.frames[0];
    let mut sequence = [0; 8];
    page.read(0, &mut sequence);
    let sequence = u64::from_le_bytes(sequence);
    page.write(0, &(sequence | 1).to_le_bytes());
    core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
    for (i, value) in crate::time::vdso_data().iter().enumerate() {
        page.write(8 + 8 * i, &value.to_le_bytes());
    }
    core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
    page.write(0, &((sequence | 1) + 1).to_le_bytes());
}

/// Maps the vDSO and returns the address of its ELF header; 0 where there is none.
///
/// # Errors
/// ENOMEM.
pub fn map(mm: &Arc<Mm>) -> Result<u64> {
    let Some(pages) = PAGES.get() else { return Ok(0) };
    let none = MapLimits::NONE;
    let at =
        mm.mmap(Placement::Hint(0), 2 * PAGE_SIZE, Prot::empty(), VmFlags::empty(), Content::Anon, &none)?;
    let object: Arc<dyn Mappable> = pages.clone();
    let data = Content::Object(object.clone(), 0);
    mm.mmap(Placement::Fixed(at), PAGE_SIZE, Prot::READ, VmFlags::VVAR, data, &none)?;
    let image = Content::Object(object, 1);
    mm.mmap(
        Placement::Fixed(at + PAGE_SIZE),
        PAGE_SIZE,
        Prot::READ | Prot::EXEC,
        VmFlags::VDSO,
        image,
        &none,
    )?;
    Ok(at + PAGE_SIZE)
}

/// The hash of a symbol's or version's name in the System V ABI.
fn elf_hash(name: &[u8]) -> u32 {
    name.iter().fold(0u32, |hash, byte| {
        let hash = (hash << 4).wrapping_add(u32::from(*byte));
        let high = hash & 0xf000_0000;
        (hash ^ (high >> 24)) & !high
    })
}

/// The version definitions: the object's own name, and the version that all its symbols have. Go takes no symbol
/// without one.
fn versions(soname: usize, version: usize, name: &[u8], version_name: &[u8]) -> Vec<u8> {
    const BASE: u16 = 1;
    let mut out = Vec::new();
    let entries = [(BASE, 1u16, soname, name, 28u32), (0, 2, version, version_name, 0)];
    for (flags, index, at, name, next) in entries {
        for half in [1u16, flags, index, 1] {
            out.extend_from_slice(&half.to_le_bytes());
        }
        for word in [elf_hash(name), 20, next, at as u32, 0] {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }
    out
}

/// The ELF header, program headers and symbol tables of the image.
fn build() -> Vec<u8> {
    use linux_raw_sys::elf_uapi as c;
    const NAMES: [(&[u8], usize); 7] = [
        (b"__vdso_clock_gettime", 0),
        (b"clock_gettime", 0),
        (b"__vdso_gettimeofday", 1),
        (b"gettimeofday", 1),
        (b"__vdso_time", 2),
        (b"time", 2),
        (b"__vdso_clock_getres", 3),
    ];
    const HEADERS: usize = 64 + 2 * 56;
    let symbols = NAMES.len() + 1;
    let hash_at = HEADERS;
    let hash_len = 4 * (2 + 1 + symbols);
    let sym_at = (hash_at + hash_len).next_multiple_of(8);
    let str_at = sym_at + 24 * symbols;
    let mut strings = alloc::vec![0u8];
    let soname = strings.len();
    const SONAME: &[u8] = b"linux-vdso.so.1";
    const VERSION: &[u8] = b"LINUX_2.6";
    strings.extend_from_slice(SONAME);
    strings.push(0);
    let version = strings.len();
    strings.extend_from_slice(VERSION);
    strings.push(0);
    let offsets: Vec<usize> = NAMES
        .iter()
        .map(|(name, _)| {
            let at = strings.len();
            strings.extend_from_slice(name);
            strings.push(0);
            at
        })
        .collect();
    let versym_at = (str_at + strings.len()).next_multiple_of(8);
    let verdef = versions(soname, version, SONAME, VERSION);
    let verdef_at = (versym_at + 2 * symbols).next_multiple_of(8);
    let dyn_at = (verdef_at + verdef.len()).next_multiple_of(8);
    let dynamic: [(u64, u64); 10] = [
        (u64::from(c::DT_HASH), hash_at as u64),
        (u64::from(c::DT_STRTAB), str_at as u64),
        (u64::from(c::DT_SYMTAB), sym_at as u64),
        (u64::from(c::DT_STRSZ), strings.len() as u64),
        (u64::from(c::DT_SYMENT), 24),
        (u64::from(c::DT_SONAME), soname as u64),
        (u64::from(c::DT_VERSYM), versym_at as u64),
        (u64::from(c::DT_VERDEF), verdef_at as u64),
        (u64::from(c::DT_VERDEFNUM), 2),
        (u64::from(c::DT_NULL), 0),
    ];
    let mut out = Vec::new();
    out.extend_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let mut put = |bytes: &[u8]| out.extend_from_slice(bytes);
    put(&(c::ET_DYN as u16).to_le_bytes());
    put(&62u16.to_le_bytes());
    put(&1u32.to_le_bytes());
    put(&(CODE_OFFSET as u64).to_le_bytes());
    put(&64u64.to_le_bytes());
    put(&0u64.to_le_bytes());
    put(&0u32.to_le_bytes());
    for half in [64u16, 56, 2, 64, 0, 0] {
        put(&half.to_le_bytes());
    }
    let segment = |kind: u32, flags: u32, at: u64, len: u64, align: u64| {
        let mut s = Vec::new();
        s.extend_from_slice(&kind.to_le_bytes());
        s.extend_from_slice(&flags.to_le_bytes());
        for value in [at, at, at, len, len, align] {
            s.extend_from_slice(&value.to_le_bytes());
        }
        s
    };
    put(&segment(c::PT_LOAD, c::PF_R | c::PF_X, 0, PAGE_SIZE, PAGE_SIZE));
    put(&segment(c::PT_DYNAMIC, c::PF_R, dyn_at as u64, 16 * dynamic.len() as u64, 8));
    // One bucket whose chain runs through all symbols.
    for value in [1u32, symbols as u32, 1] {
        put(&value.to_le_bytes());
    }
    for i in 0..symbols as u32 {
        let next = if i == 0 || i as usize == symbols - 1 { 0 } else { i + 1 };
        put(&next.to_le_bytes());
    }
    out.resize(sym_at, 0);
    out.resize(sym_at + 24, 0);
    let entries = entries();
    for ((_, entry), name) in NAMES.iter().zip(&offsets) {
        out.extend_from_slice(&(*name as u32).to_le_bytes());
        // A global function in section 1 (any that is defined).
        out.extend_from_slice(&[0x12, 0, 1, 0]);
        out.extend_from_slice(&(CODE_OFFSET as u64 + entries[*entry]).to_le_bytes());
        out.extend_from_slice(&64u64.to_le_bytes());
    }
    out.extend_from_slice(&strings);
    out.resize(versym_at, 0);
    for i in 0..symbols {
        out.extend_from_slice(&(if i == 0 { 0u16 } else { 2 }).to_le_bytes());
    }
    out.resize(verdef_at, 0);
    out.extend_from_slice(&verdef);
    out.resize(dyn_at, 0);
    for (key, value) in dynamic {
        out.extend_from_slice(&key.to_le_bytes());
        out.extend_from_slice(&value.to_le_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_that_of_the_abi() {
        // The value that glibc has for this version.
        assert_eq!(elf_hash(b"LINUX_2.6"), 61_765_110);
    }

    #[test]
    fn headers_end_before_the_code() {
        assert!(build().len() <= CODE_OFFSET);
        assert!(CODE_OFFSET + code().len() <= PAGE_SIZE as usize);
    }
}
