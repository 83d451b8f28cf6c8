//! Extended headers of archives: records of POSIX pax, and what GNU tar says in them about sparse files.

use crate::tree::Xattrs;
use std::io;

/// A stretch of a sparse file that the archive has data for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub offset: u64,
    pub len: u64,
}

/// What extended headers say about a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Pax {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub mtime: Option<(i64, u32)>,
    pub xattrs: Xattrs,
    /// GNU.sparse: the name, the size with holes, and the map if it is in the header.
    pub sparse_name: Option<Vec<u8>>,
    pub sparse_size: Option<u64>,
    pub sparse_map: Vec<Segment>,
    pub sparse_offset: Option<u64>,
    pub sparse_major: u64,
    pub sparse: bool,
}

pub(super) fn bad(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_owned())
}

pub(super) fn number(text: &[u8]) -> io::Result<u64> {
    let parsed = str::from_utf8(text).ok().and_then(|t| t.trim().parse().ok());
    parsed.ok_or_else(|| bad("a number in an extended header that is none"))
}

impl Pax {
    /// Takes the records of a header: `LENGTH KEY=VALUE\n`, each length counting the whole record. Values may have
    /// any bytes, so the length alone says where one ends.
    pub fn parse(&mut self, mut data: &[u8]) -> io::Result<()> {
        const WRONG: &str = "an extended header with a malformed record";
        while !data.is_empty() {
            let space = data.iter().position(|b| *b == b' ').ok_or_else(|| bad(WRONG))?;
            let (digits, _) = data.split_at_checked(space).ok_or_else(|| bad(WRONG))?;
            let length = usize::try_from(number(digits)?).map_err(|_| bad(WRONG))?;
            let (record, rest) = data.split_at_checked(length).ok_or_else(|| bad(WRONG))?;
            let record = record.get(space..).and_then(|r| r.strip_prefix(b" ")).ok_or_else(|| bad(WRONG))?;
            let record = record.strip_suffix(b"\n").ok_or_else(|| bad(WRONG))?;
            let equals = record.iter().position(|b| *b == b'=').ok_or_else(|| bad(WRONG))?;
            let (key, value) = record.split_at_checked(equals).ok_or_else(|| bad(WRONG))?;
            self.record(key, value.get(1..).unwrap_or_default())?;
            data = rest;
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        // An empty value takes back what a global header said.
        let bytes = || (!value.is_empty()).then(|| value.to_vec());
        let id = || number(value).map(|n| u32::try_from(n).ok());
        match key {
            b"path" => self.path = bytes(),
            b"linkpath" => self.link = bytes(),
            b"size" | b"uid" | b"gid" | b"mtime" if value.is_empty() => {}
            b"size" => self.size = Some(number(value)?),
            b"uid" => self.uid = Some(id()?.ok_or_else(|| bad("a user id of more than 32 bits"))?),
            b"gid" => self.gid = Some(id()?.ok_or_else(|| bad("a group id of more than 32 bits"))?),
            b"mtime" => self.mtime = Some(time(value)?),
            b"GNU.sparse.major" => (self.sparse_major, self.sparse) = (number(value)?, true),
            b"GNU.sparse.name" => (self.sparse_name, self.sparse) = (bytes(), true),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => {
                (self.sparse_size, self.sparse) = (Some(number(value)?), true);
            }
            b"GNU.sparse.offset" => self.sparse_offset = Some(number(value)?),
            b"GNU.sparse.numbytes" => {
                let offset = self.sparse_offset.take();
                let offset = offset.ok_or_else(|| bad("a sparse file whose map has no offset"))?;
                self.sparse_map.push(Segment { offset, len: number(value)? });
            }
            b"GNU.sparse.map" => {
                let mut numbers = value.split(|b| *b == b',').map(number);
                while let Some(offset) = numbers.next() {
                    let len = numbers.next().ok_or_else(|| bad("a sparse file whose map is cut off"))??;
                    self.sparse_map.push(Segment { offset: offset?, len });
                }
            }
            key => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.insert(name.to_vec(), value.to_vec());
                }
            }
        }
        Ok(())
    }
}

/// Seconds with a fraction, which may be negative, as seconds and nanoseconds above them.
fn time(value: &[u8]) -> io::Result<(i64, u32)> {
    const WRONG: &str = "a time in an extended header that is none";
    let text = str::from_utf8(value).map_err(|_| bad(WRONG))?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().map_err(|_| bad(WRONG))?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad(WRONG));
    }
    let digits: String = fraction.chars().chain(core::iter::repeat('0')).take(9).collect();
    let nanos: u32 = digits.parse().map_err(|_| bad(WRONG))?;
    if text.starts_with('-') && nanos > 0 {
        let seconds = seconds.checked_sub(1).ok_or_else(|| bad(WRONG))?;
        return Ok((seconds, 1_000_000_000u32.saturating_sub(nanos)));
    }
    Ok((seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_have_any_bytes() {
        let mut pax = Pax::default();
        pax.parse(b"29 SCHILY.xattr.user.a=1\n=2\n\n15 mtime=-1.25\n").unwrap();
        assert_eq!(pax.xattrs.get(&b"user.a"[..]).unwrap(), b"1\n=2\n");
        assert_eq!(pax.mtime, Some((-2, 750_000_000)));
    }

    #[test]
    fn malformed_records_are_errors() {
        for record in [
            &b"5 a=b"[..],
            b"x",
            b"0 a=b\n",
            b"99 a=b\n",
            b"5 ab\n",
            b"9 size=x\n",
            b"18446744073709551615 a=b\n",
        ] {
            assert!(Pax::default().parse(record).is_err(), "{record:?}");
        }
    }
}
