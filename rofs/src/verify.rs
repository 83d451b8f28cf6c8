//! Reads everything in an image, as `fsck` does, and says what is wrong.

use crate::failure::shown;
use crate::progress::Progress;
use crate::{Error, Extent, FileKind, Image, Inode, Nid, Source};
use std::collections::HashMap;
use std::ops::ControlFlow;

/// More problems than this are not told.
const MAX_PROBLEMS: usize = 100;

/// What was found in an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Names in directories, without "." and "..".
    pub names: u64,
    /// Inodes that they lead to, and the root.
    pub inodes: u64,
    /// Bytes of data that were read, each page of the image once.
    pub data: u64,
    /// What is wrong: paths and reasons.
    pub problems: Vec<(String, String)>,
}

impl Report {
    fn problem(&mut self, path: &[u8], reason: impl ToString) {
        if self.problems.len() < MAX_PROBLEMS {
            let path = if path.is_empty() { "/".into() } else { shown(path) };
            self.problems.push((path, reason.to_string()));
        }
    }
}

/// An inode's links: what it says, and what was found.
struct Links {
    stated: u32,
    found: u32,
    path: Vec<u8>,
}

/// Walks all directories from the root, reads all inodes, extended attributes, links and data, looks every name up
/// that it finds, and counts links. A directory is entered once, so that a circle ends.
pub fn verify<S: Source>(image: &Image<S>, progress: &dyn Progress) -> Report {
    progress.stage("verifying", Some(image.source().len()));
    let mut report = Report::default();
    let mut links: HashMap<Nid, Links> = HashMap::new();
    let mut read = Pages::new(image.source().len());
    let root = match image.inode(image.root()) {
        Ok(root) if root.kind == FileKind::Directory => root,
        Ok(_) => {
            report.problem(b"", "the root is not a directory");
            return report;
        }
        Err(error) => {
            report.problem(b"", error);
            return report;
        }
    };
    links.insert(root.nid, Links { stated: root.nlink, found: 2, path: Vec::new() });
    check_xattrs(image, &root, b"", &mut report);
    let mut waiting = vec![(root, root.nid, Vec::new())];
    while let Some((dir, parent, path)) = waiting.pop() {
        let entries = entries(image, &dir, parent, &path, &mut report);
        let mut directories = 0u32;
        for (name, nid, kind) in entries {
            report.names = report.names.saturating_add(1);
            // Directories that share their blocks could have more names than there is time for.
            if report.names > image.source().len() {
                report.problem(&path, "more names than the image has room for");
                return report;
            }
            let mut child = path.clone();
            child.push(b'/');
            child.extend_from_slice(&name);
            match image.lookup(&dir, &name) {
                Ok(Some(found)) if found == (nid, kind) => {}
                Ok(_) => report.problem(&child, "a name that is listed is not found"),
                Err(error) => report.problem(&child, error),
            }
            if let Some(known) = links.get_mut(&nid) {
                known.found = known.found.saturating_add(1);
                if kind == FileKind::Directory {
                    report.problem(&child, "a directory with two names");
                }
                continue;
            }
            let inode = match image.inode(nid) {
                Ok(inode) => inode,
                Err(error) => {
                    report.problem(&child, error);
                    continue;
                }
            };
            if inode.kind != kind {
                report.problem(&child, "the entry's kind is not that of the inode");
            }
            let is_dir = inode.kind == FileKind::Directory;
            let found = if is_dir { 2 } else { 1 };
            links.insert(nid, Links { stated: inode.nlink, found, path: child.clone() });
            check_xattrs(image, &inode, &child, &mut report);
            match inode.kind {
                FileKind::Directory => {
                    directories = directories.saturating_add(1);
                    waiting.push((inode, dir.nid, child));
                }
                FileKind::Regular => read_data(image, &inode, &child, &mut read, &mut report, progress),
                FileKind::Symlink => {
                    let mut target = [0; 4096];
                    match image.read_link(&inode, &mut target) {
                        Ok(len) if target.iter().take(len).all(|b| *b != 0) => {}
                        Ok(_) => report.problem(&child, "a link's target with a NUL"),
                        Err(error) => report.problem(&child, error),
                    }
                }
                _ => {}
            }
        }
        if let Some(this) = links.get_mut(&dir.nid) {
            this.found = this.found.saturating_add(directories);
        }
    }
    report.inodes = links.len() as u64;
    for link in links.values().filter(|l| l.stated != l.found) {
        report.problem(&link.path, format!("{} links, but {} are there", link.stated, link.found));
    }
    if image.info().inodes != report.inodes {
        let (stated, found) = (image.info().inodes, report.inodes);
        report.problem(b"", format!("the superblock says {stated} inodes, but {found} are there"));
    }
    report.problems.sort();
    report
}

