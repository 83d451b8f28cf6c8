//! An image of a file system (EROFS, `docs/rofs.md`), as the lower tree of a root: read as memory, without a call to the
//! host but for pieces of it that are wanted for the first time.

use super::lower::{Lower, LowerEntry, LowerFile, LowerNode};
use crate::errno::{Errno, Result};
use crate::mm::frames::FrameRef;
use crate::mm::frames::image::Window;
use crate::vfs::inode::makedev;
use abi::PAGE_SIZE;
use abi::hostcall::FileStat;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::ControlFlow;
use linux_raw_sys::general as c;
use rofs::{Error, Extent, FileKind, Image, Inode, Nid, SourceError, Verify};
use smallvec::SmallVec;

/// Longest target of a symbolic link.
const MAX_TARGET: u64 = 4096;
/// Largest extended attribute, as Linux has it.
const MAX_ATTRIBUTE: usize = 64 << 10;

struct Source(Window);

impl rofs::Source for Source {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> core::result::Result<(), SourceError> {
        self.0.read(offset, out).map_err(|_| SourceError::Io)
    }
}

fn errno(error: Error) -> Errno {
    match error {
        Error::NotErofs | Error::Unsupported(_) => Errno::EINVAL,
        Error::Corrupt(_) => Errno::EUCLEAN,
        Error::WrongKind(_) => Errno::ENOTDIR,
        Error::Io | Error::Absent => Errno::EIO,
    }
}

/// An image.
pub struct ImageLower {
    image: Arc<Image<Source>>,
    /// For `st_dev` of what the image says of itself; nodes show their file system's.
    dev: u64,
}

impl ImageLower {
    /// The image with an index.
    ///
    /// # Errors
    /// EIO where there is none, or it cannot be read; EINVAL where it is none of this format, EUCLEAN where it is damaged.
    pub fn new(index: u32) -> Result<Self> {
        let image = Image::open(Source(Window::new(index)?), Verify::Checksum).map_err(errno)?;
        Ok(Self { image: Arc::new(image), dev: u64::from(index) })
    }

    fn inode(&self, id: u64) -> Result<Inode> {
        self.image.inode(Nid(id)).map_err(errno)
    }

    fn node(&self, nid: Nid) -> Result<(LowerNode, FileStat)> {
        let inode = self.inode(nid.0)?;
        let time = [inode.mtime, i64::from(inode.mtime_ns)];
        let stat = FileStat {
            ino: nid.0,
            dev: self.dev,
            mode: u32::from(inode.mode),
            nlink: inode.nlink,
            uid: inode.uid,
            gid: inode.gid,
            rdev: makedev(inode.device.major, inode.device.minor),
            size: inode.size,
            blocks: inode.size.div_ceil(PAGE_SIZE).saturating_mul(PAGE_SIZE / 512),
            atime: time,
            mtime: time,
            ctime: time,
        };
        Ok((LowerNode { path: Arc::from(&b""[..]), id: nid.0 }, stat))
    }
}

fn dtype(kind: FileKind) -> u8 {
    (match kind {
        FileKind::Regular => c::DT_REG,
        FileKind::Directory => c::DT_DIR,
        FileKind::Symlink => c::DT_LNK,
        FileKind::CharDevice => c::DT_CHR,
        FileKind::BlockDevice => c::DT_BLK,
        FileKind::Fifo => c::DT_FIFO,
        FileKind::Socket => c::DT_SOCK,
    }) as u8
}

impl Lower for ImageLower {
    fn root(&self) -> Result<(LowerNode, FileStat)> {
        self.node(self.image.root())
    }

    fn lookup(&self, dir: &LowerNode, name: &[u8]) -> Result<Option<(LowerNode, FileStat)>> {
        let dir = self.inode(dir.id)?;
        match self.image.lookup(&dir, name).map_err(errno)? {
            Some((nid, _)) => self.node(nid).map(Some),
            None => Ok(None),
        }
    }

