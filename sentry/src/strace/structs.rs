//! Structs of the common calls as text.

use super::calls::Struct;
use super::flags::{self, Names};
use super::show;
use crate::mm::Mm;
use alloc::string::String;
use core::fmt::Write;
use linux_raw_sys::net;

/// Bytes of a struct.
pub fn size(kind: Struct) -> u64 {
    match kind {
        Struct::Timespec | Struct::Timeval | Struct::Rlimit => 16,
        Struct::Itimerspec | Struct::Itimerval | Struct::Sigaction => 32,
        Struct::Sigset | Struct::Pollfd | Struct::FdPair | Struct::U64 => 8,
        Struct::Stat => 144,
        Struct::Statx => 256,
        Struct::EpollEvent => 12,
        Struct::WaitStatus | Struct::U32 => 4,
        Struct::Utsname => 6 * 65,
        Struct::CloneArgs => 64,
        Struct::OpenHow => 24,
    }
}

/// Bytes of a struct that was read whole.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn u64(&self, at: usize) -> u64 {
        self.0.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
    }
    fn u32(&self, at: usize) -> u32 {
        self.0.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
    }
    fn u16(&self, at: usize) -> u16 {
        self.0.get(at..at + 2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_le_bytes)
    }
    fn text(&self, at: usize, len: usize) -> &[u8] {
        let bytes = self.0.get(at..(at + len).min(self.0.len())).unwrap_or_default();
        &bytes[..bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len())]
    }
}

/// Appends a struct of the program; `None`, and nothing, where it cannot be read.
pub fn show(out: &mut String, mem: &Mm, at: u64, kind: Struct) -> Option<()> {
    let bytes = show::read(mem, at, size(kind) as usize);
    if bytes.len() as u64 != size(kind) {
        return None;
    }
    let b = Bytes(&bytes);
    let flags = |out: &mut String, value: u64, names: Names| show::flags(out, value, names);
    let _ = match kind {
        Struct::Timespec => time(out, &b, 0, "nsec"),
        Struct::Timeval => time(out, &b, 0, "usec"),
        Struct::Itimerspec | Struct::Itimerval => {
            let unit = if kind == Struct::Itimerspec { "nsec" } else { "usec" };
            out.push_str("{interval=");
            let _ = time(out, &b, 0, unit);
            out.push_str(", value=");
            let _ = time(out, &b, 16, unit);
            write!(out, "}}")
        }
        Struct::Sigset => signal_set(out, b.u64(0)),
        Struct::Sigaction => {
            out.push_str("{handler=");
            match b.u64(0) {
                0 => out.push_str("SIG_DFL"),
                1 => out.push_str("SIG_IGN"),
                handler => show::address(out, handler),
            }
            out.push_str(", mask=");
            let _ = signal_set(out, b.u64(24));
            out.push_str(", flags=");
            flags(out, b.u64(8), flags::SIGACTION);
            write!(out, "}}")
        }
        Struct::Stat => {
            let (mode, size, ino) = (b.u32(24), b.u64(48), b.u64(8));
            out.push_str("{mode=");
            let _ = file_mode(out, mode);
            write!(
                out,
                ", size={size}, ino={ino}, nlink={}, uid={}, gid={}}}",
                b.u64(16),
                b.u32(28),
                b.u32(32)
            )
        }
        Struct::Statx => {
            out.push_str("{mode=");
            let _ = file_mode(out, u32::from(b.u16(28)));
            write!(out, ", size={}, ino={}, mask={:#x}}}", b.u64(40), b.u64(32), b.u32(0))
        }
        Struct::Pollfd => {
            let _ = write!(out, "{{fd={}, events=", b.u32(0) as i32);
            flags(out, u64::from(b.u16(4)), flags::POLL);
            out.push_str(", revents=");
            flags(out, u64::from(b.u16(6)), flags::POLL);
            write!(out, "}}")
        }
        Struct::EpollEvent => {
            out.push_str("{events=");
            flags(out, u64::from(b.u32(0)), flags::EPOLL);
            write!(out, ", data={:#x}}}", b.u64(4))
        }
        Struct::WaitStatus => wait_status(out, b.u32(0)),
        Struct::Rlimit => {
            out.push_str("{cur=");
            limit(out, b.u64(0));
            out.push_str(", max=");
            limit(out, b.u64(8));
            write!(out, "}}")
        }
        Struct::FdPair => write!(out, "[{}, {}]", b.u32(0) as i32, b.u32(4) as i32),
        Struct::Utsname => {
            let field = |n: usize| String::from_utf8_lossy(b.text(65 * n, 65)).into_owned();
            write!(out, "{{sysname={:?}, nodename={:?}, release={:?}}}", field(0), field(1), field(2))
        }
        Struct::U32 => write!(out, "[{}]", b.u32(0) as i32),
        Struct::U64 => write!(out, "[{}]", b.u64(0)),
        Struct::CloneArgs => {
            out.push_str("{flags=");
            flags(out, b.u64(0), flags::CLONE);
            out.push_str(", exit_signal=");
            show::signal(out, b.u64(32));
            write!(out, ", stack={:#x}, stack_size={:#x}, tls={:#x}}}", b.u64(40), b.u64(48), b.u64(56))
        }
        Struct::OpenHow => {
            out.push_str("{flags=");
            show::open_flags(out, b.u64(0));
            write!(out, ", mode={:o}, resolve={:#x}}}", b.u64(8), b.u64(16))
        }
    };
    Some(())
}

