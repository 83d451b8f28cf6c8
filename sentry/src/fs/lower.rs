//! What lies under a writable file system in memory: an immutable tree of files.

use crate::errno::Result;
use crate::mm::frames::FrameRef;
use abi::hostcall::FileStat;
use alloc::sync::Arc;
use alloc::vec::Vec;
use smallvec::SmallVec;

/// A file of the lower tree, as the tree names it.
#[derive(Debug, Clone)]
pub struct LowerNode {
    /// Its path from the lower root, without a leading slash (file systems of paths).
    pub path: Arc<[u8]>,
    /// Its number (file systems of numbers).
    pub id: u64,
}

/// An entry of a lower directory.
pub struct LowerEntry {
    /// Name.
    pub name: Vec<u8>,
    /// Inode number.
    pub ino: u64,
    /// DT_* type.
    pub kind: u8,
}

/// An open lower file.
pub trait LowerFile: Send + Sync {
    /// Reads pages from a page index on, straight into frames; returns the bytes read. Frames beyond the end are
    /// not written.
    ///
    /// # Errors
    /// EIO.
    fn read_pages(&self, index: u64, frames: &[FrameRef]) -> Result<usize>;

    /// Frames that hold pages from an index on as they are, up to `max`; they cannot be written. Ends at the first page
    /// that has to be read. May wait for the host's disk.
    fn frames(&self, _index: u64, _max: usize) -> SmallVec<[FrameRef; 16]> {
        SmallVec::new()
    }
}

/// An immutable tree of files: a donated directory of the host, or an image.
pub trait Lower: Send + Sync {
    /// The root directory.
    ///
    /// # Errors
    /// What the host says.
    fn root(&self) -> Result<(LowerNode, FileStat)>;

    /// An entry of a directory; `None` where there is none.
    ///
    /// # Errors
    /// What the host says, but ENOENT.
    fn lookup(&self, dir: &LowerNode, name: &[u8]) -> Result<Option<(LowerNode, FileStat)>>;

    /// All entries of a directory, without `.` and `..`.
    ///
    /// # Errors
    /// What the host says.
    fn list(&self, dir: &LowerNode) -> Result<Vec<LowerEntry>>;

    /// Target of a symbolic link.
    ///
    /// # Errors
    /// What the host says.
    fn readlink(&self, node: &LowerNode) -> Result<Vec<u8>>;

    /// Opens a regular file.
    ///
    /// # Errors
    /// What the host says.
    fn open(&self, node: &LowerNode) -> Result<Arc<dyn LowerFile>>;

    /// An extended attribute.
    ///
    /// # Errors
    /// ENODATA.
    fn get_xattr(&self, node: &LowerNode, name: &[u8]) -> Result<Vec<u8>>;

    /// Whether files are memory already, so that pages of them need no copy ([`LowerFile::frames`]).
    fn in_memory(&self) -> bool {
        false
    }
}
