//! Archives as layers: files, whiteouts and opaque directories.

use super::archive::{Archive, Member};
use super::compression::decompressed;
use super::spool::Spool;
use crate::build::has_place;
use crate::failure::{Failure, shown};
use crate::progress::Progress;
use crate::tree::{Kind, Layers, Meta, clean_path};
use std::collections::BTreeMap;
use std::io::{self, Read};

/// What whiteouts begin with.
const WHITEOUT: &[u8] = b".wh.";
/// The name that makes a directory opaque.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Other names that begin so are an old union file system's own.
const PRIVATE: &[u8] = b".wh..wh.";

/// Adds the files of an archive, compressed or not, to the current layer, and takes away what it whites out of those
/// below. `name` is what messages call it. The stream is read to its end.
///
/// # Errors
/// [`Failure::Io`] if it cannot be read or is no archive; [`Failure::Input`] for a file in it that cannot be.
pub fn add_archive(
    layers: &mut Layers,
    stream: impl Read,
    name: &str,
    spool: &mut Spool,
    progress: &dyn Progress,
) -> Result<(), Failure> {
    let failed = |source: io::Error| Failure::Io { action: "read", object: name.to_owned(), source };
    progress.stage("reading", None);
    let mut archive = Archive::new(decompressed(stream).map_err(failed)?);
    while let Some(member) = archive.next().map_err(failed)? {
        if white_out(layers, &member.path)? {
            continue;
        }
        let kind = match member.flag {
            b'1' => {
                layers.hard_link(&member.path, &member.link)?;
                continue;
            }
            b'2' => Kind::Symlink(member.link.clone()),
            b'3' => Kind::CharDevice { major: member.major, minor: member.minor },
            b'4' => Kind::BlockDevice { major: member.major, minor: member.minor },
            b'5' => Kind::Directory(BTreeMap::new()),
            b'6' => Kind::Fifo,
            // Old archives have no type for a directory.
            0 | b'0' if member.path.ends_with(b"/") => Kind::Directory(BTreeMap::new()),
            0 | b'0' | b'7' | b'S' => {
                let content = spool
                    .take(|to| archive.feed(&member, to, &mut |bytes| progress.advance(bytes)))
                    .map_err(failed)?;
                Kind::Regular(content)
            }
            flag => {
                let path = shown(&member.path);
                progress.warn(&format!("{name}: {path} is left out: a type {:?} of tar", char::from(flag)));
                continue;
            }
        };
        let meta = meta_of(&member, name, progress);
        layers.put(&member.path, meta, kind)?;
    }
    archive.drain().map_err(failed)
}

/// Whether a stream begins as the archive of an OCI image layout does.
pub fn looks_like_oci(stream: impl Read) -> bool {
    let Ok(stream) = decompressed(stream) else { return false };
    let mut archive = Archive::new(stream);
    for _ in 0..8 {
        let Ok(Some(member)) = archive.next() else { return false };
        match clean_path(&member.path).as_slice() {
            [b"oci-layout"] | [b"blobs", b"sha256", ..] => return true,
            _ => {}
        }
    }
    false
}

/// Serves a name that stands for something to be taken away; `false` for others.
fn white_out(layers: &mut Layers, path: &[u8]) -> Result<bool, Failure> {
    let components = clean_path(path);
    let Some((last, parents)) = components.split_last() else { return Ok(false) };
    if *last == OPAQUE {
        layers.opaque(&parents.join(&b'/'))?;
    } else if components.iter().any(|c| c.starts_with(PRIVATE)) {
        return Ok(true);
    } else if let Some(hidden) = last.strip_prefix(WHITEOUT) {
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(Failure::input(shown(path), "a whiteout of nothing", "mend the layer"));
        }
        let mut target = parents.to_vec();
        target.push(hidden);
        layers.whiteout(&target.join(&b'/'))?;
    } else {
        return Ok(false);
    }
    Ok(true)
}

fn meta_of(member: &Member, name: &str, progress: &dyn Progress) -> Meta {
    let mut xattrs = member.xattrs.clone();
    xattrs.retain(|attribute, _| {
        let keep = has_place(attribute);
        if !keep {
            let (path, attribute) = (shown(&member.path), shown(attribute));
            progress.warn(&format!("{name}: {path}: images have no place for attribute {attribute}"));
        }
        keep
    });
    Meta {
        mode: member.mode,
        uid: member.uid,
        gid: member.gid,
        mtime: member.mtime,
        mtime_ns: member.mtime_ns,
        xattrs,
    }
}

/// Unpacks files of an archive that `wanted` gives a place to; whatever else is there is passed over.
pub(super) fn unpack_some(
    stream: impl Read,
    name: &str,
    mut wanted: impl FnMut(&[&[u8]]) -> Option<std::path::PathBuf>,
) -> Result<(), Failure> {
    use crate::failure::Context;
    struct ToFile(std::fs::File, u64);
    impl super::spool::Feed for ToFile {
        fn push(&mut self, data: &[u8]) -> io::Result<()> {
            std::os::unix::fs::FileExt::write_all_at(&self.0, data, self.1)?;
            self.1 = self.1.saturating_add(data.len() as u64);
            Ok(())
        }
        fn skip(&mut self, len: u64) -> io::Result<()> {
            self.1 = self.1.saturating_add(len);
            self.0.set_len(self.1)
        }
    }
    let mut archive = Archive::new(decompressed(stream).when("read", name)?);
    while let Some(member) = archive.next().when("read", name)? {
        if !matches!(member.flag, 0 | b'0') {
            continue;
        }
        let Some(path) = wanted(&clean_path(&member.path)) else { continue };
        let file = std::fs::File::create(&path).when("create", &path)?;
        archive.feed(&member, &mut ToFile(file, 0), &mut |_| {}).when("unpack", name)?;
    }
    Ok(())
}