/// The entries of a directory but for "." and "..", which are checked.
fn entries<S: Source>(
    image: &Image<S>,
    dir: &Inode,
    parent: Nid,
    path: &[u8],
    report: &mut Report,
) -> Vec<(Vec<u8>, Nid, FileKind)> {
    let mut out = Vec::new();
    let mut last: Vec<u8> = Vec::new();
    let (mut this, mut up, mut sorted) = (false, false, true);
    let listed = image.read_dir(dir, 0, |name, nid, kind, _| {
        sorted &= last.as_slice() < name;
        last = name.to_vec();
        match name {
            b"." => this = nid == dir.nid,
            b".." => up = nid == parent,
            _ => out.push((name.to_vec(), nid, kind)),
        }
        ControlFlow::Continue(())
    });
    if let Err(error) = listed {
        report.problem(path, error);
    } else if !(this && up) {
        report.problem(path, "the directory has no \".\" and \"..\", or wrong ones");
    } else if !sorted {
        report.problem(path, "the directory's names are out of order");
    }
    out
}

fn check_xattrs<S: Source>(image: &Image<S>, inode: &Inode, path: &[u8], report: &mut Report) {
    let mut names = Vec::new();
    let listed = image.list_xattrs(inode, &mut |name, _| {
        names.push(name.to_vec());
        ControlFlow::Continue(())
    });
    let read = listed.and_then(|()| {
        for name in &names {
            if image.xattr(inode, name, &mut |_| {})?.is_none() {
                return Err(Error::Corrupt("an extended attribute that is listed is not found"));
            }
        }
        Ok(())
    });
    if let Err(error) = read {
        report.problem(path, error);
    }
}

/// Pages of an image that were read: what files share, or claim to, is read once.
struct Pages {
    words: Vec<u64>,
}

const PAGE: u64 = 4096;
/// How much is read at once.
const PIECE: u64 = 1 << 18;

impl Pages {
    fn new(length: u64) -> Self {
        let words = length.div_ceil(PAGE).div_ceil(64);
        Self { words: vec![0; usize::try_from(words).unwrap_or(0)] }
    }

    /// Marks a page; `true` if it was not before.
    fn mark(&mut self, page: u64) -> bool {
        let Some(word) = usize::try_from(page / 64).ok().and_then(|w| self.words.get_mut(w)) else {
            return false;
        };
        let bit = 1 << (page % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// The part of `start..end` to be read next, after pages that were read.
    fn next(&mut self, mut start: u64, end: u64) -> Option<(u64, u64)> {
        while start < end && !self.mark(start / PAGE) {
            start = (start / PAGE).saturating_add(1).saturating_mul(PAGE);
        }
        if start >= end {
            return None;
        }
        let limit = end.min(start.saturating_add(PIECE));
        let mut stop = (start / PAGE).saturating_add(1).saturating_mul(PAGE);
        while stop < limit && self.mark(stop / PAGE) {
            stop = stop.saturating_add(PAGE);
        }
        Some((start, stop.min(end)))
    }
}

fn read_data<S: Source>(
    image: &Image<S>,
    inode: &Inode,
    path: &[u8],
    pages: &mut Pages,
    report: &mut Report,
    progress: &dyn Progress,
) {
    let mut buffer = vec![0; usize::try_from(PIECE.saturating_add(PAGE)).unwrap_or(0)];
    let mut offset = 0u64;
    while offset < inode.size {
        let (mut at, end) = match image.map(inode, offset) {
            Ok(Extent::Data { image_offset, len }) => {
                offset = offset.saturating_add(len.max(1));
                (image_offset, image_offset.saturating_add(len))
            }
            Ok(Extent::Hole { len }) => {
                offset = offset.saturating_add(len.max(1));
                continue;
            }
            Err(error) => return report.problem(path, error),
        };
        while let Some((start, stop)) = pages.next(at, end) {
            let len = stop.saturating_sub(start);
            let room = usize::try_from(len).unwrap_or(0).min(buffer.len());
            let piece = buffer.get_mut(..room).unwrap_or_default();
            if let Err(error) = image.source().read_at(start, piece) {
                return report.problem(path, Error::from(error));
            }
            progress.advance(len);
            report.data = report.data.saturating_add(len);
            at = stop;
        }
    }
}
