//! Host calls as a sentry makes them, honest and hostile.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use abi::hostcall::*;
use abi::spec::StreamKind;
use zerocopy::{FromBytes, IntoBytes};

use super::streams::Stream;
use super::*;

/// Where the tests put paths.
const PATH: u64 = 0x1_0000;
/// Where they put scatter lists.
const LIST: u64 = 0x2_0000;
/// Where data goes.
const DATA: u64 = 0x10_0000;
const MEMORY: u64 = 4 << 20;

struct Host {
    services: Arc<HostServices>,
    dir: PathBuf,
}

struct Seen(AtomicU64);

impl Events for Seen {
    fn raise(&self, bits: u64) {
        self.0.fetch_or(bits, Ordering::SeqCst);
    }
}

impl Host {
    fn new(name: &str, writable: bool, streams: Vec<Stream>) -> Self {
        let dir = std::env::temp_dir().join(format!("runsc-host-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("root/sub")).expect("mkdir");
        fs::write(dir.join("root/file"), "0123456789").expect("write");
        fs::write(dir.join("secret"), "secret").expect("write");
        symlink("../secret", dir.join("root/out")).expect("symlink");
        symlink("file", dir.join("root/in")).expect("symlink");
        let fd = crate::process::donate_directory(&dir.join("root"), !writable).expect("donate");
        let services = HostServices::new(Parts {
            memory: Arc::new(GuestMemory::new(MEMORY, 64 << 20).expect("memory")),
            directories: vec![Directory { fd, writable, directory: true }],
            streams,
            listener: None,
            winch: None,
            sentry: "",
            log: Box::new(|_, _| {}),
            set_log: Box::new(|_| true),
            created: Box::new(|_| {}),
            finish: Box::new(|_| 0),
        });
        Self { services: services.expect("services"), dir }
    }

    fn call<C: HostCall>(&self, call: C) -> i64 {
        let block = HostCallBlock { nr: C::NR, args: call.to_args(), ret: 0 };
        match self.services.serve(&block) {
            Served::Return(ret) => ret,
            other => panic!("{other:?}"),
        }
    }

    fn put(&self, gpa: u64, bytes: &[u8]) -> u64 {
        self.services.memory.write(gpa, bytes).expect("write");
        bytes.len() as u64
    }

    fn data(&self, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        self.services.memory.read(DATA, &mut out).expect("read");
        out
    }

    fn open(&self, path: &str, flags: u64) -> i64 {
        let path_len = self.put(PATH, path.as_bytes());
        self.call(FileOpen { root: 0, path_gpa: PATH, path_len, flags, mode: 0o644 })
    }

    fn list(&self, ranges: &[GpaRange]) -> u64 {
        self.put(LIST, ranges.as_bytes());
        ranges.len() as u64
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn negated(errno: i32) -> i64 {
    -i64::from(errno)
}

#[test]
fn files_are_read_in_pieces() {
    let host = Host::new("read", false, Vec::new());
    let handle = host.open("file", 0) as u64;
    let count = host.list(&[GpaRange { gpa: DATA, len: 3 }, GpaRange { gpa: DATA + 3, len: 100 }]);
    assert_eq!(host.call(FileRead { handle, offset: 2, ranges_gpa: LIST, count }), 8);
    assert_eq!(host.data(8), b"23456789");
    assert_eq!(host.call(FileStatHandle { handle, stat_gpa: DATA }), 0);
    assert_eq!(FileStat::read_from_bytes(&host.data(size_of::<FileStat>())).expect("stat").size, 10);
    assert_eq!(host.call(FileWrite { handle, offset: 0, ranges_gpa: LIST, count }), negated(libc::EBADF));
    assert_eq!(host.call(FileClose { handle }), 0);
    assert_eq!(host.call(FileClose { handle }), negated(libc::EBADF));
}

#[test]
fn nothing_outside_is_reached() {
    let host = Host::new("escape", true, Vec::new());
    for (path, errno) in [
        ("../secret", libc::EXDEV),
        ("sub/../../secret", libc::EXDEV),
        ("/etc/passwd", libc::EXDEV),
        ("out", libc::ELOOP),
        ("in", libc::ELOOP),
        ("file\0x", libc::EINVAL),
        ("nothing", libc::ENOENT),
        ("file/x", libc::ENOTDIR),
    ] {
        assert_eq!(host.open(path, 0), negated(errno), "{path}");
        let path_len = host.put(PATH, path.as_bytes());
        let stat = host.call(FileStatAt { root: 0, path_gpa: PATH, path_len, stat_gpa: DATA });
        assert!(stat < 0 || matches!(path, "out" | "in"), "{path}: {stat}");
    }
    assert_eq!(
        host.call(FileStatAt { root: 1, path_gpa: PATH, path_len: 0, stat_gpa: DATA }),
        negated(libc::EBADF)
    );
    let path_len = host.put(PATH, b"out");
    assert_eq!(host.call(FileReadlink { root: 0, path_gpa: PATH, path_len, buf_gpa: DATA, buf_len: 100 }), 9);
    assert_eq!(host.data(9), b"../secret");
}

#[test]
fn devices_and_fifos_are_not_opened() {
    let host = Host::new("special", true, Vec::new());
    let fifo =
        std::ffi::CString::new(host.dir.join("root/fifo").to_string_lossy().into_owned()).expect("path");
    // SAFETY: the path is NUL-terminated.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
    assert_eq!(host.open("fifo", 0), negated(libc::EACCES));
}

#[test]
fn writing_needs_a_writable_donation() {
    let host = Host::new("readonly", false, Vec::new());
    for flags in [1, 2, 1 << 8, 1 << 10, 2 | 1 << 11] {
        assert_eq!(host.open("file", flags), negated(libc::EROFS), "{flags:x}");
    }
    assert_eq!(host.open("file", 3), negated(libc::EINVAL));
    assert_eq!(host.open("file", 1 << 12), negated(libc::EINVAL));

    let host = Host::new("writable", true, Vec::new());
    let handle = host.open("new", 2 | 1 << 8 | 1 << 9) as u64;
    host.put(DATA, b"written");
    let count = host.list(&[GpaRange { gpa: DATA, len: 7 }]);
    assert_eq!(host.call(FileWrite { handle, offset: 1, ranges_gpa: LIST, count }), 7);
    assert_eq!(fs::read(host.dir.join("root/new")).expect("read"), b"\0written");
    assert_eq!(host.open("new", 2 | 1 << 8 | 1 << 9), negated(libc::EEXIST));
}

/// Watches tell of what was asked for, not of what else had to be done for it; a nameless file gets a name.
#[test]
fn watches_tell_of_changes() {
    let host = Host::new("watches", true, Vec::new());
    fs::write(host.dir.join("root/words"), "some words").expect("a file");
    let events = || {
        let len = host.call(FileEvents { buf_gpa: DATA, buf_len: 4096 });
        let bytes = host.data(len as usize);
        let mut rest = &bytes[..];
        let mut masks = Vec::new();
        while let [_, _, _, _, m0, m1, m2, m3, _, _, _, _, l0, l1, l2, l3, after @ ..] = rest {
            masks.push(u32::from_ne_bytes([*m0, *m1, *m2, *m3]));
            rest = &after[u32::from_ne_bytes([*l0, *l1, *l2, *l3]) as usize..];
        }
        masks
    };
    let watch = |path: &str| {
        let path_len = host.put(PATH, path.as_bytes());
        host.call(FileWatch { root: 0, path_gpa: PATH, path_len, mask: libc::IN_ALL_EVENTS.into() })
    };
    assert_eq!(host.call(FileUnwatch { watch: 1 }), negated(libc::EINVAL));
    assert_eq!(
        (watch(""), watch("none"), watch("../root")),
        (1, negated(libc::ENOENT), negated(libc::EXDEV))
    );
    let change = |operation: u64, first: u64| {
        let lens = host.put(PATH, b"words");
        host.call(FileChange { root: 0, path_gpa: PATH, lens, operation, first, second: 0 })
    };
    assert_eq!((change(change::MODE, 0o600), change(change::SIZE, 4)), (0, 0));
    assert_eq!(events(), [libc::IN_ATTRIB, libc::IN_MODIFY]);
    let kinds = [libc::S_IFIFO, libc::S_IFCHR].map(|kind| change(change::MAKE_NODE, kind.into()));
    assert_eq!(kinds, [negated(libc::EEXIST), negated(libc::EPERM)]);
    let handle = host.open("", 2 | 1 << 11) as u64;
    let path_len = host.put(PATH, b"named");
    assert_eq!(host.call(FileLink { handle, root: 0, path_gpa: PATH, path_len }), 0);
    let operation = change::MODE;
    assert_eq!(host.call(FileSetAttr { handle, operation, first: 0o640, second: 0, third: 0, fourth: 0 }), 0);
    assert_eq!(events().last(), Some(&libc::IN_ATTRIB));
    fs::rename(host.dir.join("root/named"), host.dir.join("root/other")).expect("a rename");
    assert_eq!(events(), [libc::IN_MOVED_FROM, libc::IN_MOVED_TO]);
    assert_eq!(host.call(FileUnwatch { watch: 1 }), 0);
    assert_eq!(events(), [libc::IN_IGNORED]);
}

#[test]
fn files_are_read_by_their_paths() {
    let host = Host::new("read_at", false, Vec::new());
    fs::write(host.dir.join("root/words"), "some words").expect("a file");
    let read = |path: &str, offset: u64, len: u64| {
        let path_len = host.put(PATH, path.as_bytes());
        let count = host.list(&[GpaRange { gpa: DATA, len }]);
        host.call(FileReadAt { root: 0, path_gpa: PATH, path_len, offset, ranges_gpa: LIST, count })
    };
    assert_eq!(read("words", 0, 100), 10);
    assert_eq!(host.data(10), b"some words");
    assert_eq!(read("words", 5, 100), 5);
    // What was read to its end is closed.
    assert_eq!(host.call(FileClose { handle: 0 }), negated(libc::EBADF));
    assert_eq!(read("words", 0, 10), 10 | 1 << 32);
    assert_eq!(host.call(FileClose { handle: 0 }), 0);
    assert_eq!(read("words", 20, 10), 0);
    assert_eq!(read("sub", 0, 10), negated(libc::EISDIR));
    assert_eq!(read("none", 0, 10), negated(libc::ENOENT));
    assert_eq!(read("../root/words", 0, 10), negated(libc::EXDEV));
    assert_eq!(host.call(FileClose { handle: 0 }), negated(libc::EBADF));
}

#[test]
fn directories_are_listed() {
    let host = Host::new("list", false, Vec::new());
    let handle = host.open("", 0) as u64;
    for rewind in [0, 1] {
        let mut names = Vec::new();
        loop {
            let len = host.call(FileReadDir {
                handle,
                rewind: rewind * u64::from(names.is_empty()),
                buf_gpa: DATA,
                buf_len: 512,
            });
            assert!(len >= 0, "{len}");
            if len == 0 {
                break;
            }
            let bytes = host.data(len as usize);
            let mut rest = &bytes[..];
            while let Ok((head, after)) = DirEntryHead::read_from_prefix(rest) {
                names.push(String::from_utf8_lossy(&after[..head.name_len as usize]).into_owned());
                rest = &rest[(size_of::<DirEntryHead>() + head.name_len as usize).next_multiple_of(8)..];
            }
        }
        names.sort();
        assert_eq!(names, ["file", "in", "out", "sub"]);
    }
    let path_len = host.put(PATH, b"");
    let list = |buf_len| host.call(FileListAt { root: 0, path_gpa: PATH, path_len, buf_gpa: DATA, buf_len });
    assert_eq!(list(4096), 4 * 24);
    assert_eq!(list(511), negated(libc::EINVAL));
    let path_len = host.put(PATH, b"file");
    let call = FileListAt { root: 0, path_gpa: PATH, path_len, buf_gpa: DATA, buf_len: 512 };
    assert_eq!(host.call(call), negated(libc::ENOTDIR));
    for index in 0..40 {
        fs::write(host.dir.join(format!("root/sub/{index}")), "").expect("a file");
    }
    let path_len = host.put(PATH, b"sub");
    let call = FileListAt { root: 0, path_gpa: PATH, path_len, buf_gpa: DATA, buf_len: 512 };
    assert_eq!(host.call(call), negated(libc::E2BIG));
    assert_eq!(
        host.call(FileReadDir { handle, rewind: 0, buf_gpa: DATA, buf_len: 511 }),
        negated(libc::EINVAL)
    );
}

#[test]
fn bad_ranges_are_refused() {
    let host = Host::new("ranges", false, Vec::new());
    let handle = host.open("file", 0) as u64;
    for (range, errno) in [
        (GpaRange { gpa: MEMORY, len: 1 }, libc::EFAULT),
        (GpaRange { gpa: MEMORY - 1, len: 2 }, libc::EFAULT),
        (GpaRange { gpa: u64::MAX, len: 2 }, libc::EFAULT),
        (GpaRange { gpa: 0, len: u64::MAX }, libc::EINVAL),
    ] {
        let count = host.list(&[range]);
        assert_eq!(
            host.call(FileRead { handle, offset: 0, ranges_gpa: LIST, count }),
            negated(errno),
            "{range:?}"
        );
    }
    let read = |count, offset| host.call(FileRead { handle, offset, ranges_gpa: LIST, count });
    assert_eq!(read(MAX_RANGES + 1, 0), negated(libc::EINVAL));
    assert_eq!(read(1, u64::MAX), negated(libc::EINVAL));
    assert_eq!(host.call(Random { gpa: DATA, len: 4097 }), negated(libc::EINVAL));
    assert_eq!(host.call(MemGrow { len: 2 << 20, zone: 2 }), negated(libc::EINVAL));
    assert_eq!(host.call(LogWrite { level: 0, gpa: DATA, len: 4097 }), negated(libc::EINVAL));
}

#[test]
fn a_pipe_never_makes_the_caller_wait() {
    let (reader, mut writer) = std::io::pipe().expect("pipe");
    let (mut other, sink) = std::io::pipe().expect("pipe");
    let stream = |fd: OwnedFd, readable| Stream {
        fd,
        kind: StreamKind::Pipe,
        readable,
        writable: !readable,
        nonblocking: false,
    };
    let host = Host::new("pipe", false, vec![stream(reader.into(), true), stream(sink.into(), false)]);
    let seen = Arc::new(Seen(AtomicU64::new(0)));
    host.services.set_events(Arc::clone(&seen) as Arc<dyn Events>);

    let read = |len| host.call(StreamRead { stream: 0, gpa: DATA, len });
    assert_eq!(read(10), negated(libc::EAGAIN));
    assert_eq!(host.call(StreamPoll { stream: 0, events: libc::POLLIN as u64 }), 0);
    writer.write_all(b"abc").expect("write");
    let begin = std::time::Instant::now();
    while seen.0.load(Ordering::SeqCst) & abi::boot::EVENT_STREAM == 0 {
        assert!(begin.elapsed().as_secs() < 5, "no event");
        std::thread::yield_now();
    }
    assert_eq!(read(10), 3);
    assert_eq!(host.data(3), b"abc");
    drop(writer);
    assert_eq!(read(10), 0);
    assert_eq!(host.call(StreamWrite { stream: 0, gpa: DATA, len: 1 }), negated(libc::EBADF));

    let write = || host.call(StreamWrite { stream: 1, gpa: DATA, len: 1 << 20 });
    let first = write();
    assert!(first > 0 && first < 1 << 20, "{first}");
    assert_eq!(write(), negated(libc::EAGAIN));
    let mut taken = vec![0; first as usize];
    other.read_exact(&mut taken).expect("read");
    assert!(write() > 0);
    drop(other);
    assert_eq!(write(), negated(libc::EPIPE));
}

#[test]
fn unknown_calls_and_wild_arguments_do_no_harm() {
    let host = Host::new("wild", true, Vec::new());
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let interesting =
        [0, 1, 2, 511, 4096, PATH, DATA, MEMORY - 1, MEMORY, 1 << 30, u64::MAX, u64::MAX - 4095];
    for round in 0..20_000u64 {
        let nr = round % 64;
        let mut args = [0; 6];
        for arg in &mut args {
            *arg = if next() & 3 == 0 { next() } else { interesting[next() as usize % interesting.len()] };
        }
        // Growing memory is bounded by the limit, but takes time.
        if nr == MemGrow::NR {
            continue;
        }
        let _ = host.services.serve(&HostCallBlock { nr, args, ret: 0 });
    }
    assert_eq!(
        host.services.serve(&HostCallBlock { nr: 9999, ..Default::default() }),
        Served::Return(negated(libc::ENOSYS))
    );
}
