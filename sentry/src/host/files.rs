//! Host calls on files beneath donated directories.

use crate::errno::{Errno, Result};
use crate::fs::lower::LowerEntry;
use crate::kernel::freeze;
use crate::mm::frames::FrameRef;
use crate::mm::frames::page::KernelPage;
use crate::sync::Mutex;
use abi::hostcall::{
    DirEntryHead, FileChange, FileClose, FileEvents, FileGetXattr, FileLink, FileListAt, FileOpen, FileRead,
    FileReadAt, FileReadDir, FileReadlink, FileSetAttr, FileStat, FileStatAt, FileStatHandle, FileSync,
    FileTruncate, FileUnwatch, FileWatch, FileWrite, GpaRange, MAX_PATH, MAX_RANGES, MAX_TRANSFER, Random,
};
use abi::{HUGE_PAGE_SIZE, PAGE_SIZE};
use alloc::boxed::Box;
use alloc::vec::Vec;
use zerocopy::{FromBytes, IntoBytes};

/// Frames of one scatter list.
const MOST_FRAMES: usize = if MAX_RANGES < MAX_TRANSFER / PAGE_SIZE {
    MAX_RANGES as usize
} else {
    (MAX_TRANSFER / PAGE_SIZE) as usize
};
/// Order of the buffer for directories: 64 KiB.
const DIR_ORDER: u8 = 4;

fn put_path(page: &KernelPage, path: &[u8]) -> Result<()> {
    if path.len() as u64 >= MAX_PATH {
        return Err(Errno::ENAMETOOLONG);
    }
    page.write(0, path);
    Ok(())
}

fn get_stat(page: &KernelPage) -> Result<FileStat> {
    let mut stat = FileStat::default();
    page.read(0, stat.as_mut_bytes());
    Ok(stat)
}

/// Metadata of a file beneath a donated directory.
///
/// # Errors
/// What the host says.
pub fn stat_at(root: u64, path: &[u8]) -> Result<FileStat> {
    let page = KernelPage::alloc()?;
    put_path(&page, path)?;
    let out = KernelPage::alloc()?;
    super::call(&FileStatAt {
        root,
        path_gpa: page.gpa(),
        path_len: path.len() as u64,
        stat_gpa: out.gpa(),
    })?;
    get_stat(&out)
}

/// Target of a symbolic link.
///
/// # Errors
/// What the host says.
pub fn readlink(root: u64, path: &[u8]) -> Result<Vec<u8>> {
    let page = KernelPage::alloc()?;
    put_path(&page, path)?;
    let out = KernelPage::alloc()?;
    let len = super::call(&FileReadlink {
        root,
        path_gpa: page.gpa(),
        path_len: path.len() as u64,
        buf_gpa: out.gpa(),
        buf_len: PAGE_SIZE,
    })?;
    let mut target = alloc::vec![0; len.min(PAGE_SIZE) as usize];
    out.read(0, &mut target);
    Ok(target)
}

/// An extended attribute.
///
/// # Errors
/// ENODATA and what the host says.
pub fn get_xattr(root: u64, path: &[u8], name: &[u8]) -> Result<Vec<u8>> {
    let page = KernelPage::alloc_order(1)?;
    if path.len() + name.len() > page.len() {
        return Err(Errno::ENAMETOOLONG);
    }
    page.write(0, path);
    page.write(path.len(), name);
    let out = KernelPage::alloc_order(DIR_ORDER)?;
    let len = super::call(&FileGetXattr {
        root,
        path_gpa: page.gpa(),
        lens: path.len() as u64 | (name.len() as u64) << 32,
        buf_gpa: out.gpa(),
        buf_len: out.len() as u64,
    })?;
    let mut value = alloc::vec![0; (len as usize).min(out.len())];
    out.read(0, &mut value);
    Ok(value)
}

