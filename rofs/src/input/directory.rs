//! A directory of the host.

use crate::build::has_place;
use crate::failure::{Context, Failure};
use crate::progress::Progress;
use crate::read::FileKind;
use crate::tree::{Content, Kind, Layers, Meta, Xattrs};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, Metadata};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Adds all that is beneath `root` to the current layer, and the metadata of `root` itself. `exclude` gets paths
/// relative to it. Symbolic links are taken as they are; mounts beneath are entered.
///
/// # Errors
/// What reading says, with the path.
pub fn add_directory(
    layers: &mut Layers,
    root: &Path,
    exclude: &dyn Fn(&[u8]) -> bool,
    progress: &dyn Progress,
) -> Result<(), Failure> {
    progress.stage("reading", None);
    let meta = fs::metadata(root).when("look at", root)?;
    if !meta.is_dir() {
        let object = root.display().to_string();
        return Err(Failure::input(object, "not a directory", "name the kind of the source by --from"));
    }
    layers.put(b"", meta_of(root, &meta, progress)?, Kind::Directory(BTreeMap::new()))?;
    // Names of one file, by device and inode.
    let mut names: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
    let mut waiting: Vec<(PathBuf, Vec<u8>)> = vec![(root.to_path_buf(), Vec::new())];
    while let Some((dir, below)) = waiting.pop() {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&dir).when("list", &dir)? {
            entries.push(entry.when("list", &dir)?.file_name().into_vec());
        }
        // The order of a file system is not that of another.
        entries.sort_unstable();
        for name in entries {
            let path = dir.join(std::ffi::OsStr::from_bytes(&name));
            let mut inside = below.clone();
            if !inside.is_empty() {
                inside.push(b'/');
            }
            inside.extend_from_slice(&name);
            if exclude(&inside) {
                continue;
            }
            let meta = fs::symlink_metadata(&path).when("look at", &path)?;
            if !meta.is_dir() && meta.nlink() > 1 {
                let key = (meta.dev(), meta.ino());
                if let Some(first) = names.get(&key) {
                    layers.hard_link(&inside, first)?;
                    continue;
                }
                names.insert(key, inside.clone());
            }
            let Some(kind) = kind_of(&path, &meta, progress)? else { continue };
            layers.put(&inside, meta_of(&path, &meta, progress)?, kind)?;
            if meta.is_dir() {
                waiting.push((path, inside));
            }
        }
    }
    Ok(())
}

fn kind_of(path: &Path, meta: &Metadata, progress: &dyn Progress) -> Result<Option<Kind>, Failure> {
    let device = meta.rdev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    Ok(Some(match FileKind::from_mode(meta.mode()) {
        Some(FileKind::Directory) => Kind::Directory(BTreeMap::new()),
        Some(FileKind::Regular) => {
            Kind::Regular(Content::from_file(path.to_path_buf(), &mut |bytes| progress.advance(bytes))?)
        }
        Some(FileKind::Symlink) => {
            Kind::Symlink(fs::read_link(path).when("read the link", path)?.into_os_string().into_vec())
        }
        Some(FileKind::CharDevice) => Kind::CharDevice { major, minor },
        Some(FileKind::BlockDevice) => Kind::BlockDevice { major, minor },
        Some(FileKind::Fifo) => Kind::Fifo,
        Some(FileKind::Socket) => Kind::Socket,
        None => {
            progress.warn(&format!("{}: a kind of file that images do not have", path.display()));
            return Ok(None);
        }
    }))
}

fn meta_of(path: &Path, meta: &Metadata, progress: &dyn Progress) -> Result<Meta, Failure> {
    Ok(Meta {
        mode: u16::try_from(meta.mode() & 0o7777).unwrap_or(0),
        uid: meta.uid(),
        gid: meta.gid(),
        mtime: meta.mtime(),
        mtime_ns: u32::try_from(meta.mtime_nsec()).unwrap_or(0),
        xattrs: xattrs_of(path, progress)?,
    })
}

/// Extended attributes of a file, those that images have a place for.
fn xattrs_of(path: &Path, progress: &dyn Progress) -> Result<Xattrs, Failure> {
    use rustix::io::Errno;
    let mut out = Xattrs::new();
    // Most files have none: one call says so.
    let mut names = vec![0u8; 1024];
    let length = loop {
        match rustix::fs::llistxattr(path, &mut names[..]) {
            Ok(length) => break length,
            Err(Errno::RANGE) if names.len() < 1 << 20 => names.resize(names.len().saturating_mul(8), 0),
            Err(Errno::NOTSUP) => return Ok(out),
            Err(error) => return Err(error).when("list the extended attributes of", path),
        }
    };
    for name in names.get(..length).unwrap_or_default().split(|b| *b == 0).filter(|n| !n.is_empty()) {
        if !has_place(name) {
            let shown = crate::failure::shown(name);
            progress.warn(&format!("{}: images have no place for attribute {shown}", path.display()));
            continue;
        }
        let mut value = vec![0u8; 1 << 16];
        match rustix::fs::lgetxattr(path, name, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                out.insert(name.to_vec(), value);
            }
            Err(Errno::NODATA) => {}
            Err(error) => return Err(error).when("read an extended attribute of", path),
        }
    }
    Ok(out)
}
