//! Where everything goes, decided before anything is written.
//!
//! ```text
//! superblock | inodes, with small directories and small files | shared attributes | directory blocks | data
//! ```
//!
//! The inodes of a directory's entries stand together in the order of their names, and directories follow in the
//! order in which a walk of the tree meets them: `find` and `ls -l` go through the area from front to back. All that
//! is not files' data stands at the front, so that it can be fetched or mapped in one piece. Data begins at a page, in
//! the same order.

use super::Options;
use super::dirents;
use super::xattrs::{self, Shared};
use crate::failure::{Failure, shown};
use crate::format::{self, CompactInode, ExtendedInode, SLOT, SUPERBLOCK_OFFSET, Superblock};
use crate::read::FileKind;
use crate::tree::{Content, Kind, NodeId, Tree};
use std::collections::HashMap;

/// Data of files begins at a multiple of this, whatever the size of a block.
const PAGE: u64 = 4096;
/// A table of chunks should not have more entries than this: chunks are as large as that takes.
const TABLE_ENTRIES: u64 = 16_384;
/// Most of the last block of a directory that stands behind its inode.
const INLINE_DIRECTORY: u64 = 2048;

/// How a node's data is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// There is none.
    Empty,
    /// So many whole blocks elsewhere, and the last `tail` bytes behind the inode.
    Inline { tail: u64 },
    /// All in blocks.
    Plain,
    /// A table of chunks, whose size is a block's times 2 to the power of `bits`.
    Chunked { bits: u8 },
}

/// A node's place.
pub(super) struct Placed<'a> {
    pub node: NodeId,
    pub parent: NodeId,
    /// The first name that it was met by.
    pub name: &'a [u8],
    pub kind: FileKind,
    pub nlink: u32,
    /// Where its inode is, in the image.
    pub offset: u64,
    pub compact: bool,
    /// Bytes of its extended attributes.
    pub xattr_len: usize,
    pub shape: Shape,
    /// Size of its data.
    pub size: u64,
    /// The first block of its data.
    pub block: u64,
    /// Directories: how many entries each block has.
    pub entries: Vec<usize>,
}

/// The plan of an image.
pub(super) struct Plan<'a> {
    /// In the order of their inodes.
    pub placed: Vec<Placed<'a>>,
    /// Where each node of the tree is in `placed`.
    index: Vec<Option<usize>>,
    pub shared: Shared<'a>,
    /// Where shared attributes are.
    pub shared_offset: u64,
    /// The block that their ids count from.
    pub xattr_block: u64,
    /// Where directory blocks begin.
    pub dirs_offset: u64,
    /// Where data of files begins.
    pub data_offset: u64,
    /// Distinct contents in the order of their places, and their first blocks.
    pub contents: Vec<(&'a Content, Shape, u64)>,
    /// Length of the image.
    pub end: u64,
    /// Bytes that equal others.
    pub saved: u64,
    pub block_bits: u8,
}

impl<'a> Plan<'a> {
    pub fn new(tree: &'a Tree, options: &Options) -> Result<Self, Failure> {
        let bits = options.block_bits.clamp(format::MIN_BLOCK_BITS, format::MAX_BLOCK_BITS);
        let (placed, index) = order(tree);
        let mut plan = Self {
            placed,
            index,
            shared: Shared::default(),
            shared_offset: 0,
            xattr_block: 0,
            dirs_offset: 0,
            data_offset: 0,
            contents: Vec::new(),
            end: 0,
            saved: 0,
            block_bits: bits,
        };
        let all = plan.placed.iter().filter_map(|p| tree.node(p.node)).map(|n| &n.meta.xattrs);
        plan.shared = xattrs::share(all);
        plan.shapes(tree, options)?;
        plan.place_inodes();
        plan.place_directories();
        plan.place_data(tree);
        if plan.end >> bits >= u64::from(format::NULL_BLOCK) || plan.data_offset >> 34 != 0 {
            return Err(Failure::input(
                "the tree",
                format!("an image of {} bytes is larger than the format holds", plan.end),
                "leave files out by --exclude, or build several images",
            ));
        }
        Ok(plan)
    }

    pub const fn block_size(&self) -> u64 {
        1 << self.block_bits
    }

    /// A node's inode number in the image.
    pub fn nid(&self, node: NodeId) -> u64 {
        self.place(node).map_or(0, |p| p.offset / SLOT)
    }

