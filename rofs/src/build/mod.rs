//! The builder: an image of a [`Tree`].
//!
//! All is decided before the first byte is written: the order and place of inodes ([`plan`]), which extended
//! attributes are shared ([`xattrs`]), the blocks of directories ([`dirents`]), the place of each distinct data. Then
//! the image is written from front to back ([`write`]). Nothing but the input decides its bytes.

mod dirents;
mod plan;
mod write;
mod xattrs;

use crate::failure::{Context, Failure};
use crate::progress::Progress;
use crate::tree::Tree;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// How an image is built.
#[derive(Clone, Debug)]
pub struct Options {
    /// Size of a block as a power of 2, 9 to 16. Linux mounts blocks up to the size of its pages.
    pub block_bits: u8,
    /// Regular files of up to this many bytes stand behind their inodes. They cannot be mapped page by page.
    pub inline_max: u32,
    /// The image's time, which short inodes have: seconds since the epoch.
    pub build_time: u64,
    /// Name of the file system, padded with NUL.
    pub volume_name: [u8; 16],
}

impl Default for Options {
    fn default() -> Self {
        Self { block_bits: 12, inline_max: 1024, build_time: 0, volume_name: [0; 16] }
    }
}

/// What was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Length of the image.
    pub bytes: u64,
    /// How many inodes.
    pub inodes: u64,
    /// Bytes before the first data of files: superblock, inodes, directories, extended attributes.
    pub metadata: u64,
    /// Bytes of files' data, each content counted once.
    pub data: u64,
    /// Bytes that were not written, since they are equal to others.
    pub shared: u64,
    /// Identity of the file system, made of its content.
    pub uuid: [u8; 16],
}

/// Writes an image of `tree` to `file`, which is empty.
///
/// # Errors
/// What reading the input and writing say; [`Failure::Input`] for what the format cannot hold.
pub fn build(
    tree: &Tree,
    file: &File,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Summary, Failure> {
    let plan = plan::Plan::new(tree, options)?;
    write::write(tree, &plan, file, options, progress)
}

/// Writes an image beside `path` and then gives it this name, so that there is never half of one.
///
/// # Errors
/// As [`build`]; nothing is left behind then.
pub fn build_to(
    tree: &Tree,
    path: &Path,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Summary, Failure> {
    let beside = beside(path)?;
    let summary = build(tree, beside.as_file(), options, progress)?;
    beside.persist(path).map_err(|e| e.error).when("rename the finished file to", path)?;
    Ok(summary)
}

/// A file in the directory of `path`, gone unless it is renamed, readable by all.
pub(crate) fn beside(path: &Path) -> Result<tempfile::NamedTempFile, Failure> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    tempfile::Builder::new()
        .prefix(".mkrofs-")
        .permissions(std::fs::Permissions::from_mode(0o644))
        .tempfile_in(dir)
        .when("create a file in", dir)
}

/// Whether images have a place for an extended attribute of this name.
pub fn has_place(name: &[u8]) -> bool {
    xattrs::split_name(name).is_some()
}