fn time(out: &mut String, b: &Bytes<'_>, at: usize, unit: &str) -> core::fmt::Result {
    write!(out, "{{sec={}, {unit}={}}}", b.u64(at) as i64, b.u64(at + 8))
}

fn limit(out: &mut String, value: u64) {
    let _ = if value == u64::MAX { write!(out, "RLIM_INFINITY") } else { write!(out, "{value}") };
}

fn signal_set(out: &mut String, set: u64) -> core::fmt::Result {
    // A set of more than half is shown as what is not in it.
    let inverted = set.count_ones() > 32;
    let shown = if inverted { !set } else { set };
    out.push_str(if inverted { "~[" } else { "[" });
    let start = out.len();
    for n in (0..64).filter(|n| shown & 1 << n != 0) {
        if out.len() != start {
            out.push(' ');
        }
        let from = out.len();
        show::signal(out, n + 1);
        if out[from..].starts_with("SIG") {
            out.replace_range(from..from + 3, "");
        }
    }
    write!(out, "]")
}

fn file_mode(out: &mut String, mode: u32) -> core::fmt::Result {
    use linux_raw_sys::general as c;
    let kind = match mode & c::S_IFMT {
        c::S_IFREG => "S_IFREG",
        c::S_IFDIR => "S_IFDIR",
        c::S_IFLNK => "S_IFLNK",
        c::S_IFCHR => "S_IFCHR",
        c::S_IFBLK => "S_IFBLK",
        c::S_IFIFO => "S_IFIFO",
        c::S_IFSOCK => "S_IFSOCK",
        _ => "0",
    };
    write!(out, "{kind}|{:04o}", mode & 0o7777)
}

fn wait_status(out: &mut String, status: u32) -> core::fmt::Result {
    out.push('[');
    match status & 0x7f {
        0 => write!(out, "exited {}", status >> 8 & 0xff)?,
        0x7f if status == 0xffff => out.push_str("continued"),
        0x7f => {
            out.push_str("stopped by ");
            show::signal(out, u64::from(status >> 8 & 0xff));
        }
        signal => {
            out.push_str("killed by ");
            show::signal(out, u64::from(signal));
        }
    }
    write!(out, "]")
}

/// Appends a socket address.
pub fn socket_address(out: &mut String, bytes: &[u8]) {
    let b = Bytes(bytes);
    if bytes.len() < 2 {
        out.push_str("{}");
        return;
    }
    let port = u16::from_be(b.u16(2));
    let _ = match u32::from(b.u16(0)) {
        net::AF_UNIX => {
            out.push_str("{AF_UNIX, ");
            let path = &bytes[2..];
            match path.split_first() {
                Some((0, name)) if !name.is_empty() => {
                    out.push('@');
                    show::quoted(out, name, true);
                }
                _ => show::quoted(out, b.text(2, path.len()), true),
            }
            write!(out, "}}")
        }
        net::AF_INET => {
            let a = b.u32(4).to_le_bytes();
            write!(out, "{{AF_INET, {}.{}.{}.{}:{port}}}", a[0], a[1], a[2], a[3])
        }
        net::AF_INET6 => {
            let mut octets = [0; 16];
            if let Some(address) = bytes.get(8..24) {
                octets.copy_from_slice(address);
            }
            write!(out, "{{AF_INET6, [{}]:{port}}}", core::net::Ipv6Addr::from(octets))
        }
        net::AF_NETLINK => write!(out, "{{AF_NETLINK, pid={}, groups={:#x}}}", b.u32(4), b.u32(8)),
        family => write!(out, "{{family={family}}}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(f: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        f(&mut out);
        out
    }

    #[test]
    fn addresses_of_sockets() {
        assert_eq!(text(|o| socket_address(o, &[2, 0, 0, 80, 127, 0, 0, 1])), "{AF_INET, 127.0.0.1:80}");
        assert_eq!(text(|o| socket_address(o, b"\x01\0/run/x\0")), "{AF_UNIX, \"/run/x\"}");
        assert_eq!(text(|o| socket_address(o, b"\x01\0\0abc")), "{AF_UNIX, @\"abc\"}");
        let mut six = [0; 28];
        (six[0], six[3], six[23]) = (10, 80, 1);
        assert_eq!(text(|o| socket_address(o, &six)), "{AF_INET6, [::1]:80}");
    }

    #[test]
    fn sets_and_statuses() {
        assert_eq!(text(|o| signal_set(o, 1 << 1 | 1 << 16).expect("text")), "[INT CHLD]");
        assert_eq!(text(|o| signal_set(o, !(1 << 8)).expect("text")), "~[KILL]");
        assert_eq!(text(|o| wait_status(o, 7 << 8).expect("text")), "[exited 7]");
        assert_eq!(text(|o| wait_status(o, 9).expect("text")), "[killed by SIGKILL]");
        assert_eq!(text(|o| wait_status(o, 19 << 8 | 0x7f).expect("text")), "[stopped by SIGSTOP]");
        assert_eq!(text(|o| file_mode(o, 0o100_644).expect("text")), "S_IFREG|0644");
    }
}
