//! Arguments as text.

use super::calls::{Kind, Struct};
use super::flags::{self, Names};
use super::structs;
use crate::errno::Result;
use crate::mm::Mm;
use crate::syscalls::Args;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use linux_raw_sys::general as c;

/// Most bytes of a path that are shown.
const MAX_PATH: usize = 256;
/// Most entries of an array that are shown.
const MAX_ENTRIES: u64 = 16;

/// Writes the arguments of one call.
pub struct Shower<'a> {
    /// Where to.
    pub out: &'a mut String,
    /// The arguments.
    pub args: &'a Args,
    /// The program's memory; without it addresses are shown as they are.
    pub mem: Option<&'a Mm>,
    /// What the call has given back, once it has.
    pub result: Option<&'a Result<u64>>,
    /// Bytes of a buffer that are shown.
    pub limit: usize,
}

/// Appends the names of flags; what has no name as a number.
pub fn flags(out: &mut String, mut value: u64, names: Names) {
    let start = out.len();
    for (name, bits) in names {
        // A name that stands for several bits comes before its parts, or stands beside them.
        if *bits != 0 && value & bits == *bits {
            separate(out, start);
            out.push_str(name);
            value &= !bits;
        }
    }
    if value != 0 || out.len() == start {
        separate(out, start);
        let _ = if value == 0 { write!(out, "0") } else { write!(out, "{value:#x}") };
    }
}

fn separate(out: &mut String, start: usize) {
    if out.len() != start {
        out.push('|');
    }
}

/// Appends the name of a value.
pub fn one(out: &mut String, value: u64, names: Names) {
    let _ = match names.iter().find(|(_, v)| *v == value) {
        Some((name, _)) => write!(out, "{name}"),
        None => write!(out, "{value:#x}"),
    };
}

/// Appends the name of a signal.
pub fn signal(out: &mut String, number: u64) {
    let number = number as u32 as i32;
    let _ = match usize::try_from(number - 1).ok().and_then(|n| flags::SIGNALS.get(n)) {
        Some(name) => write!(out, "{name}"),
        None if (32..=64).contains(&number) => write!(out, "SIGRT_{}", number - 32),
        None => write!(out, "{number}"),
    };
}

/// Appends bytes as a C string.
pub fn quoted(out: &mut String, bytes: &[u8], whole: bool) {
    out.push('"');
    for byte in bytes {
        match byte {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(*byte));
            }
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x20..=0x7e => out.push(char::from(*byte)),
            _ => {
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
    }
    out.push('"');
    if !whole {
        out.push_str("...");
    }
}

/// Appends an address.
pub fn address(out: &mut String, value: u64) {
    let _ = if value == 0 { write!(out, "NULL") } else { write!(out, "{value:#x}") };
}

/// Reads as many bytes as are there, at most `len`.
pub fn read(mem: &Mm, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = alloc::vec![0; len];
    let done = mem.read_some(at, &mut bytes);
    bytes.truncate(done);
    bytes
}

/// Reads a word; `None` where it cannot be read.
pub fn word(mem: &Mm, at: u64) -> Option<u64> {
    read(mem, at, 8).try_into().ok().map(u64::from_le_bytes)
}

fn half(mem: &Mm, at: u64) -> Option<u32> {
    read(mem, at, 4).try_into().ok().map(u32::from_le_bytes)
}

impl<'a> Shower<'a> {
    /// Appends all arguments.
    pub fn arguments(&mut self, kinds: &[Kind]) {
        let mut first = true;
        for (n, kind) in kinds.iter().enumerate() {
            if matches!(kind, Kind::ModeIfCreates) && !self.creates(n) {
                continue;
            }
            if !first {
                self.out.push_str(", ");
            }
            first = false;
            self.argument(n, *kind);
        }
    }

    fn creates(&self, n: usize) -> bool {
        let flags = self.args.u64(n - 1);
        let temporary = u64::from(c::O_TMPFILE);
        flags & u64::from(c::O_CREAT) != 0 || flags & temporary == temporary
    }

    /// What the call returned, if it succeeded.
    fn returned(&self) -> Option<u64> {
        self.result.and_then(|r| r.as_ref().ok()).copied()
    }

