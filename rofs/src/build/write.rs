//! Writes an image from front to back, as it was planned.

use super::dirents::{self, Item};
use super::plan::{Placed, Plan, Shape, data_chunks, sorted};
use super::xattrs;
use super::{Options, Summary};
use crate::failure::{Context, Failure};
use crate::format::{self, CompactInode, ExtendedInode, Superblock, incompat};
use crate::progress::Progress;
use crate::read::FileKind;
use crate::tree::{Content, Kind, Node, Tree};
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use zerocopy::IntoBytes;

/// Longer gaps become holes of the image's file.
const WRITTEN_GAP: u64 = 1 << 16;
/// Data is copied in pieces of this size.
const PIECE: usize = 1 << 20;

/// A file that is written in order, with zeros between.
struct Out<'a> {
    file: BufWriter<&'a File>,
    at: u64,
    hasher: blake3::Hasher,
}

impl Out<'_> {
    fn put(&mut self, data: &[u8]) -> io::Result<()> {
        self.at = self.at.saturating_add(data.len() as u64);
        self.file.write_all(data)
    }

    /// Puts metadata, which makes the identity of the image.
    fn meta(&mut self, data: &[u8]) -> io::Result<()> {
        self.hasher.update(data);
        self.put(data)
    }

    /// Zeros up to `offset`.
    fn pad_to(&mut self, offset: u64) -> io::Result<()> {
        let gap = offset.saturating_sub(self.at);
        if gap > WRITTEN_GAP {
            self.file.seek(SeekFrom::Start(offset))?;
        } else {
            io::copy(&mut io::Read::take(io::repeat(0), gap), &mut self.file)?;
        }
        self.at = self.at.max(offset);
        Ok(())
    }
}

