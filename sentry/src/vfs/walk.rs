//! Resolution of paths, path_resolution(7) and openat2(2).

use super::dentry::Dentry;
use super::inode::Link;
use super::path::Path;
use super::perm::{self, MAY_EXEC};
use crate::errno::{Errno, Result};
use crate::kernel::cred::Cred;
use alloc::borrow::Cow;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general as c;
use smallvec::SmallVec;

/// Most symbolic links in one resolution.
const MAX_LINKS: u32 = 40;

/// Follow a symbolic link in the last component.
pub const FOLLOW: u32 = 1;

/// Who walks, and from where.
pub struct Walker<'a> {
    /// Credentials.
    pub cred: &'a Cred,
    /// The root that `/` and `..` see.
    pub root: Path,
    /// RESOLVE_* flags of openat2(2).
    pub resolve: u64,
    links: u32,
}

/// The last component of a path, and the directory that holds it.
pub struct Last {
    /// The directory.
    pub dir: Path,
    /// The name; empty where the path ended at a directory (`/`, `.`, `..`).
    pub name: SmallVec<[u8; 64]>,
    /// What the empty name stands for.
    pub kind: LastKind,
    /// A slash follows the name: it must be a directory.
    pub slash: bool,
}

/// Kind of a last component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastKind {
    /// A name.
    Normal,
    /// The root.
    Root,
    /// `.`
    Dot,
    /// `..`
    DotDot,
}

/// Finds the child of a directory, asking the file system where it is not kept.
///
/// # Errors
/// ENOENT, ENAMETOOLONG and what the file system says.
#[inline]
pub fn child(dir: &Arc<Dentry>, name: &[u8]) -> Result<Arc<Dentry>> {
    if let Some(found) = dir.cached(name)
        && found.inode().still_valid(&**dir.inode(), name)
    {
        return Ok(found);
    }
    let _guard = dir.lock_dir();
    child_locked(dir, name)
}

/// As [`child`], with the directory's lock held.
///
/// # Errors
/// As [`child`].
pub fn child_locked(dir: &Arc<Dentry>, name: &[u8]) -> Result<Arc<Dentry>> {
    if let Some(found) = dir.cached(name) {
        if found.inode().still_valid(&**dir.inode(), name) {
            return Ok(found);
        }
        if let Some(stale) = dir.forget_child(name) {
            stale.set_unlinked();
        }
    }
    if name.len() > c::NAME_MAX as usize {
        return Err(Errno::ENAMETOOLONG);
    }
    if dir.is_unlinked() {
        return Err(Errno::ENOENT);
    }
    let inode = dir.inode().lookup(name)?;
    Ok(dir.add_child(name, inode))
}

impl<'a> Walker<'a> {
    /// A walk with these credentials below this root.
    pub fn new(cred: &'a Cred, root: Path, resolve: u64) -> Self {
        Self { cred, root, resolve, links: 0 }
    }

    fn has(&self, flag: u32) -> bool {
        self.resolve & u64::from(flag) != 0
    }

    fn scoped(&self) -> bool {
        self.has(c::RESOLVE_BENEATH) || self.has(c::RESOLVE_IN_ROOT)
    }

    /// Steps into what is mounted at a place.
    fn cross(&self, at: &mut Path) -> Result<()> {
        while at.dentry.is_mounted() {
            let Some(mount) = at.mnt.child_at(&at.dentry) else { break };
            if self.has(c::RESOLVE_NO_XDEV) {
                return Err(Errno::EXDEV);
            }
            at.dentry = mount.root.clone();
            at.mnt = mount;
        }
        Ok(())
    }

    fn dotdot(&self, at: &mut Path) -> Result<()> {
        loop {
            if at.same(&self.root) {
                if self.has(c::RESOLVE_BENEATH) {
                    return Err(Errno::EXDEV);
                }
                break;
            }
            if !Arc::ptr_eq(&at.dentry, &at.mnt.root) {
                if let Some(parent) = at.dentry.parent() {
                    at.dentry = parent;
                }
                break;
            }
            let Some(place) = at.mnt.place() else { break };
            if self.has(c::RESOLVE_NO_XDEV) {
                return Err(Errno::EXDEV);
            }
            *at = place;
        }
        self.cross(at)
    }

    fn start(&self, base: Path, path: &[u8]) -> Result<Path> {
        if path.first() == Some(&b'/') {
            if self.has(c::RESOLVE_BENEATH) {
                return Err(Errno::EXDEV);
            }
            let mut at = self.root.clone();
            if self.has(c::RESOLVE_NO_XDEV) && !Arc::ptr_eq(&base.mnt, &at.mnt) {
                return Err(Errno::EXDEV);
            }
            // Something may have been mounted over the root itself.
            if at.dentry.is_mounted() && !at.same(&at.mnt.root_path()) {
                self.cross(&mut at)?;
            }
            return Ok(at);
        }
        Ok(base)
    }