    /// The memory behind an argument that the call reads.
    fn behind(&self, n: usize) -> Option<(&'a Mm, u64)> {
        let at = self.args.u64(n);
        self.mem.filter(|_| at != 0).map(|mem| (mem, at))
    }

    /// The memory behind an argument that the call has written.
    fn written(&self, n: usize) -> Option<(&'a Mm, u64)> {
        self.returned().and_then(|_| self.behind(n))
    }

    fn argument(&mut self, n: usize, kind: Kind) {
        let value = self.args.u64(n);
        let text = match kind {
            Kind::Int => alloc::format!("{}", value as i32),
            Kind::Long => alloc::format!("{}", value as i64),
            Kind::Size => alloc::format!("{value}"),
            Kind::Mode | Kind::ModeIfCreates => {
                alloc::format!("{:#05o}", value as u32).replacen("0o", "0", 1)
            }
            Kind::Fd if value as i32 == c::AT_FDCWD => "AT_FDCWD".into(),
            Kind::Fd => alloc::format!("{}", value as i32),
            Kind::Signal => return signal(self.out, value),
            Kind::Flags(names) => return flags(self.out, u64::from(value as u32), names),
            Kind::One(names) => return one(self.out, u64::from(value as u32), names),
            Kind::Low(names, mask, above) => {
                one(self.out, value & mask, names);
                if u64::from(value as u32) & !mask != 0 {
                    self.out.push('|');
                    flags(self.out, u64::from(value as u32) & !mask, above);
                }
                return;
            }
            Kind::Clone => {
                let end = value & 0xff;
                if value & !0xff != 0 || end == 0 {
                    flags(self.out, value & !0xff, flags::CLONE);
                }
                if end != 0 {
                    if value & !0xff != 0 {
                        self.out.push('|');
                    }
                    signal(self.out, end);
                }
                return;
            }
            Kind::Open => return open_flags(self.out, value),
            _ => {
                if self.memory(n, kind).is_none() {
                    address(self.out, value);
                }
                return;
            }
        };
        self.out.push_str(&text);
    }

    /// Appends what an argument points to; `None`, and nothing, where that cannot be read.
    fn memory(&mut self, n: usize, kind: Kind) -> Option<()> {
        match kind {
            Kind::Str => {
                let (mem, at) = self.behind(n)?;
                let bytes = read(mem, at, MAX_PATH);
                let end = bytes.iter().position(|b| *b == 0);
                if bytes.is_empty() {
                    return None;
                }
                quoted(self.out, &bytes[..end.unwrap_or(bytes.len())], end.is_some());
            }
            Kind::In(len) => {
                let (mem, at) = self.behind(n)?;
                let len = self.args.u64(len);
                let bytes = read(mem, at, self.limit.min(len as usize));
                self.bytes(&bytes, len)?;
            }
            Kind::Out => {
                let (mem, at) = self.written(n)?;
                let len = self.returned()?;
                let bytes = read(mem, at, self.limit.min(len as usize));
                self.bytes(&bytes, len)?;
            }
            Kind::IovIn(count) => {
                let (mem, at) = self.behind(n)?;
                let text = self.vector(mem, at, self.args.u64(count), u64::MAX);
                self.out.push_str(&text);
            }
            Kind::IovOut(count) => {
                let (mem, at) = self.written(n)?;
                let text = self.vector(mem, at, self.args.u64(count), self.returned()?);
                self.out.push_str(&text);
            }
            Kind::Addr(len) => {
                let (mem, at) = self.behind(n)?;
                let bytes = read(mem, at, (self.args.u64(len) as usize).min(128));
                structs::socket_address(self.out, &bytes);
            }
            Kind::AddrOut(len) => {
                let (mem, at) = self.written(n)?;
                let len = half(mem, self.args.u64(len))?;
                let bytes = read(mem, at, (len as usize).min(128));
                structs::socket_address(self.out, &bytes);
            }
            Kind::Msg(out) => {
                let (mem, at) = if out { self.written(n)? } else { self.behind(n)? };
                let words: Vec<u64> = (0..7).map_while(|i| word(mem, at + 8 * i)).collect();
                let [name, name_len, iov, count, control, control_len, flags_word] = words.try_into().ok()?;
                let mut text = String::from("{name=");
                if name == 0 {
                    text.push_str("NULL");
                } else {
                    structs::socket_address(&mut text, &read(mem, name, (name_len as u32 as usize).min(128)));
                }
                text.push_str(", iov=");
                let total = if out { self.returned()? } else { u64::MAX };
                text.push_str(&self.vector(mem, iov, count, total));
                let _ = write!(text, ", control={control:#x}, controllen={control_len}, flags=");
                flags(&mut text, u64::from(flags_word as u32), flags::MSG);
                text.push('}');
                self.out.push_str(&text);
            }
            Kind::In1(kind) => {
                let (mem, at) = self.behind(n)?;
                structs::show(self.out, mem, at, kind)?;
            }
            Kind::Out1(kind) => {
                let (mem, at) = self.written(n)?;
                structs::show(self.out, mem, at, kind)?;
            }
            Kind::InN(kind, count) => {
                let (mem, at) = self.behind(n)?;
                self.array(mem, at, kind, self.args.u64(count));
            }
            Kind::OutN(kind) => {
                let (mem, at) = self.written(n)?;
                self.array(mem, at, kind, self.returned()?);
            }
            Kind::StrVec => {
                let (mem, at) = self.behind(n)?;
                word(mem, at)?;
                let mut text = String::from("[");
                for i in 0.. {
                    let Some(string) = word(mem, at + 8 * i).filter(|p| *p != 0) else { break };
                    if i != 0 {
                        text.push_str(", ");
                    }
                    if i == MAX_ENTRIES {
                        text.push_str("...");
                        break;
                    }
                    let bytes = read(mem, string, MAX_PATH);
                    let end = bytes.iter().position(|b| *b == 0);
                    quoted(&mut text, &bytes[..end.unwrap_or(bytes.len())], end.is_some());
                }
                text.push(']');
                self.out.push_str(&text);
            }
            _ => return None,
        }
        Some(())
    }

