//! `mkrofs extract`: an image's files in a new directory.

use crate::bar::Bar;
use crate::look::{list, open, target, wrong};
use rofs::failure::{Context, shown};
use rofs::progress::Progress;
use rofs::{Extent, Failure, FileKind, Image, Inode, Source};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Copies all files. Everything is created anew beneath `dir`, so that no link of the image is ever followed.
pub fn extract(file: &Path, dir: &Path, quiet: bool) -> Result<(), Failure> {
    let image = open(file)?;
    if dir.exists() && fs::read_dir(dir).when("list", dir)?.next().is_some() {
        let object = dir.display().to_string();
        return Err(Failure::input(object, "the directory is not empty", "name one that is, or a new one"));
    }
    fs::create_dir_all(dir).when("create", dir)?;
    let bar = Bar::new(quiet);
    bar.stage("extracting", Some(image.source().len()));
    let result = walk(&image, file, dir, &bar);
    bar.finish();
    result
}

fn walk(image: &Image<File>, file: &Path, dir: &Path, bar: &Bar) -> Result<(), Failure> {
    let root = image.inode(image.root()).map_err(|e| wrong(file, "/", e))?;
    let mut first: HashMap<rofs::Nid, PathBuf> = HashMap::from([(root.nid, dir.to_path_buf())]);
    let mut directories = vec![(root, dir.to_path_buf())];
    let mut at = 0;
    while let Some((inode, path)) = directories.get(at).cloned() {
        at += 1;
        for (name, child) in list(image, file, &inode)? {
            let to = path.join(OsStr::from_bytes(&name));
            if let Some(known) = first.get(&child.nid) {
                fs::hard_link(known, &to).when("link", &to)?;
                continue;
            }
            create(image, file, &child, &to, bar)?;
            first.insert(child.nid, to.clone());
            if child.kind == FileKind::Directory {
                directories.push((child, to));
            } else {
                set_meta(image, file, &child, &to)?;
            }
        }
    }
    // Times of directories change with what is made in them, and permissions may forbid that.
    directories.iter().rev().try_for_each(|(inode, path)| set_meta(image, file, inode, path))
}

fn create(image: &Image<File>, file: &Path, inode: &Inode, to: &Path, bar: &Bar) -> Result<(), Failure> {
    match inode.kind {
        FileKind::Directory => fs::create_dir(to).when("create", to),
        FileKind::Regular => {
            let out = File::options().write(true).create_new(true).mode(0o600).open(to).when("create", to)?;
            let place = shown(to.as_os_str().as_bytes());
            let mut buffer = vec![0; 1 << 18];
            let mut offset = 0;
            while offset < inode.size {
                let (hole, len) = match image.map(inode, offset).map_err(|e| wrong(file, &place, e))? {
                    Extent::Hole { len } => (true, len),
                    Extent::Data { len, .. } => (false, len.min(buffer.len() as u64)),
                };
                if !hole {
                    let piece = buffer.get_mut(..usize::try_from(len).unwrap_or(0)).unwrap_or_default();
                    image.read(inode, offset, piece).map_err(|e| wrong(file, &place, e))?;
                    out.write_all_at(piece, offset).when("write", to)?;
                    bar.advance(len);
                }
                offset = offset.saturating_add(len.max(1));
            }
            out.set_len(inode.size).when("set the length of", to)
        }
        FileKind::Symlink => {
            let target = target(image, inode).map_err(|e| wrong(file, "a link", e))?;
            std::os::unix::fs::symlink(OsStr::from_bytes(&target), to).when("create", to)
        }
        kind => {
            let kind = match kind {
                FileKind::CharDevice => FileType::CharacterDevice,
                FileKind::BlockDevice => FileType::BlockDevice,
                FileKind::Socket => FileType::Socket,
                _ => FileType::Fifo,
            };
            let device = rustix::fs::makedev(inode.device.major, inode.device.minor);
            rustix::fs::mknodat(CWD, to, kind, Mode::from(0o600), device).when("create", to)
        }
    }
}

fn set_meta(image: &Image<File>, file: &Path, inode: &Inode, path: &Path) -> Result<(), Failure> {
    let owned = std::os::unix::fs::lchown(path, Some(inode.uid), Some(inode.gid));
    if let Err(error) = owned
        && (error.kind() != io::ErrorKind::PermissionDenied || rustix_is_root())
    {
        return Err(error).when("set the owner of", path);
    }
    let mut names = Vec::new();
    let listed = image.list_xattrs(inode, &mut |name, _| {
        names.push(name.to_vec());
        ControlFlow::Continue(())
    });
    listed.map_err(|e| wrong(file, "extended attributes", e))?;
    for name in names {
        let mut value = Vec::new();
        let read = image.xattr(inode, &name, &mut |piece| value.extend_from_slice(piece));
        read.map_err(|e| wrong(file, "extended attributes", e))?;
        rustix::fs::lsetxattr(path, name, &value, XattrFlags::empty()).when("set an attribute of", path)?;
    }
    if inode.kind != FileKind::Symlink {
        let mode = fs::Permissions::from_mode(u32::from(inode.mode & 0o7777));
        fs::set_permissions(path, mode).when("set the permissions of", path)?;
    }
    let time = Timespec { tv_sec: inode.mtime, tv_nsec: inode.mtime_ns.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).when("set the time of", path)
}

/// Whether owners can be set: then a refusal is an error, not what anybody gets.
fn rustix_is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
}