    /// A node's place.
    pub fn place(&self, node: NodeId) -> Option<&Placed<'a>> {
        self.placed.get((*self.index.get(node.0)?)?)
    }

    /// Sizes of inodes, and how the data of each is laid out.
    fn shapes(&mut self, tree: &Tree, options: &Options) -> Result<(), Failure> {
        let block = self.block_size();
        for placed in &mut self.placed {
            let Some(node) = tree.node(placed.node) else { continue };
            let meta = &node.meta;
            placed.xattr_len = xattrs::encode(&meta.xattrs, &self.shared, 0, || shown(placed.name))?.len();
            placed.size = match &node.kind {
                Kind::Directory(entries) => {
                    let names = sorted(entries.keys().map(Vec::as_slice));
                    let (counts, size) = dirents::split(names.into_iter(), block);
                    placed.entries = counts;
                    size
                }
                Kind::Regular(content) => content.size(),
                Kind::Symlink(target) => {
                    if target.is_empty() || target.len() > 4095 || target.contains(&0) {
                        let reason = "not a target that a symbolic link can have";
                        return Err(Failure::input(shown(target), reason, "leave it out by --exclude"));
                    }
                    target.len() as u64
                }
                _ => 0,
            };
            placed.compact = meta.mtime_ns == 0
                && u64::try_from(meta.mtime) == Ok(options.build_time)
                && meta.uid <= u32::from(u16::MAX)
                && meta.gid <= u32::from(u16::MAX)
                && placed.nlink <= u32::from(u16::MAX)
                && placed.size <= u64::from(u32::MAX);
            let head = inode_size(placed.compact).saturating_add(placed.xattr_len as u64);
            let tail = placed.size & block.saturating_sub(1);
            let fits = |tail: u64| (head & block.saturating_sub(1)).saturating_add(tail) <= block;
            placed.shape = match &node.kind {
                _ if placed.size == 0 => Shape::Empty,
                Kind::Directory(_) if tail > 0 && tail <= INLINE_DIRECTORY && fits(tail) => {
                    Shape::Inline { tail }
                }
                Kind::Symlink(_) if placed.size < block && fits(tail) => Shape::Inline { tail },
                Kind::Regular(content) if !content.is_dense() => {
                    Shape::Chunked { bits: chunk_bits(placed.size, self.block_bits) }
                }
                Kind::Regular(_)
                    if placed.size <= u64::from(options.inline_max) && placed.size < block && fits(tail) =>
                {
                    Shape::Inline { tail }
                }
                _ => Shape::Plain,
            };
        }
        Ok(())
    }

    /// Gives inodes their places, so that what stands behind one does not cross a block, and a long inode no line of
    /// a cache.
    fn place_inodes(&mut self) {
        let block = self.block_size();
        let mut at = SUPERBLOCK_OFFSET.saturating_add(size_of::<Superblock>() as u64);
        for placed in &mut self.placed {
            let size = inode_size(placed.compact);
            let head = size.saturating_add(placed.xattr_len as u64);
            at = at.next_multiple_of(size);
            let body = match placed.shape {
                Shape::Inline { tail } => {
                    let left = block.saturating_sub(at.saturating_add(head) & block.saturating_sub(1));
                    if tail > left {
                        // Behind an inode that begins with the next block it fits: its shape was chosen so.
                        at = at.next_multiple_of(block);
                    }
                    tail
                }
                Shape::Chunked { bits } => {
                    table_entries(placed.size, bits, self.block_bits).saturating_mul(4)
                }
                Shape::Empty | Shape::Plain => 0,
            };
            placed.offset = at;
            at = at.saturating_add(head).saturating_add(body);
        }
        self.shared_offset = at.next_multiple_of(4);
        self.xattr_block = self.shared_offset >> self.block_bits;
        self.dirs_offset =
            self.shared_offset.saturating_add(self.shared.bytes.len() as u64).next_multiple_of(block);
    }

    /// Gives directories the blocks that do not stand behind their inodes; also symbolic links that have no room there.
    fn place_directories(&mut self) {
        let block = self.block_size();
        let mut at = self.dirs_offset;
        for placed in &mut self.placed {
            let whole = match placed.shape {
                Shape::Plain if placed.kind != FileKind::Regular => placed.size.next_multiple_of(block),
                Shape::Inline { tail } => placed.size.saturating_sub(tail),
                _ => 0,
            };
            if whole > 0 {
                placed.block = at >> self.block_bits;
                at = at.saturating_add(whole);
            }
        }
        self.data_offset = at.next_multiple_of(PAGE.max(block));
    }

    /// Gives each distinct content its place.
    fn place_data(&mut self, tree: &'a Tree) {
        let block = self.block_size();
        let mut known: HashMap<&[u8; 32], u64> = HashMap::new();
        let mut at = self.data_offset;
        for placed in &mut self.placed {
            let Some(Kind::Regular(content)) = tree.node(placed.node).map(|n| &n.kind) else { continue };
            let bytes = match placed.shape {
                Shape::Plain => placed.size,
                Shape::Chunked { bits } => data_chunks(content, block << bits)
                    .iter()
                    .map(|c| c.bytes(placed.size, block << bits).next_multiple_of(block))
                    .fold(0, u64::saturating_add),
                _ => continue,
            };
            if let Some(first) = known.get(content.digest()) {
                placed.block = *first;
                self.saved = self.saved.saturating_add(content.runs().iter().map(|r| r.len).sum());
                continue;
            }
            let first = at >> self.block_bits;
            placed.block = first;
            known.insert(content.digest(), first);
            self.contents.push((content, placed.shape, first));
            at = at.saturating_add(bytes).checked_next_multiple_of(PAGE.max(block)).unwrap_or(u64::MAX);
        }
        self.end = at;
    }

    /// The path of a node in the image, for messages.
    pub fn path(&self, placed: &Placed<'_>) -> String {
        let mut names = vec![placed.name];
        let mut parent = placed.parent;
        while let Some(next) = self.place(parent).filter(|p| p.node != Tree::ROOT) {
            names.push(next.name);
            parent = next.parent;
        }
        names.iter().rev().fold(String::new(), |path, name| path + "/" + &shown(name))
    }
}

