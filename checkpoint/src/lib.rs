//! Snapshots: the memory of a frozen sandbox on disk, and a manifest of what it belongs to.
//!
//! A snapshot is a directory of two files. `manifest.json` is a [`Manifest`]; `pages` holds the extents of memory one
//! after the other, with holes where they are zero, so that it can be mapped. The directory is written beside its place
//! and renamed, so a snapshot is whole or not there.
#![forbid(unsafe_code)]

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use abi::HOST_INTERFACE_VERSION;
use abi::control::SavedMachine;
use serde::{Deserialize, Serialize};

/// Version of this format of directories.
pub const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";
const PAGES: &str = "pages";
/// Most bytes of a manifest.
const MAX_MANIFEST: u64 = 16 << 20;

/// What a snapshot belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// Version of the host interface that the sentry in it speaks.
    pub host_interface: u32,
    /// Identifier of the container.
    pub container: String,
    /// The machine.
    pub machine: SavedMachine,
}

/// A failure with a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is something at its place already.
    #[error("{} exists already; remove it or name another directory", path.display())]
    Exists {
        /// The place.
        path: PathBuf,
    },
    /// A file of it cannot be read or written.
    #[error("{operation} {}: {source}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The manifest does not parse.
    #[error("{} is no manifest of a snapshot: {source}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// It cannot be used here: every reason.
    #[error("the snapshot {} cannot be used: {reasons}", path.display())]
    Refused {
        /// Its directory.
        path: PathBuf,
        /// All reasons.
        reasons: String,
    },
}

fn file_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::File { operation, path, source }
}

/// A snapshot that is being written; removed again unless it is finished.
pub struct Writer {
    place: PathBuf,
    beside: PathBuf,
    pages: File,
    finished: bool,
}

impl Writer {
    /// Begins a snapshot that will stand at `place`.
    ///
    /// # Errors
    /// [`Error::Exists`] and [`Error::File`].
    pub fn create(place: &Path) -> Result<Self, Error> {
        if fs::symlink_metadata(place).is_ok() {
            return Err(Error::Exists { path: place.to_path_buf() });
        }
        let name = place.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let beside = place.with_file_name(format!(".{name}.{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&beside).map_err(file_error("making", &beside))?;
        let path = beside.join(PAGES);
        let pages = match new_file(&path) {
            Ok(pages) => pages,
            Err(source) => {
                let _ = fs::remove_dir_all(&beside);
                return Err(file_error("making", &path)(source));
            }
        };
        Ok(Self { place: place.to_path_buf(), beside, pages, finished: false })
    }

    /// The file that takes the memory.
    pub fn pages(&self) -> &File {
        &self.pages
    }

    /// Writes the manifest and puts the snapshot in its place.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn finish(mut self, container: &str, machine: SavedMachine) -> Result<(), Error> {
        let manifest = Manifest {
            format: FORMAT,
            host_interface: HOST_INTERFACE_VERSION,
            container: container.to_string(),
            machine,
        };
        let path = self.beside.join(MANIFEST);
        let write = || -> io::Result<()> {
            let mut file = new_file(&path)?;
            file.write_all(&serde_json::to_vec_pretty(&manifest)?)?;
            file.sync_all()?;
            self.pages.sync_all()
        };
        write().map_err(file_error("writing", &path))?;
        fs::rename(&self.beside, &self.place).map_err(file_error("renaming to", &self.place))?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.finished {
            let _ = fs::remove_dir_all(&self.beside);
        }
    }
}

fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// A snapshot that may be restored.
pub struct Snapshot {
    /// What it belongs to.
    pub manifest: Manifest,
    /// Its memory.
    pub pages: File,
}

impl Snapshot {
    /// Opens a snapshot and checks that this version can run it.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Manifest`] and, with every reason at once, [`Error::Refused`].
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(MANIFEST);
        let mut text = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(MAX_MANIFEST).read_to_end(&mut text))
            .map_err(file_error("reading", &path))?;
        let manifest: Manifest =
            serde_json::from_slice(&text).map_err(|source| Error::Manifest { path, source })?;
        let path = dir.join(PAGES);
        let pages = File::open(&path).map_err(file_error("opening", &path))?;
        let len = pages.metadata().map_err(file_error("looking at", &path))?.len();
        let mut reasons = Vec::new();
        if manifest.format != FORMAT {
            reasons.push(format!("its format is {}, this version knows {FORMAT}", manifest.format));
        }
        if manifest.host_interface != HOST_INTERFACE_VERSION {
            reasons.push(format!(
                "its sentry speaks version {} of the host interface, this version {HOST_INTERFACE_VERSION}",
                manifest.host_interface
            ));
        }
        let wanted = manifest.machine.extents.iter().try_fold(0u64, |sum, extent| sum.checked_add(extent.1));
        if wanted != Some(len) {
            reasons.push(format!("{} has {len} bytes, not what the manifest says", path.display()));
        }
        if reasons.is_empty() {
            Ok(Self { manifest, pages })
        } else {
            Err(Error::Refused { path: dir.to_path_buf(), reasons: reasons.join("; ") })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(len: u64) -> SavedMachine {
        let sentry = "ab".repeat(32);
        SavedMachine { platform: 1, xcr0: 7, xsave_size: 832, cpus: 2, sentry, extents: vec![(0, len, 0)] }
    }

    #[test]
    fn a_snapshot_is_whole_or_not_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = dir.path().join("one");
        let writer = Writer::create(&place).expect("a writer");
        drop(writer);
        assert_eq!(fs::read_dir(dir.path()).expect("entries").count(), 0);
        let writer = Writer::create(&place).expect("a writer");
        writer.pages().set_len(4096).expect("a length");
        writer.finish("c", machine(4096)).expect("finished");
        assert!(matches!(Writer::create(&place), Err(Error::Exists { .. })));
        let snapshot = Snapshot::open(&place).expect("a snapshot");
        assert_eq!(snapshot.manifest.machine, machine(4096));
        assert_eq!(fs::read_dir(dir.path()).expect("entries").count(), 1);
    }

    #[test]
    fn every_reason_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = dir.path().join("one");
        let writer = Writer::create(&place).expect("a writer");
        writer.finish("c", machine(4096)).expect("finished");
        let path = place.join(MANIFEST);
        let text = fs::read_to_string(&path).expect("text").replace("\"format\": 1", "\"format\": 7");
        fs::write(&path, text).expect("written");
        let Err(Error::Refused { reasons, .. }) = Snapshot::open(&place) else { panic!("opened") };
        assert!(reasons.contains("format is 7") && reasons.contains("has 0 bytes"), "{reasons}");
        fs::write(&path, "{").expect("written");
        assert!(matches!(Snapshot::open(&place), Err(Error::Manifest { .. })));
        fs::remove_file(&path).expect("removed");
        assert!(matches!(Snapshot::open(&place), Err(Error::File { .. })));
    }
}