/// Changes what a path beneath a donated directory names: one of [`abi::hostcall::change`].
///
/// # Errors
/// What the host says.
pub fn change(root: u64, path: &[u8], other: &[u8], operation: u64, first: u64, second: u64) -> Result<()> {
    if path.len() as u64 >= MAX_PATH || other.len() as u64 >= MAX_PATH {
        return Err(Errno::ENAMETOOLONG);
    }
    let page = KernelPage::alloc_order(1)?;
    page.write(0, path);
    page.write(path.len(), other);
    let lens = path.len() as u64 | (other.len() as u64) << 32;
    super::call(&FileChange { root, path_gpa: page.gpa(), lens, operation, first, second })?;
    Ok(())
}

/// Watches a file beneath a donated directory, for IN_* events; returns the watch's number.
///
/// # Errors
/// What the host says.
pub fn watch(root: u64, path: &[u8], mask: u32) -> Result<i32> {
    let page = KernelPage::alloc()?;
    put_path(&page, path)?;
    let request =
        FileWatch { root, path_gpa: page.gpa(), path_len: path.len() as u64, mask: u64::from(mask) };
    super::call(&request).map(|watch| watch as i32)
}

/// Ends a watch.
///
/// # Errors
/// EINVAL: there is none, or not any more.
pub fn unwatch(watch: i32) -> Result<()> {
    super::call(&FileUnwatch { watch: u64::from(watch as u32) }).map(drop)
}

/// Takes events of watches, as read(2) of inotify(7) gives them; empty where there are none: then an event of the VMM
/// tells of the next.
///
/// # Errors
/// ENOMEM.
pub fn events() -> Result<Vec<u8>> {
    let page = KernelPage::alloc()?;
    let got = super::call(&FileEvents { buf_gpa: page.gpa(), buf_len: PAGE_SIZE })?;
    let mut bytes = alloc::vec![0; got.min(PAGE_SIZE) as usize];
    page.read(0, &mut bytes);
    Ok(bytes)
}

/// Fills with random bytes of the host.
pub fn random(buf: &mut [u8]) {
    let Ok(page) = KernelPage::alloc() else { return };
    for chunk in buf.chunks_mut(PAGE_SIZE as usize) {
        if super::call(&Random { gpa: page.gpa(), len: chunk.len() as u64 }).is_ok() {
            page.read(0, chunk);
        }
    }
    page.write(0, &[0; 64]);
}

fn unpack(bytes: &[u8], entries: &mut Vec<LowerEntry>) -> Result<()> {
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|r| !r.is_empty()) {
        let (head, rest) = DirEntryHead::read_from_prefix(rest).map_err(|_| Errno::EIO)?;
        let len = head.name_len as usize;
        let name = rest.get(..len).ok_or(Errno::EIO)?.to_vec();
        entries.push(LowerEntry { name, ino: head.ino, kind: head.kind as u8 });
        at += (size_of::<DirEntryHead>() + len).next_multiple_of(8);
    }
    Ok(())
}

/// All entries of a directory: with one call of the host where they are not many.
///
/// # Errors
/// What the host says.
pub fn list_at(root: u64, path: &[u8]) -> Result<Vec<LowerEntry>> {
    let page = KernelPage::alloc()?;
    put_path(&page, path)?;
    let buf = KernelPage::alloc_order(DIR_ORDER)?;
    let call = FileListAt {
        root,
        path_gpa: page.gpa(),
        path_len: path.len() as u64,
        buf_gpa: buf.gpa(),
        buf_len: buf.len() as u64,
    };
    let got = match super::call(&call) {
        Ok(got) => got as usize,
        Err(Errno::E2BIG) => return Handle::open(root, path, 0, 0)?.list(),
        Err(e) => return Err(e),
    };
    let mut bytes = alloc::vec![0; got.min(buf.len())];
    buf.read(0, &mut bytes);
    let mut entries = Vec::new();
    unpack(&bytes, &mut entries)?;
    Ok(entries)
}

