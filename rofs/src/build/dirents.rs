//! Directories as blocks: entries in the order of their names' bytes, as many as fit, then the names.

use crate::format::Dirent;
use crate::read::FileKind;
use zerocopy::IntoBytes;

const ENTRY: usize = size_of::<Dirent>();

/// An entry to be written.
pub(super) struct Item<'a> {
    pub name: &'a [u8],
    pub nid: u64,
    pub kind: FileKind,
}

/// Splits names into blocks: how many entries each block has, and the size of the directory.
pub(super) fn split<'a>(names: impl Iterator<Item = &'a [u8]>, block: u64) -> (Vec<usize>, u64) {
    let mut counts = Vec::new();
    let (mut count, mut used, mut full) = (0usize, 0u64, 0u64);
    for name in names {
        let need = (ENTRY as u64).saturating_add(name.len() as u64);
        if used.saturating_add(need) > block {
            counts.push(count);
            full = full.saturating_add(block);
            (count, used) = (0, 0);
        }
        count = count.saturating_add(1);
        used = used.saturating_add(need);
    }
    counts.push(count);
    (counts, full.saturating_add(used))
}

/// The bytes of a block of these entries, without padding.
pub(super) fn encode(items: &[Item<'_>]) -> Vec<u8> {
    let table = items.len().saturating_mul(ENTRY);
    let mut out = Vec::with_capacity(4096);
    let mut offset = table;
    for item in items {
        let entry = Dirent {
            nid: item.nid.into(),
            // Offsets are below a block's size, which is at most 64 KiB.
            name_offset: u16::try_from(offset).unwrap_or(u16::MAX).into(),
            file_type: item.kind.file_type(),
            reserved: 0,
        };
        out.extend_from_slice(entry.as_bytes());
        offset = offset.saturating_add(item.name.len());
    }
    items.iter().for_each(|item| out.extend_from_slice(item.name));
    out
}
