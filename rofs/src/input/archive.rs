//! Archives as tar writes them: old, ustar, GNU and pax, one file after the other.
//!
//! The headers' fields are those of the crate `tar`; the stream is walked here, since extended attributes have any
//! bytes, sparse files come in four ways, and nothing of an archive is to be kept in memory.

use super::pax::{Pax, Segment, bad, number};
use super::spool::Feed;
use std::io::{self, Read};

const BLOCK: usize = 512;
/// Longer names and extended headers are taken as damage.
const MAX_EXTENSION: u64 = 16 << 20;
/// Entries that a sparse file's map may have.
const MAX_SEGMENTS: usize = 1 << 22;

/// A file of an archive.
pub(super) struct Member {
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    /// The type, as in the header.
    pub flag: u8,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub mtime: i64,
    pub mtime_ns: u32,
    pub major: u32,
    pub minor: u32,
    pub xattrs: crate::tree::Xattrs,
    /// Size with holes.
    pub size: u64,
    /// What there is data for.
    segments: Vec<Segment>,
}

/// An archive that is read.
pub(super) struct Archive<R> {
    stream: R,
    /// Bytes of the current member that were not read, and padding.
    left: u64,
    global: Pax,
    blocks: u64,
}

impl<R: Read> Archive<R> {
    pub fn new(stream: R) -> Self {
        Self { stream, left: 0, global: Pax::default(), blocks: 0 }
    }

    /// The next file, whose data can then be read by [`feed`](Self::feed).
    pub fn next(&mut self) -> io::Result<Option<Member>> {
        let mut pax = self.global.clone();
        let (mut long_name, mut long_link) = (None, None);
        loop {
            self.skip_rest()?;
            let Some(block) = self.header()? else { return Ok(None) };
            let header = tar::Header::from_byte_slice(&block);
            let size = field(&header.as_old().size)?;
            let size = u64::try_from(size).map_err(|_| bad("a negative size"))?;
            let flag = header.entry_type().as_byte();
            match flag {
                b'x' | b'g' => {
                    let data = self.extension(size)?;
                    if flag == b'x' {
                        pax.parse(&data)?;
                    } else {
                        self.global.parse(&data)?;
                        pax = self.global.clone();
                    }
                }
                b'L' => long_name = Some(until_nul(self.extension(size)?)),
                b'K' => long_link = Some(until_nul(self.extension(size)?)),
                _ => {
                    let size = pax.size.unwrap_or(size);
                    let mut member = member(header, flag)?;
                    if let Some(name) = pax.path.take().or(long_name) {
                        member.path = name;
                    }
                    if let Some(link) = pax.link.take().or(long_link) {
                        member.link = link;
                    }
                    return self.complete(member, header, pax, size).map(Some);
                }
            }
        }
    }

    /// Hands the data of the current member on.
    pub fn feed(&mut self, member: &Member, to: &mut dyn Feed, read: &mut dyn FnMut(u64)) -> io::Result<()> {
        let mut buffer = vec![0; usize::try_from(member.size.clamp(1, 1 << 18)).unwrap_or(1)];
        let mut at = 0u64;
        for segment in &member.segments {
            to.skip(segment.offset.saturating_sub(at))?;
            let mut left = segment.len;
            while left > 0 {
                let room = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                let piece = buffer.get_mut(..room).unwrap_or_default();
                self.stream.read_exact(piece)?;
                to.push(piece)?;
                read(room as u64);
                left = left.saturating_sub(room as u64);
                self.left = self.left.saturating_sub(room as u64);
            }
            at = segment.offset.saturating_add(segment.len);
        }
        to.skip(member.size.saturating_sub(at))
    }

    /// Reads to the end of the stream, which may go on behind the archive's own end.
    pub fn drain(&mut self) -> io::Result<()> {
        io::copy(&mut self.stream, &mut io::sink()).map(drop)
    }

    /// A header with a correct checksum; `None` at the end.
    fn header(&mut self) -> io::Result<Option<[u8; BLOCK]>> {
        let Some(mut block) = self.block()? else { return Ok(None) };
        if block.iter().all(|b| *b == 0) {
            // Two of these are the end; one alone is passed over, as GNU tar does.
            match self.block()? {
                Some(second) if second.iter().any(|b| *b != 0) => block = second,
                _ => return Ok(None),
            }
        }
        let (mut unsigned, mut signed) = (0i64, 0i64);
        for (at, byte) in block.iter().enumerate() {
            let byte = if (148..156).contains(&at) { b' ' } else { *byte };
            unsigned = unsigned.saturating_add(i64::from(byte));
            signed = signed.saturating_add(i64::from(byte.cast_signed()));
        }
        let stated = field(&tar::Header::from_byte_slice(&block).as_old().cksum)?;
        if stated != unsigned && stated != signed {
            return Err(bad("not a tar archive, or damaged: the checksum of a header is wrong"));
        }
        Ok(Some(block))
    }