/// Reads a regular file into whole frames; returns the bytes read, fewer only at the end of the file, and the file
/// where it was not read to its end.
///
/// # Errors
/// What the host says.
pub fn read_at(root: u64, path: &[u8], offset: u64, frames: &[FrameRef]) -> Result<(usize, Option<Handle>)> {
    let first = frames.get(..MOST_FRAMES.min(frames.len())).unwrap_or_default();
    let page = KernelPage::alloc()?;
    put_path(&page, path)?;
    let list = KernelPage::alloc()?;
    let ranges = ranges(first.iter().map(FrameRef::gpa));
    list.write(0, ranges.as_bytes());
    let restores = freeze::restores();
    let got = super::call(&FileReadAt {
        root,
        path_gpa: page.gpa(),
        path_len: path.len() as u64,
        offset,
        ranges_gpa: list.gpa(),
        count: ranges.len() as u64,
    })?;
    let done = (got & 0xffff_ffff) as usize;
    let Some(number) = (got >> 32).checked_sub(1) else { return Ok((done, None)) };
    let handle = Handle { root, path: path.into(), flags: 0, open: Mutex::new((number, restores)) };
    let rest = frames.get(first.len()..).unwrap_or_default();
    let more = handle.read_frames(offset + done as u64, rest)?;
    Ok((done + more, Some(handle)))
}

/// Flags of an open that a file keeps when it is opened again: not create, exclusively, truncate.
const KEPT_FLAGS: u64 = 0xff;

/// An open host file; closed when it is dropped. In a restored sandbox it is opened again, by its path, when it is
/// used next.
pub struct Handle {
    root: u64,
    path: Box<[u8]>,
    flags: u64,
    /// Number of the handle, and the restore of the sandbox since which it is good.
    open: Mutex<(u64, u64)>,
}

fn open(root: u64, path: &[u8], flags: u64, mode: u64) -> Result<u64> {
    let page = KernelPage::alloc()?;
    put_path(&page, path)?;
    super::call(&FileOpen { root, path_gpa: page.gpa(), path_len: path.len() as u64, flags, mode })
}

impl Handle {
    /// Opens a file beneath a donated directory; flags and mode as the host call has them.
    ///
    /// # Errors
    /// What the host says.
    pub fn open(root: u64, path: &[u8], flags: u64, mode: u64) -> Result<Self> {
        let number = open(root, path, flags, mode)?;
        let open = Mutex::new((number, freeze::restores()));
        Ok(Self { root, path: path.into(), flags: flags & KEPT_FLAGS, open })
    }

    /// The handle's number; the file is opened again where that was given by the VMM of another machine.
    fn number(&self) -> Result<u64> {
        let mut at = self.open.lock();
        let restores = freeze::restores();
        if at.1 != restores {
            *at = (open(self.root, &self.path, self.flags, 0)?, restores);
        }
        Ok(at.0)
    }

    /// Whether it was opened for reading and writing.
    pub fn writes(&self) -> bool {
        self.allows(2)
    }

    /// Whether it can be used where the file was to be opened to read (0), write (1) or both (2).
    pub fn allows(&self, mode: u64) -> bool {
        let own = self.flags & KEPT_FLAGS;
        own == 2 || own == mode
    }

    /// Gives the file a name beneath a donated directory.
    ///
    /// # Errors
    /// What the host says.
    pub fn link(&self, root: u64, path: &[u8]) -> Result<()> {
        let page = KernelPage::alloc()?;
        put_path(&page, path)?;
        let path_len = path.len() as u64;
        super::call(&FileLink { handle: self.number()?, root, path_gpa: page.gpa(), path_len }).map(drop)
    }

    /// Changes attributes: [`abi::hostcall::FileSetAttr`] says what the values are.
    ///
    /// # Errors
    /// What the host says.
    pub fn set_attr(&self, operation: u64, values: [u64; 4]) -> Result<()> {
        let [first, second, third, fourth] = values;
        let handle = self.number()?;
        super::call(&FileSetAttr { handle, operation, first, second, third, fourth }).map(drop)
    }

    /// Metadata.
    ///
    /// # Errors
    /// What the host says.
    pub fn stat(&self) -> Result<FileStat> {
        let out = KernelPage::alloc()?;
        super::call(&FileStatHandle { handle: self.number()?, stat_gpa: out.gpa() })?;
        get_stat(&out)
    }