    /// The place that a symbolic link leads to, or the text that is walked next.
    fn follow(&mut self, at: &mut Path, link: &Path) -> Result<Option<Vec<u8>>> {
        self.links += 1;
        if self.links > MAX_LINKS || self.has(c::RESOLVE_NO_SYMLINKS) {
            return Err(Errno::ELOOP);
        }
        if link.mnt.flags() & c::MS_NOSYMFOLLOW != 0 {
            return Err(Errno::ELOOP);
        }
        match link.inode().follow()? {
            Link::Text(text) => {
                if text.is_empty() {
                    return Err(Errno::ENOENT);
                }
                *at = self.start(at.clone(), &text)?;
                Ok(Some(text))
            }
            Link::Path(path) => {
                if self.has(c::RESOLVE_NO_MAGICLINKS) {
                    return Err(Errno::ELOOP);
                }
                if self.scoped() || self.has(c::RESOLVE_NO_XDEV) && !Arc::ptr_eq(&path.mnt, &at.mnt) {
                    return Err(Errno::EXDEV);
                }
                *at = path;
                Ok(None)
            }
        }
    }

    /// Walks up to the last component, from `base` for a relative path.
    ///
    /// # Errors
    /// ENOENT (an empty path too), ENOTDIR, EACCES, ELOOP, ENAMETOOLONG, EXDEV.
    pub fn parent(&mut self, base: Path, path: &[u8]) -> Result<Last> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        if path.len() >= c::PATH_MAX as usize {
            return Err(Errno::ENAMETOOLONG);
        }
        let mut at = self.start(base, path)?;
        let mut text: Cow<'_, [u8]> = Cow::Borrowed(path);
        let mut pos = 0;
        let mut kind = LastKind::Root;
        loop {
            let rest = text.get(pos..).unwrap_or_default();
            let skip = rest.iter().take_while(|b| **b == b'/').count();
            let rest = rest.get(skip..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(Last { dir: at, name: SmallVec::new(), kind, slash: true });
            }
            if !at.dentry.is_dir() {
                return Err(Errno::ENOTDIR);
            }
            perm::permission(self.cred, &at.inode().attr(), MAY_EXEC)?;
            let len = rest.iter().position(|b| *b == b'/').unwrap_or(rest.len());
            let (name, tail) = rest.split_at(len);
            let last = tail.iter().all(|b| *b == b'/');
            match name {
                b"." => kind = LastKind::Dot,
                b".." => {
                    kind = LastKind::DotDot;
                    self.dotdot(&mut at)?;
                }
                _ if last => {
                    if name.len() > c::NAME_MAX as usize {
                        return Err(Errno::ENAMETOOLONG);
                    }
                    let name = SmallVec::from_slice(name);
                    return Ok(Last { dir: at, name, kind: LastKind::Normal, slash: !tail.is_empty() });
                }
                _ => {
                    let found = child(&at.dentry, name)?;
                    if found.kind() == c::S_IFLNK {
                        let link = Path { mnt: at.mnt.clone(), dentry: found };
                        kind = LastKind::Dot;
                        if let Some(mut new) = self.follow(&mut at, &link)? {
                            if new.first() == Some(&b'/') {
                                kind = LastKind::Root;
                            }
                            new.extend_from_slice(tail);
                            text = Cow::Owned(new);
                            pos = 0;
                            continue;
                        }
                    } else {
                        at.dentry = found;
                        if at.dentry.is_mounted() {
                            self.cross(&mut at)?;
                        }
                    }
                }
            }
            pos = text.len() - tail.len();
        }
    }

    /// The place that a last component names. With `follow`, a symbolic link is followed: the result may be the
    /// place, or another last component to go on with.
    ///
    /// # Errors
    /// As [`Walker::parent`].
    pub fn step(&mut self, last: &Last) -> Result<Path> {
        if last.kind != LastKind::Normal {
            return Ok(last.dir.clone());
        }
        if !last.dir.dentry.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        let mut at = Path { mnt: last.dir.mnt.clone(), dentry: child(&last.dir.dentry, &last.name)? };
        if at.dentry.is_mounted() {
            self.cross(&mut at)?;
        }
        Ok(at)
    }

    /// Goes on behind a symbolic link that was found as the last component.
    ///
    /// # Errors
    /// As [`Walker::parent`].
    pub fn follow_last(&mut self, last: &Last, link: &Path) -> Result<Last> {
        let mut at = last.dir.clone();
        match self.follow(&mut at, link)? {
            Some(mut text) => {
                if last.slash {
                    text.push(b'/');
                }
                self.parent(at, &text)
            }
            None => Ok(Last { dir: at, name: SmallVec::new(), kind: LastKind::Dot, slash: last.slash }),
        }
    }

    /// Resolves a whole path.
    ///
    /// # Errors
    /// As [`Walker::parent`].
    pub fn resolve(&mut self, base: Path, path: &[u8], flags: u32) -> Result<Path> {
        let mut last = self.parent(base, path)?;
        loop {
            let at = self.step(&last)?;
            if at.dentry.kind() == c::S_IFLNK
                && last.kind == LastKind::Normal
                && (flags & FOLLOW != 0 || last.slash)
            {
                last = self.follow_last(&last, &at)?;
                continue;
            }
            // After a magic link the path is the object itself, of any type.
            if last.slash && !at.dentry.is_dir() {
                return Err(Errno::ENOTDIR);
            }
            return Ok(at);
        }
    }
}