    /// A block; `None` where the stream ends between two.
    fn block(&mut self) -> io::Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut have = 0;
        while let Some(rest) = block.get_mut(have..).filter(|r| !r.is_empty()) {
            match self.stream.read(rest) {
                Ok(0) if have == 0 && self.blocks > 0 => return Ok(None),
                Ok(0) => return Err(bad("not a tar archive, or cut off")),
                Ok(count) => have = have.saturating_add(count),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.blocks = self.blocks.saturating_add(1);
        Ok(Some(block))
    }

    /// The data of a header that describes the next one.
    fn extension(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > MAX_EXTENSION {
            return Err(bad("an extended header of more than 16 MiB"));
        }
        self.set_left(size)?;
        let mut data = Vec::new();
        self.stream.by_ref().take(size).read_to_end(&mut data)?;
        if data.len() as u64 != size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left = self.left.saturating_sub(size);
        Ok(data)
    }

    fn set_left(&mut self, size: u64) -> io::Result<()> {
        self.left = size.checked_next_multiple_of(BLOCK as u64).ok_or_else(|| bad("an impossible size"))?;
        Ok(())
    }

    fn skip_rest(&mut self) -> io::Result<()> {
        let skipped = io::copy(&mut self.stream.by_ref().take(self.left), &mut io::sink())?;
        if skipped < self.left {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left = 0;
        Ok(())
    }

    /// Takes over what extended headers say, and the map of a sparse file.
    fn complete(
        &mut self,
        mut member: Member,
        header: &tar::Header,
        pax: Pax,
        size: u64,
    ) -> io::Result<Member> {
        member.uid = pax.uid.unwrap_or(member.uid);
        member.gid = pax.gid.unwrap_or(member.gid);
        (member.mtime, member.mtime_ns) = pax.mtime.unwrap_or((member.mtime, 0));
        member.xattrs = pax.xattrs;
        // Other kinds have no data, whatever their header says.
        let has_data = !matches!(member.flag, b'1'..=b'6');
        let stored = if has_data { size } else { 0 };
        self.set_left(stored)?;
        member.size = stored;
        member.segments = vec![Segment { offset: 0, len: stored }];
        let mut data = stored;
        if member.flag == b'S' {
            let gnu = header.as_gnu().ok_or_else(|| bad("a sparse file without a GNU header"))?;
            member.segments = self.gnu_map(gnu)?;
            member.size = u64::try_from(field(&gnu.realsize)?).map_err(|_| bad("a negative size"))?;
        } else if pax.sparse && has_data {
            member.size = pax.sparse_size.ok_or_else(|| bad("a sparse file without its size"))?;
            member.path = pax.sparse_name.unwrap_or(member.path);
            member.segments =
                if pax.sparse_major == 0 { pax.sparse_map } else { self.map_in_data(&mut data)? };
        }
        let mut end = 0;
        for segment in &member.segments {
            if segment.offset < end {
                return Err(bad("a sparse file whose map is out of order"));
            }
            end = segment.offset.checked_add(segment.len).ok_or_else(|| bad("an impossible size"))?;
        }
        let sum = member.segments.iter().map(|s| s.len).fold(0, u64::saturating_add);
        if sum != data || end > member.size || i64::try_from(member.size).is_err() {
            return Err(bad("a sparse file whose map does not fit its data"));
        }
        Ok(member)
    }

    /// The map of an old GNU sparse file: in the header, and in blocks behind it.
    fn gnu_map(&mut self, gnu: &tar::GnuHeader) -> io::Result<Vec<Segment>> {
        let mut out = Vec::new();
        let mut put = |entries: &[tar::GnuSparseHeader]| -> io::Result<()> {
            for entry in entries.iter().filter(|e| !e.is_empty()) {
                let get = |f| u64::try_from(field(f)?).map_err(|_| bad("a negative size"));
                out.push(Segment { offset: get(&entry.offset)?, len: get(&entry.numbytes)? });
            }
            if out.len() > MAX_SEGMENTS {
                return Err(bad("a sparse file of too many pieces"));
            }
            Ok(())
        };
        put(&gnu.sparse)?;
        let mut more = gnu.is_extended();
        while more {
            let mut block = tar::GnuExtSparseHeader::new();
            self.stream.read_exact(block.as_mut_bytes())?;
            put(block.sparse())?;
            more = block.is_extended();
        }
        Ok(out)
    }

    /// The map of a sparse file of format 1.0: numbers in lines, before the data, padded to a block.
    fn map_in_data(&mut self, data: &mut u64) -> io::Result<Vec<Segment>> {
        let mut buffer: Vec<u8> = Vec::new();
        let mut numbers = Vec::new();
        let mut wanted = 1usize;
        while numbers.len() < wanted {
            let Some(end) = buffer.iter().position(|b| *b == b'\n') else {
                if buffer.len() > 64 || *data < BLOCK as u64 {
                    return Err(bad("a sparse file whose map is cut off"));
                }
                let mut block = [0; BLOCK];
                self.stream.read_exact(&mut block)?;
                self.left = self.left.saturating_sub(BLOCK as u64);
                *data = data.saturating_sub(BLOCK as u64);
                buffer.extend_from_slice(&block);
                continue;
            };
            numbers.push(number(buffer.get(..end).unwrap_or_default())?);
            buffer.drain(..=end);
            if numbers.len() == 1 {
                let count = numbers.first().and_then(|n| usize::try_from(*n).ok()).unwrap_or(usize::MAX);
                if count > MAX_SEGMENTS {
                    return Err(bad("a sparse file of too many pieces"));
                }
                wanted = count.saturating_mul(2).saturating_add(1);
            }
        }
        let pairs = numbers.get(1..).unwrap_or_default().as_chunks::<2>().0;
        Ok(pairs.iter().map(|[offset, len]| Segment { offset: *offset, len: *len }).collect())
    }
}

/// A member of what the header alone says.
fn member(header: &tar::Header, flag: u8) -> io::Result<Member> {
    let old = header.as_old();
    let id = |f| u32::try_from(field(f)?).map_err(|_| bad("an owner's id of more than 32 bits"));
    // Only newer headers have device numbers.
    let device =
        |f: Option<&[u8; 8]>| f.map_or(Ok(0), |f| field(f).map(|n| u32::try_from(n).unwrap_or(u32::MAX)));
    let (major, minor) = match (header.as_ustar(), header.as_gnu()) {
        (Some(h), _) => (Some(&h.dev_major), Some(&h.dev_minor)),
        (_, Some(h)) => (Some(&h.dev_major), Some(&h.dev_minor)),
        _ => (None, None),
    };
    Ok(Member {
        path: header.path_bytes().into_owned(),
        link: header.link_name_bytes().map_or_else(Vec::new, |l| l.into_owned()),
        flag,
        mode: u16::try_from(field(&old.mode)? & 0o7777).unwrap_or(0),
        uid: id(&old.uid)?,
        gid: id(&old.gid)?,
        mtime: field(&old.mtime)?,
        mtime_ns: 0,
        major: if matches!(flag, b'3' | b'4') { device(major)? } else { 0 },
        minor: if matches!(flag, b'3' | b'4') { device(minor)? } else { 0 },
        xattrs: crate::tree::Xattrs::new(),
        size: 0,
        segments: Vec::new(),
    })
}

/// A field with a number: octal digits, or binary where the first bit is set, the second one its sign.
fn field(bytes: &[u8]) -> io::Result<i64> {
    const WRONG: &str = "a number in a header that is none";
    if let Some((first, rest)) = bytes.split_first().filter(|(first, _)| **first & 0x80 != 0) {
        let negative = first & 0x40 != 0;
        let start = i128::from(first & 0x3f) - if negative { 0x40 } else { 0 };
        let value = rest.iter().try_fold(start, |value, byte| {
            value.checked_mul(256).and_then(|v| v.checked_add(i128::from(*byte)))
        });
        return value.and_then(|v| i64::try_from(v).ok()).ok_or_else(|| bad(WRONG));
    }
    let text = bytes.split(|b| *b == 0).next().unwrap_or_default().trim_ascii();
    if text.is_empty() {
        return Ok(0);
    }
    let text = str::from_utf8(text).map_err(|_| bad(WRONG))?;
    i64::from_str_radix(text, 8).map_err(|_| bad(WRONG))
}

fn until_nul(mut name: Vec<u8>) -> Vec<u8> {
    if let Some(end) = name.iter().position(|b| *b == 0) {
        name.truncate(end);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary() {
        assert_eq!(field(b"0000644\0").unwrap(), 0o644);
        assert_eq!(field(b"  17 \0\0\0").unwrap(), 0o17);
        assert_eq!(field(b"\0\0\0\0").unwrap(), 0);
        assert_eq!(field(&[0x80, 0, 0, 1, 0, 0, 0, 0]).unwrap(), 1 << 32);
        assert_eq!(field(&[0xff; 12]).unwrap(), -1);
        assert!(field(b"9999").is_err() && field(&[0xbf; 12]).is_err());
    }
}