/// Chunks one after the other that all have data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunks {
    /// The first one's number.
    pub first: u64,
    /// How many.
    pub count: u64,
}

impl Chunks {
    /// How many bytes of a file of `size` they are.
    pub const fn bytes(&self, size: u64, chunk: u64) -> u64 {
        let end = self.first.saturating_add(self.count).saturating_mul(chunk);
        let end = if end < size { end } else { size };
        end.saturating_sub(self.first.saturating_mul(chunk))
    }
}

/// The chunks of a file that are no holes.
pub(super) fn data_chunks(content: &Content, chunk: u64) -> Vec<Chunks> {
    let mut out: Vec<Chunks> = Vec::new();
    for run in content.runs().iter().filter(|r| r.len > 0) {
        let (first, last) = (run.start / chunk, run.end().saturating_sub(1) / chunk);
        match out.last_mut() {
            Some(before) if first <= before.first.saturating_add(before.count) => {
                before.count = last.saturating_add(1).saturating_sub(before.first);
            }
            _ => out.push(Chunks { first, count: last.saturating_add(1).saturating_sub(first) }),
        }
    }
    out
}

/// How many entries a file's table of chunks has.
pub(super) const fn table_entries(size: u64, bits: u8, block_bits: u8) -> u64 {
    size.div_ceil(1 << (bits as u32 + block_bits as u32))
}

/// The smallest chunks whose table is not too long.
fn chunk_bits(size: u64, block_bits: u8) -> u8 {
    // Chunks are not smaller than a page either, so that data stays mappable.
    let least = 12u8.saturating_sub(block_bits);
    (least..31).find(|bits| table_entries(size, *bits, block_bits) <= TABLE_ENTRIES).unwrap_or(31)
}

const fn inode_size(compact: bool) -> u64 {
    if compact { size_of::<CompactInode>() as u64 } else { size_of::<ExtendedInode>() as u64 }
}

/// Names of a directory as blocks have them: with "." and "..", in the order of their bytes.
pub(super) fn sorted<'n>(names: impl Iterator<Item = &'n [u8]>) -> Vec<&'n [u8]> {
    let mut all: Vec<&[u8]> = names.chain([&b"."[..], b".."]).collect();
    all.sort_unstable();
    all
}

/// The order of inodes, with parents and links counted.
fn order<'t>(tree: &'t Tree) -> (Vec<Placed<'t>>, Vec<Option<usize>>) {
    let mut placed: Vec<Placed<'t>> = Vec::with_capacity(tree.len());
    let mut index = vec![None; tree.len()];
    let mut put = |node, parent, name: &'t [u8], kind, placed: &mut Vec<Placed<'t>>| {
        let node: NodeId = node;
        if let Some(slot) = index.get_mut(node.0) {
            if let Some(known) = slot.and_then(|i: usize| placed.get_mut(i)) {
                known.nlink = known.nlink.saturating_add(1);
                return false;
            }
            *slot = Some(placed.len());
        }
        placed.push(Placed {
            node,
            parent,
            name,
            kind,
            nlink: 1,
            offset: 0,
            compact: false,
            xattr_len: 0,
            shape: Shape::Empty,
            size: 0,
            block: 0,
            entries: Vec::new(),
        });
        true
    };
    put(Tree::ROOT, Tree::ROOT, &[], FileKind::Directory, &mut placed);
    let mut waiting = vec![(Tree::ROOT, 0usize)];
    while let Some((dir, at)) = waiting.pop() {
        let Some(entries) = tree.entries(dir) else { continue };
        let mut below = Vec::new();
        for (name, entry) in entries {
            let Some(kind) = tree.node(entry.node).map(|n| n.kind.file_kind()) else { continue };
            let new = put(entry.node, dir, name.as_slice(), kind, &mut placed);
            if new && kind == FileKind::Directory {
                below.push((entry.node, placed.len().saturating_sub(1)));
            }
        }
        if let Some(this) = placed.get_mut(at) {
            // Its name, its own "." and a ".." of each directory in it.
            this.nlink = u32::try_from(below.len()).unwrap_or(u32::MAX).saturating_add(2);
        }
        waiting.extend(below.into_iter().rev());
    }
    (placed, index)
}