/// Writes the image of a plan.
pub(super) fn write(
    tree: &Tree,
    plan: &Plan<'_>,
    file: &File,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Summary, Failure> {
    const IMAGE: &str = "the image";
    let total = plan.contents.iter().flat_map(|(c, ..)| c.runs()).map(|r| r.len).sum();
    progress.stage("writing", Some(total));
    let writer = BufWriter::with_capacity(PIECE, file);
    let mut out = Out { file: writer, at: 0, hasher: blake3::Hasher::new() };
    for placed in &plan.placed {
        let Some(node) = tree.node(placed.node) else { continue };
        write_inode(&mut out, plan, placed, node, options)?;
    }
    out.pad_to(plan.shared_offset).when("write", IMAGE)?;
    out.meta(&plan.shared.bytes).when("write", IMAGE)?;
    out.pad_to(plan.dirs_offset).when("write", IMAGE)?;
    for placed in &plan.placed {
        let Some(node) = tree.node(placed.node) else { continue };
        let whole = match placed.shape {
            Shape::Plain if placed.kind != FileKind::Regular => placed.size,
            Shape::Inline { tail } => placed.size.saturating_sub(tail),
            _ => continue,
        };
        if whole == 0 {
            continue;
        }
        out.pad_to(placed.block << plan.block_bits).when("write", IMAGE)?;
        let data = small_data(plan, placed, node)?;
        let data = data.get(..usize::try_from(whole).unwrap_or(usize::MAX)).unwrap_or_default();
        out.meta(data).when("write", IMAGE)?;
    }
    for (content, shape, first) in &plan.contents {
        out.hasher.update(content.digest());
        write_content(&mut out, plan, content, *shape, *first, progress)?;
    }
    out.file.flush().when("write", IMAGE)?;
    let hash = out.hasher.finalize();
    drop(out);
    file.set_len(plan.end).when("set the length of", IMAGE)?;
    let uuid = identity(hash.as_bytes());
    write_superblock(plan, file, options, uuid).when("write the superblock of", IMAGE)?;
    Ok(Summary {
        bytes: plan.end,
        inodes: plan.placed.len() as u64,
        metadata: plan.data_offset,
        data: total,
        shared: plan.saved,
        uuid,
    })
}

/// A UUID of version 8, "custom", of a digest.
fn identity(digest: &[u8; 32]) -> [u8; 16] {
    let mut uuid = [0; 16];
    uuid.iter_mut().zip(digest).for_each(|(to, from)| *to = *from);
    let [_, _, _, _, _, _, version, _, variant, ..] = &mut uuid;
    *version = (*version & 0x0f) | 0x80;
    *variant = (*variant & 0x3f) | 0x80;
    uuid
}

fn write_inode(
    out: &mut Out<'_>,
    plan: &Plan<'_>,
    placed: &Placed<'_>,
    node: &Node,
    options: &Options,
) -> Result<(), Failure> {
    let base = plan.shared_offset.saturating_sub(plan.xattr_block << plan.block_bits) / 4;
    let base = u32::try_from(base).unwrap_or(u32::MAX);
    let xattrs = xattrs::encode(&node.meta.xattrs, &plan.shared, base, || plan.path(placed))?;
    let mut bytes = inode_bytes(plan, placed, node, xattrs.len(), options)?;
    bytes.extend_from_slice(&xattrs);
    match (placed.shape, &node.kind) {
        (Shape::Inline { tail }, Kind::Regular(content)) => {
            let mut data = vec![0; usize::try_from(tail).unwrap_or(0)];
            let opened = content.open()?;
            opened.read(0, 0, &mut data).when("read", content.name())?;
            verify(content, blake3::Hasher::new().update(&data))?;
            bytes.extend_from_slice(&data);
        }
        (Shape::Inline { tail }, _) => {
            let data = small_data(plan, placed, node)?;
            let start = data.len().saturating_sub(usize::try_from(tail).unwrap_or(usize::MAX));
            bytes.extend_from_slice(data.get(start..).unwrap_or_default());
        }
        (Shape::Chunked { bits }, Kind::Regular(content)) => {
            let chunk = plan.block_size() << bits;
            let entries = super::plan::table_entries(placed.size, bits, plan.block_bits);
            let mut block = placed.block;
            let mut next = 0;
            for chunks in data_chunks(content, chunk) {
                (next..chunks.first).for_each(|_| bytes.extend_from_slice(&format::NULL_BLOCK.to_le_bytes()));
                next = chunks.first.saturating_add(chunks.count);
                for _ in 0..chunks.count {
                    bytes.extend_from_slice(&u32::try_from(block).unwrap_or(0).to_le_bytes());
                    block = block.saturating_add(1 << bits);
                }
            }
            (next..entries).for_each(|_| bytes.extend_from_slice(&format::NULL_BLOCK.to_le_bytes()));
        }
        _ => {}
    }
    out.pad_to(placed.offset).and_then(|()| out.meta(&bytes)).when("write", "the image")
}

fn inode_bytes(
    plan: &Plan<'_>,
    placed: &Placed<'_>,
    node: &Node,
    xattr_len: usize,
    options: &Options,
) -> Result<Vec<u8>, Failure> {
    let layout = match placed.shape {
        Shape::Empty | Shape::Plain => format::LAYOUT_PLAIN,
        Shape::Inline { .. } => format::LAYOUT_INLINE,
        Shape::Chunked { .. } => format::LAYOUT_CHUNKED,
    };
    let data = match (&node.kind, placed.shape) {
        (Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor }, _) => {
            format::encode_device(*major, *minor).ok_or_else(|| {
                let reason = format!("device number {major}:{minor} is none that Linux has");
                Failure::input(plan.path(placed), reason, "leave it out by --exclude")
            })?
        }
        (_, Shape::Chunked { bits }) => u32::from(bits),
        // Linux looks at no block of a file that has none outside of its inode.
        (_, Shape::Inline { tail }) if tail == placed.size => format::NULL_BLOCK,
        _ => u32::try_from(placed.block).unwrap_or(0),
    };
    let meta = &node.meta;
    let kind = node.kind.file_kind();
    let mode = kind.mode_bits() | (meta.mode & 0o7777);
    let ino = u32::try_from(placed.offset / format::SLOT).unwrap_or(u32::MAX);
    let xattr_count = xattrs::count(xattr_len).into();
    let narrow = |value: u32| u16::try_from(value).unwrap_or(u16::MAX).into();
    if placed.compact {
        let inode = CompactInode {
            format: (layout << 1).into(),
            xattr_count,
            mode: mode.into(),
            nlink: narrow(placed.nlink),
            size: u32::try_from(placed.size).unwrap_or(u32::MAX).into(),
            reserved: 0.into(),
            data: data.into(),
            ino: ino.into(),
            uid: narrow(meta.uid),
            gid: narrow(meta.gid),
            reserved2: 0.into(),
        };
        debug_assert!(u64::try_from(meta.mtime) == Ok(options.build_time));
        return Ok(inode.as_bytes().to_vec());
    }
    let inode = ExtendedInode {
        format: (layout << 1 | format::INODE_EXTENDED).into(),
        xattr_count,
        mode: mode.into(),
        reserved: 0.into(),
        size: placed.size.into(),
        data: data.into(),
        ino: ino.into(),
        uid: meta.uid.into(),
        gid: meta.gid.into(),
        mtime: meta.mtime.cast_unsigned().into(),
        mtime_ns: meta.mtime_ns.min(999_999_999).into(),
        nlink: placed.nlink.into(),
        reserved2: [0; 16],
    };
    Ok(inode.as_bytes().to_vec())
}

