//! Extended attributes: which are shared, and their bytes.

use crate::failure::{Failure, shown};
use crate::format::{XATTR_PREFIXES, XattrHead, XattrHeader};
use crate::tree::Xattrs;
use std::collections::HashMap;
use zerocopy::IntoBytes;

/// Values longer than this stand in the shared area even if one file alone has them, so that inodes stay dense.
const LONG: usize = 512;
/// How many shared attributes an inode can have.
const MAX_SHARED: usize = 255;
/// The longest area behind an inode: its length is counted in 16 bits, by 4 bytes.
const MAX_AREA: u64 = 12 + 4 * (u16::MAX as u64 - 1);

/// Splits a name into the number of its prefix and the rest; `None` if the format has no place for it.
pub(crate) fn split_name(name: &[u8]) -> Option<(u8, &[u8])> {
    XATTR_PREFIXES.iter().find_map(|(index, prefix)| {
        let rest = name.strip_prefix(prefix.as_bytes())?;
        // A prefix that ends in a dot needs more behind it, and the others must stand alone.
        (prefix.ends_with('.') != rest.is_empty() && rest.len() <= 255).then_some((*index, rest))
    })
}

/// The area of shared attributes.
#[derive(Default)]
pub(super) struct Shared<'a> {
    ids: HashMap<(&'a [u8], &'a [u8]), u32>,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Counts who has which attributes, and lays those out that are shared, in the order in which they are first met.
pub(super) fn share<'a>(all: impl Iterator<Item = &'a Xattrs> + Clone) -> Shared<'a> {
    let mut counts: HashMap<(&[u8], &[u8]), u32> = HashMap::new();
    for xattrs in all.clone() {
        for (name, value) in xattrs {
            let count = counts.entry((name, value)).or_default();
            *count = count.saturating_add(1);
        }
    }
    let mut shared = Shared::default();
    for xattrs in all {
        for (name, value) in xattrs {
            let many = counts.get(&(name.as_slice(), value.as_slice())).is_some_and(|c| *c > 1);
            if (many || value.len() > LONG) && !shared.ids.contains_key(&(name.as_slice(), value.as_slice()))
            {
                let id = u32::try_from(shared.bytes.len() / 4).unwrap_or(u32::MAX);
                put(&mut shared.bytes, name, value);
                shared.ids.insert((name, value), id);
            }
        }
    }
    shared
}

/// An entry's bytes, padded.
fn put(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let Some((index, rest)) = split_name(name) else { return };
    let head = XattrHead {
        name_len: u8::try_from(rest.len()).unwrap_or(u8::MAX),
        name_index: index,
        value_size: u16::try_from(value.len()).unwrap_or(u16::MAX).into(),
    };
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(rest);
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// The bytes behind an inode. `base` is what the ids of the shared area count from there, by 4 bytes.
///
/// # Errors
/// [`Failure::Input`] if they are too many or have names without a place in the format.
pub(super) fn encode(
    xattrs: &Xattrs,
    shared: &Shared<'_>,
    base: u32,
    file: impl Fn() -> String,
) -> Result<Vec<u8>, Failure> {
    const REMEDY: &str = "remove attributes of it, or leave it out by --exclude";
    if xattrs.is_empty() {
        return Ok(Vec::new());
    }
    let mut ids = Vec::new();
    let mut inline = Vec::new();
    for (name, value) in xattrs {
        if split_name(name).is_none() || value.len() > usize::from(u16::MAX) {
            let reason = format!("its extended attribute {} has no place in an image", shown(name));
            return Err(Failure::input(file(), reason, REMEDY));
        }
        match shared.ids.get(&(name.as_slice(), value.as_slice())) {
            Some(id) if ids.len() < MAX_SHARED => ids.push(id.saturating_add(base)),
            _ => put(&mut inline, name, value),
        }
    }
    let header = XattrHeader {
        name_filter: 0.into(),
        shared_count: u8::try_from(ids.len()).unwrap_or(u8::MAX),
        reserved: [0; 7],
    };
    let mut out = header.as_bytes().to_vec();
    ids.iter().for_each(|id| out.extend_from_slice(&id.to_le_bytes()));
    out.extend_from_slice(&inline);
    if out.len() as u64 > MAX_AREA {
        return Err(Failure::input(file(), "its extended attributes are too long for an image", REMEDY));
    }
    Ok(out)
}

/// The count that an inode has for an area of `len` bytes.
pub(super) fn count(len: usize) -> u16 {
    if len == 0 { 0 } else { u16::try_from(len.saturating_sub(12) / 4 + 1).unwrap_or(u16::MAX) }
}