    /// Reads into whole frames; returns the bytes read, fewer only at the end of the file.
    ///
    /// # Errors
    /// What the host says.
    pub fn read_frames(&self, offset: u64, frames: &[FrameRef]) -> Result<usize> {
        let list = KernelPage::alloc()?;
        let mut done = 0;
        for part in frames.chunks(MOST_FRAMES) {
            let ranges = ranges(part.iter().map(FrameRef::gpa));
            list.write(0, ranges.as_bytes());
            let n = super::call(&FileRead {
                handle: self.number()?,
                offset: offset + done as u64,
                ranges_gpa: list.gpa(),
                count: ranges.len() as u64,
            })? as usize;
            done += n;
            if n < part.len() * PAGE_SIZE as usize {
                break;
            }
        }
        Ok(done)
    }

    /// Writes bytes of kernel memory.
    ///
    /// # Errors
    /// What the host says.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<usize> {
        let list = KernelPage::alloc()?;
        let buf = KernelPage::alloc_order(DIR_ORDER)?;
        let mut done = 0;
        for chunk in bytes.chunks(buf.len()) {
            buf.write(0, chunk);
            list.write(0, GpaRange { gpa: buf.gpa(), len: chunk.len() as u64 }.as_bytes());
            let n = super::call(&FileWrite {
                handle: self.number()?,
                offset: offset + done as u64,
                ranges_gpa: list.gpa(),
                count: 1,
            })? as usize;
            done += n;
            if n < chunk.len() {
                break;
            }
        }
        Ok(done)
    }

    /// Sets the length.
    ///
    /// # Errors
    /// What the host says.
    pub fn truncate(&self, size: u64) -> Result<()> {
        super::call(&FileTruncate { handle: self.number()?, size }).map(|_| ())
    }

    /// Waits until it is on the host's disk.
    ///
    /// # Errors
    /// What the host says.
    pub fn sync(&self) -> Result<()> {
        super::call(&FileSync { handle: self.number()?, data: 0 }).map(|_| ())
    }

    /// All entries of a directory.
    ///
    /// # Errors
    /// What the host says.
    pub fn list(&self) -> Result<Vec<LowerEntry>> {
        let buf = KernelPage::alloc_order(DIR_ORDER)?;
        let mut entries = Vec::new();
        let mut bytes = alloc::vec![0; buf.len()];
        let mut rewind = 1;
        loop {
            let got = super::call(&FileReadDir {
                handle: self.number()?,
                rewind,
                buf_gpa: buf.gpa(),
                buf_len: buf.len() as u64,
            })? as usize;
            rewind = 0;
            if got == 0 {
                return Ok(entries);
            }
            let Some(filled) = bytes.get_mut(..got) else { return Err(Errno::EIO) };
            buf.read(0, filled);
            unpack(filled, &mut entries)?;
        }
    }
}

/// The scatter list of frames: neighbours are joined within a block of 2 MiB, of which extents consist. A range that lay
/// in two extents would be refused.
fn ranges(frames: impl Iterator<Item = u64>) -> Vec<GpaRange> {
    let mut ranges: Vec<GpaRange> = Vec::new();
    for gpa in frames {
        match ranges.last_mut() {
            Some(last) if last.gpa + last.len == gpa && !gpa.is_multiple_of(HUGE_PAGE_SIZE) => {
                last.len += PAGE_SIZE;
            }
            _ => ranges.push(GpaRange { gpa, len: PAGE_SIZE }),
        }
    }
    ranges
}

impl Drop for Handle {
    fn drop(&mut self) {
        let (handle, restores) = *self.open.get_mut();
        if restores == freeze::restores() {
            let _ = super::call(&FileClose { handle });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_join_neighbours_but_not_across_blocks() {
        let pages = [3, 4, 5, 9, 510, 511, 512, 513, 511];
        let list = ranges(pages.iter().map(|page| page * PAGE_SIZE));
        let found: Vec<_> = list.iter().map(|r| (r.gpa / PAGE_SIZE, r.len / PAGE_SIZE)).collect();
        assert_eq!(found, [(3, 3), (9, 1), (510, 2), (512, 2), (511, 1)]);
    }
}
