//! Extended attributes: behind the inode, or in the area that inodes share.

use super::error::Error;
use super::image::Image;
use super::inode::Inode;
use super::source::Source;
use crate::format::{XATTR_PREFIXES, XattrHead, XattrHeader};
use core::ops::ControlFlow;
use zerocopy::little_endian::U32;

const OUTSIDE: &str = "an extended attribute beyond its place";

/// The longest name: a prefix and 255 bytes.
const NAME_ROOM: usize = 280;

/// An extended attribute's place.
#[derive(Clone, Copy, Debug)]
pub struct XattrEntry {
    prefix: &'static str,
    name_offset: u64,
    name_len: usize,
    value_offset: u64,
    /// Length of the value in bytes.
    pub value_len: usize,
}

impl<S: Source> Image<S> {
    /// Finds an extended attribute by its whole name, such as `security.capability`.
    ///
    /// # Errors
    /// [`Error::Corrupt`], and what the source says.
    pub fn find_xattr(&self, inode: &Inode, name: &[u8]) -> Result<Option<XattrEntry>, Error> {
        let mut found = None;
        let mut buffer = [0u8; 256];
        self.each_xattr(inode, &mut |entry| {
            let Some(rest) = name.strip_prefix(entry.prefix.as_bytes()) else {
                return Ok(ControlFlow::Continue(()));
            };
            if rest.len() != entry.name_len {
                return Ok(ControlFlow::Continue(()));
            }
            let stored = buffer.get_mut(..entry.name_len).ok_or(Error::Corrupt(OUTSIDE))?;
            self.source.read_at(entry.name_offset, stored)?;
            if stored == rest {
                found = Some(*entry);
                return Ok(ControlFlow::Break(()));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    /// Gives the value of an extended attribute to `sink`, in pieces, and says its length; `None` if it is not there.
    ///
    /// # Errors
    /// [`Error::Corrupt`], and what the source says.
    pub fn xattr(
        &self,
        inode: &Inode,
        name: &[u8],
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<Option<usize>, Error> {
        let Some(entry) = self.find_xattr(inode, name)? else { return Ok(None) };
        let mut piece = [0u8; 256];
        let mut done = 0;
        while done < entry.value_len {
            let take = entry.value_len.saturating_sub(done).min(piece.len());
            let bytes = piece.get_mut(..take).ok_or(Error::Corrupt(OUTSIDE))?;
            self.source.read_at(entry.value_offset.saturating_add(done as u64), bytes)?;
            sink(bytes);
            done = done.saturating_add(take);
        }
        Ok(Some(entry.value_len))
    }

    /// Copies the value of an attribute that was found. `out` must be as long as the value.
    ///
    /// # Errors
    /// [`Error::WrongKind`] if `out` has another length, and what the source says.
    pub fn xattr_value(&self, entry: &XattrEntry, out: &mut [u8]) -> Result<(), Error> {
        if out.len() != entry.value_len {
            return Err(Error::WrongKind("buffer of the value's length"));
        }
        Ok(self.source.read_at(entry.value_offset, out)?)
    }

    /// Gives the whole name and the length of the value of each extended attribute, until `each` breaks off.
    ///
    /// # Errors
    /// [`Error::Corrupt`], and what the source says.
    pub fn list_xattrs(
        &self,
        inode: &Inode,
        each: &mut dyn FnMut(&[u8], usize) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let mut name = [0u8; NAME_ROOM];
        self.each_xattr(inode, &mut |entry| {
            let prefix = entry.prefix.as_bytes();
            let len = prefix.len().saturating_add(entry.name_len);
            let (head, tail) = name
                .get_mut(..len)
                .and_then(|n| n.split_at_mut_checked(prefix.len()))
                .ok_or(Error::Corrupt(OUTSIDE))?;
            head.copy_from_slice(prefix);
            self.source.read_at(entry.name_offset, tail)?;
            if tail.contains(&0) {
                return Err(Error::Corrupt("an extended attribute whose name is not one"));
            }
            Ok(each(name.get(..len).unwrap_or_default(), entry.value_len))
        })
    }

    /// Walks all entries, inline ones first. There are at most 64 Ki of 4 bytes and 255 shared ones.
    fn each_xattr(
        &self,
        inode: &Inode,
        each: &mut dyn FnMut(&XattrEntry) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        const HEADER: u64 = size_of::<XattrHeader>() as u64;
        if inode.xattr_len < HEADER {
            return Ok(());
        }
        let header: XattrHeader = self.fetch(inode.xattrs, OUTSIDE)?;
        let ids = inode.xattrs.saturating_add(HEADER);
        let shared = u64::from(header.shared_count);
        let end = inode.body();
        let mut at = ids.saturating_add(shared.saturating_mul(4));
        if at > end {
            return Err(Error::Corrupt("more shared extended attributes than there is room for"));
        }
        while at < end {
            let (entry, next) = self.xattr_entry(at, end)?;
            if let Some(entry) = entry
                && each(&entry)?.is_break()
            {
                return Ok(());
            }
            at = next;
        }
        for number in 0..shared {
            let id: U32 = self.fetch(ids.saturating_add(number.saturating_mul(4)), OUTSIDE)?;
            let at = self.info.xattr_offset.saturating_add(u64::from(id.get()).saturating_mul(4));
            let (entry, _) = self.xattr_entry(at, self.source.len())?;
            if let Some(entry) = entry
                && each(&entry)?.is_break()
            {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The entry at `at`, which must end before `end`, and where the next one is. One with a prefix that Linux does
    /// not have here is passed over, as Linux does.
    fn xattr_entry(&self, at: u64, end: u64) -> Result<(Option<XattrEntry>, u64), Error> {
        const HEAD: u64 = size_of::<XattrHead>() as u64;
        if at.saturating_add(HEAD) > end {
            return Err(Error::Corrupt(OUTSIDE));
        }
        let head: XattrHead = self.fetch(at, OUTSIDE)?;
        let name_offset = at.saturating_add(HEAD);
        let value_offset = name_offset.saturating_add(u64::from(head.name_len));
        let stop = value_offset.saturating_add(u64::from(head.value_size.get()));
        if stop > end || stop > self.source.len() {
            return Err(Error::Corrupt(OUTSIDE));
        }
        // Entries have at least 4 bytes, so that walking them comes to an end.
        let next = stop.checked_next_multiple_of(HEAD).ok_or(Error::Corrupt(OUTSIDE))?;
        let prefix = XATTR_PREFIXES.iter().find(|(index, _)| *index == head.name_index);
        let entry = prefix.map(|(_, prefix)| XattrEntry {
            prefix,
            name_offset,
            name_len: usize::from(head.name_len),
            value_offset,
            value_len: usize::from(head.value_size.get()),
        });
        Ok((entry, next))
    }
}