    fn bytes(&mut self, bytes: &[u8], len: u64) -> Option<()> {
        if bytes.is_empty() && len != 0 && self.limit != 0 {
            return None;
        }
        quoted(self.out, bytes, bytes.len() as u64 == len);
        Some(())
    }

    /// Buffers, of which `total` bytes count.
    fn vector(&self, mem: &Mm, at: u64, count: u64, mut total: u64) -> String {
        let mut text = String::from("[");
        let mut left = self.limit;
        for i in 0..count.min(MAX_ENTRIES) {
            let (Some(base), Some(len)) = (word(mem, at + 16 * i), word(mem, at + 16 * i + 8)) else { break };
            if i != 0 {
                text.push_str(", ");
            }
            let filled = len.min(total);
            total -= filled;
            let bytes = read(mem, base, left.min(filled as usize));
            left -= bytes.len();
            quoted(&mut text, &bytes, bytes.len() as u64 == filled);
            let _ = write!(text, ":{len}");
        }
        text.push_str(if count > MAX_ENTRIES { ", ...]" } else { "]" });
        text
    }

    fn array(&mut self, mem: &Mm, at: u64, kind: Struct, count: u64) {
        let mut text = String::from("[");
        for i in 0..count.min(MAX_ENTRIES) {
            if i != 0 {
                text.push_str(", ");
            }
            if structs::show(&mut text, mem, at + i * structs::size(kind), kind).is_none() {
                text.push('?');
                break;
            }
        }
        text.push_str(if count > MAX_ENTRIES { ", ...]" } else { "]" });
        self.out.push_str(&text);
    }
}

/// Appends flags of open(2).
pub fn open_flags(out: &mut String, value: u64) {
    let access = ["O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"];
    out.push_str(access[(value & 3) as usize]);
    let mut rest = u64::from(value as u32) & !3;
    // These hold the bits of another.
    for (name, bits) in [("O_TMPFILE", c::O_TMPFILE), ("O_SYNC", c::O_SYNC)] {
        if rest & u64::from(bits) == u64::from(bits) {
            out.push('|');
            out.push_str(name);
            rest &= !u64::from(bits);
        }
    }
    if rest != 0 {
        out.push('|');
        flags(out, rest, flags::OPEN);
    }
}