/// The data of a directory or a symbolic link.
fn small_data(plan: &Plan<'_>, placed: &Placed<'_>, node: &Node) -> Result<Vec<u8>, Failure> {
    let entries = match &node.kind {
        Kind::Directory(entries) => entries,
        Kind::Symlink(target) => return Ok(target.clone()),
        _ => return Ok(Vec::new()),
    };
    let mut names = sorted(entries.keys().map(Vec::as_slice)).into_iter();
    let mut out = Vec::new();
    let block = usize::try_from(plan.block_size()).unwrap_or(usize::MAX);
    for count in &placed.entries {
        out.resize(out.len().next_multiple_of(block), 0);
        let items: Vec<Item<'_>> = names
            .by_ref()
            .take(*count)
            .map(|name| {
                let target = match name {
                    b"." => Some(placed.node),
                    b".." => Some(placed.parent),
                    name => entries.get(name).map(|e| e.node),
                };
                let place = target.and_then(|t| plan.place(t));
                let kind = place.map_or(FileKind::Directory, |p| p.kind);
                Item { name, nid: target.map_or(0, |t| plan.nid(t)), kind }
            })
            .collect();
        out.extend_from_slice(&dirents::encode(&items));
    }
    Ok(out)
}

/// Copies a content to its place, and makes sure that it is still what it was.
fn write_content(
    out: &mut Out<'_>,
    plan: &Plan<'_>,
    content: &Content,
    shape: Shape,
    first: u64,
    progress: &dyn Progress,
) -> Result<(), Failure> {
    let chunk = match shape {
        Shape::Chunked { bits } => plan.block_size() << bits,
        _ => u64::MAX,
    };
    // For each row of chunks, where in the image the file's offset 0 would be.
    let mut base = first << plan.block_bits;
    let mut rows = data_chunks(content, chunk).into_iter();
    let mut row = rows.next();
    let opened = content.open()?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; usize::try_from(content.size().clamp(1, PIECE as u64)).unwrap_or(PIECE)];
    for (number, run) in content.runs().iter().enumerate() {
        while let Some(this) = row
            && run.start / chunk >= this.first.saturating_add(this.count)
        {
            let bytes = this.bytes(content.size(), chunk).next_multiple_of(plan.block_size());
            base = base.saturating_add(bytes);
            row = rows.next();
        }
        let begin = row.map_or(0, |r| r.first.saturating_mul(chunk));
        let mut offset = run.start;
        while offset < run.end() {
            let room =
                usize::try_from(run.end().saturating_sub(offset)).unwrap_or(usize::MAX).min(buffer.len());
            let piece = buffer.get_mut(..room).unwrap_or_default();
            opened.read(number, offset, piece).when("read", content.name())?;
            if content.is_foreign() {
                hasher.update(piece);
            }
            out.pad_to(base.saturating_add(offset.saturating_sub(begin)))
                .and_then(|()| out.put(piece))
                .when("write", "the image")?;
            progress.advance(piece.len() as u64);
            offset = offset.saturating_add(piece.len() as u64);
        }
    }
    verify(content, &mut hasher)
}

/// Says so if data was changed since it was looked at. The hasher has had all of it that is no hole.
fn verify(content: &Content, hasher: &mut blake3::Hasher) -> Result<(), Failure> {
    if !content.is_foreign() || content.digest_of(hasher) == *content.digest() {
        return Ok(());
    }
    Err(Failure::input(content.name(), "it was changed while the image was built", "build again"))
}

fn write_superblock(plan: &Plan<'_>, file: &File, options: &Options, uuid: [u8; 16]) -> io::Result<()> {
    let chunked = plan.placed.iter().any(|p| matches!(p.shape, Shape::Chunked { .. }));
    let wide = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let mut raw = Superblock {
        magic: format::MAGIC.into(),
        checksum: 0.into(),
        feature_compat: (format::COMPAT_CHECKSUM | format::COMPAT_MTIME).into(),
        block_bits: plan.block_bits,
        extra_slots: 0,
        root_nid: u16::try_from(plan.nid(Tree::ROOT)).unwrap_or(0).into(),
        inodes: (plan.placed.len() as u64).into(),
        build_time: options.build_time.into(),
        build_time_ns: 0.into(),
        blocks: wide(plan.end >> plan.block_bits).into(),
        meta_block: 0.into(),
        xattr_block: wide(plan.xattr_block).into(),
        uuid,
        volume_name: options.volume_name,
        feature_incompat: if chunked { incompat::CHUNKED_FILE } else { 0 }.into(),
        compression: 0.into(),
        extra_devices: 0.into(),
        device_table: 0.into(),
        dir_block_bits: 0,
        xattr_prefixes: 0,
        xattr_prefix_start: 0.into(),
        packed_nid: 0.into(),
        reserved: [0; 24],
    };
    file.write_all_at(raw.as_bytes(), format::SUPERBLOCK_OFFSET)?;
    let covered = format::checksum_length(plan.block_size());
    let mut block = vec![0; usize::try_from(covered).unwrap_or(0)];
    file.read_exact_at(&mut block, format::SUPERBLOCK_OFFSET)?;
    raw.checksum = format::checksum(&block).into();
    file.write_all_at(raw.as_bytes(), format::SUPERBLOCK_OFFSET)
}