    fn list(&self, dir: &LowerNode) -> Result<Vec<LowerEntry>> {
        let dir = self.inode(dir.id)?;
        let mut entries = Vec::new();
        let mut full = false;
        let each = |name: &[u8], nid: Nid, kind, _| {
            if name == b"." || name == b".." {
                return ControlFlow::Continue(());
            }
            let mut own = Vec::new();
            // How many there are is up to who made the image.
            if entries.try_reserve(1).is_err() || own.try_reserve_exact(name.len()).is_err() {
                full = true;
                return ControlFlow::Break(());
            }
            own.extend_from_slice(name);
            entries.push(LowerEntry { name: own, ino: nid.0, kind: dtype(kind) });
            ControlFlow::Continue(())
        };
        self.image.read_dir(&dir, 0, each).map_err(errno)?;
        if full { Err(Errno::ENOMEM) } else { Ok(entries) }
    }

    fn readlink(&self, node: &LowerNode) -> Result<Vec<u8>> {
        let inode = self.inode(node.id)?;
        if inode.size > MAX_TARGET {
            return Err(Errno::EUCLEAN);
        }
        let mut target = vec![0; inode.size as usize];
        let len = self.image.read_link(&inode, &mut target).map_err(errno)?;
        target.truncate(len);
        Ok(target)
    }

    fn open(&self, node: &LowerNode) -> Result<Arc<dyn LowerFile>> {
        Ok(Arc::new(ImageFile { image: self.image.clone(), inode: self.inode(node.id)? }))
    }

    fn get_xattr(&self, node: &LowerNode, name: &[u8]) -> Result<Vec<u8>> {
        let inode = self.inode(node.id)?;
        let mut value = Vec::new();
        let mut fits = true;
        let mut take = |part: &[u8]| {
            fits &= value.len() + part.len() <= MAX_ATTRIBUTE && value.try_reserve(part.len()).is_ok();
            if fits {
                value.extend_from_slice(part);
            }
        };
        let found = self.image.xattr(&inode, name, &mut take).map_err(errno)?;
        match found {
            None => Err(Errno::ENODATA),
            Some(_) if !fits => Err(Errno::ENOMEM),
            Some(_) => Ok(value),
        }
    }

    fn in_memory(&self) -> bool {
        true
    }
}

/// A file of the image.
struct ImageFile {
    image: Arc<Image<Source>>,
    inode: Inode,
}

impl ImageFile {
    /// Where in the image a page lies as a whole; `None` where it has to be copied.
    fn place(&self, index: u64) -> Option<u64> {
        let at = index.checked_mul(PAGE_SIZE).filter(|at| *at < self.inode.size)?;
        let Ok(Extent::Data { image_offset, len }) = self.image.map(&self.inode, at) else { return None };
        if !image_offset.is_multiple_of(PAGE_SIZE) {
            return None;
        }
        let have = (self.inode.size - at).min(PAGE_SIZE);
        if len < have {
            return None;
        }
        // What is behind the end of a file must be zeros in a mapping of it.
        (have == PAGE_SIZE || self.is_zero(image_offset + have, image_offset + PAGE_SIZE))
            .then_some(image_offset)
    }

    fn is_zero(&self, start: u64, end: u64) -> bool {
        let mut buffer = [0u8; 256];
        let window = &self.image.source().0;
        // Behind the image's own end there is nothing but the host's zeros.
        let end = end.min(window.len());
        (start..end).step_by(buffer.len()).all(|at| {
            let part = &mut buffer[..(end - at).min(256) as usize];
            window.read(at, part).is_ok() && part.iter().all(|byte| *byte == 0)
        })
    }
}

impl LowerFile for ImageFile {
    fn read_pages(&self, index: u64, frames: &[FrameRef]) -> Result<usize> {
        let mut page = [0u8; 512];
        let mut done = 0;
        for (number, frame) in (index..).zip(frames) {
            for within in (0..PAGE_SIZE as usize).step_by(page.len()) {
                let at = number.checked_mul(PAGE_SIZE).and_then(|at| at.checked_add(within as u64));
                let at = at.ok_or(Errno::EFBIG)?;
                let got = self.image.read(&self.inode, at, &mut page).map_err(errno)?;
                frame.write(within, &page[..got]);
                done += got;
                if got < page.len() {
                    return Ok(done);
                }
            }
        }
        Ok(done)
    }

    fn frames(&self, index: u64, max: usize) -> SmallVec<[FrameRef; 16]> {
        let window = &self.image.source().0;
        let mut out = SmallVec::new();
        for number in (index..).take(max) {
            let Some(frame) = self.place(number).and_then(|at| window.frame(at).ok()) else { break };
            out.push(frame);
        }
        out
    }
}
