//! A stand-in for the VMM in unit tests: host calls on a temporary directory, through the standard library.

use crate::mm::frames::arena;
use abi::hostcall::*;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Mutex;
use zerocopy::{FromBytes, IntoBytes};

enum Open {
    File(fs::File),
    Dir(PathBuf, Option<Vec<(String, u64, u32)>>),
}

#[derive(Default)]
struct Vmm {
    roots: Vec<PathBuf>,
    open: HashMap<u64, Open>,
    next: u64,
    calls: u64,
    stream_in: HashMap<u64, Vec<u8>>,
    stream_out: HashMap<u64, Vec<u8>>,
    stream_closes: HashMap<u64, u32>,
}

static VMM: Mutex<Option<Vmm>> = Mutex::new(None);

fn with<T>(f: impl FnOnce(&mut Vmm) -> T) -> T {
    let mut vmm = VMM.lock().unwrap_or_else(|e| e.into_inner());
    f(vmm.get_or_insert_with(Vmm::default))
}

/// Donates a directory; returns its index.
pub fn donate(path: PathBuf) -> u32 {
    with(|v| {
        v.roots.push(path);
        (v.roots.len() - 1) as u32
    })
}

/// Host calls so far.
pub fn calls() -> u64 {
    with(|v| v.calls)
}

/// Gives a stream input.
pub fn feed(stream: u64, bytes: &[u8]) {
    with(|v| v.stream_in.entry(stream).or_default().extend_from_slice(bytes));
}

/// What was written to a stream.
pub fn written(stream: u64) -> Vec<u8> {
    with(|v| v.stream_out.entry(stream).or_default().clone())
}

/// How often a stream was closed.
pub fn closes(stream: u64) -> u32 {
    with(|v| v.stream_closes.get(&stream).copied().unwrap_or(0))
}

fn get(gpa: u64, len: u64) -> Vec<u8> {
    arena::read(gpa, len as usize)
}

fn put(gpa: u64, data: &[u8]) {
    arena::write(gpa, data);
}

fn errno(e: &std::io::Error) -> i64 {
    -i64::from(e.raw_os_error().unwrap_or(5))
}

fn file_stat(m: &fs::Metadata) -> FileStat {
    FileStat {
        ino: m.ino(),
        dev: m.dev(),
        mode: m.mode(),
        nlink: m.nlink() as u32,
        uid: m.uid(),
        gid: m.gid(),
        rdev: m.rdev(),
        size: m.size(),
        blocks: m.blocks(),
        atime: [m.atime(), m.atime_nsec()],
        mtime: [m.mtime(), m.mtime_nsec()],
        ctime: [m.ctime(), m.ctime_nsec()],
    }
}

impl Vmm {
    fn path(&self, root: u64, gpa: u64, len: u64) -> Result<PathBuf, i64> {
        let rel = get(gpa, len);
        let root = self.roots.get(root as usize).ok_or(-9i64)?;
        Ok(if rel.is_empty() { root.clone() } else { root.join(OsStr::from_bytes(&rel)) })
    }

    fn serve(&mut self, request: Request) -> Result<i64, i64> {
        let io = |e: std::io::Error| errno(&e);
        match request {
            Request::FileStatAt(r) => {
                let path = self.path(r.root, r.path_gpa, r.path_len)?;
                put(r.stat_gpa, file_stat(&fs::symlink_metadata(path).map_err(io)?).as_bytes());
                Ok(0)
            }
            Request::FileReadlink(r) => {
                let path = self.path(r.root, r.path_gpa, r.path_len)?;
                let target = fs::read_link(path).map_err(io)?.into_os_string().into_vec();
                put(r.buf_gpa, &target);
                Ok(target.len() as i64)
            }
            Request::FileOpen(r) => {
                let path = self.path(r.root, r.path_gpa, r.path_len)?;
                let meta = fs::symlink_metadata(&path);
                let open = match &meta {
                    Ok(m) if m.is_dir() => Open::Dir(path, None),
                    Ok(m) if m.file_type().is_fifo() => return Err(-13),
                    _ => {
                        let mut options = fs::OpenOptions::new();
                        options.read(r.flags & 3 != 1).write(r.flags & 3 != 0);
                        options.create(r.flags & 0x100 != 0).truncate(r.flags & 0x400 != 0);
                        if r.flags & 0x200 != 0 {
                            options.create_new(true);
                        }
                        Open::File(options.open(path).map_err(io)?)
                    }
                };
                self.next += 1;
                self.open.insert(self.next, open);
                Ok(self.next as i64)
            }
            Request::FileClose(r) => self.open.remove(&r.handle).map(|_| 0).ok_or(-9),
            Request::FileRead(r) => {
                let Some(Open::File(file)) = self.open.get(&r.handle) else { return Err(-9) };
                let mut at = r.offset;
                for i in 0..r.count {
                    let range =
                        GpaRange::read_from_bytes(&get(r.ranges_gpa + i * 16, 16)).map_err(|_| -14i64)?;
                    let mut buf = vec![0; range.len as usize];
                    let mut got = 0;
                    while got < buf.len() {
                        match file.read_at(&mut buf[got..], at + got as u64).map_err(io)? {
                            0 => break,
                            n => got += n,
                        }
                    }
                    put(range.gpa, &buf[..got]);
                    at += got as u64;
                    if (got as u64) < range.len {
                        break;
                    }
                }
                Ok((at - r.offset) as i64)
            }
            Request::FileReadAt(r) => {
                let (root, path_gpa, path_len) = (r.root, r.path_gpa, r.path_len);
                let open = FileOpen { root, path_gpa, path_len, flags: 0, mode: 0 };
                let handle = self.serve(Request::FileOpen(open))? as u64;
                let (offset, ranges_gpa, count) = (r.offset, r.ranges_gpa, r.count);
                let done = self.serve(Request::FileRead(FileRead { handle, offset, ranges_gpa, count }))?;
                Ok(done | (handle as i64 + 1) << 32)
            }
            Request::FileListAt(_) => Err(-7),
            Request::FileWrite(r) => {
                let Some(Open::File(file)) = self.open.get(&r.handle) else { return Err(-9) };
                let mut at = r.offset;
                for i in 0..r.count {
                    let range =
                        GpaRange::read_from_bytes(&get(r.ranges_gpa + i * 16, 16)).map_err(|_| -14i64)?;
                    file.write_all_at(&get(range.gpa, range.len), at).map_err(io)?;
                    at += range.len;
                }
                Ok((at - r.offset) as i64)
            }
            Request::FileReadDir(r) => {
                let Some(Open::Dir(path, left)) = self.open.get_mut(&r.handle) else { return Err(-20) };
                if r.rewind == 1 {
                    let mut all = Vec::new();
                    for entry in fs::read_dir(&*path).map_err(io)? {
                        let entry = entry.map_err(io)?;
                        let m = entry.path().symlink_metadata().map_err(io)?;
                        let name = entry.file_name().into_string().map_err(|_| -22i64)?;
                        all.push((name, m.ino(), (m.mode() & 0o170_000) >> 12));
                    }
                    *left = Some(all);
                }
                let left = left.as_mut().ok_or(-22i64)?;
                let mut out: Vec<u8> = Vec::new();
                while let Some((name, ino, kind)) = left.last() {
                    let head = DirEntryHead { ino: *ino, kind: *kind, name_len: name.len() as u32 };
                    if out.len() + 16 + name.len() + 8 > r.buf_len as usize {
                        break;
                    }
                    out.extend_from_slice(head.as_bytes());
                    out.extend_from_slice(name.as_bytes());
                    out.resize(out.len().next_multiple_of(8), 0);
                    left.pop();
                }
                put(r.buf_gpa, &out);
                Ok(out.len() as i64)
            }
            Request::FileStatHandle(r) => {
                let Some(Open::File(file)) = self.open.get(&r.handle) else { return Err(-9) };
                put(r.stat_gpa, file_stat(&file.metadata().map_err(io)?).as_bytes());
                Ok(0)
            }
            Request::FileGetXattr(_) => Err(-61),
            Request::FileChange(_) | Request::FileTruncate(_) => Err(-30),
            Request::FileSync(_) => Ok(0),
            Request::Random(r) => {
                use std::io::Read;
                let mut buf = vec![0; r.len as usize];
                fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut buf)).map_err(io)?;
                put(r.gpa, &buf);
                Ok(0)
            }
            Request::StreamRead(r) => {
                let input = self.stream_in.entry(r.stream).or_default();
                if input.is_empty() {
                    return Err(-11);
                }
                let n = input.len().min(r.len as usize);
                put(r.gpa, &input.drain(..n).collect::<Vec<u8>>());
                Ok(n as i64)
            }
            Request::StreamWrite(r) => {
                let data = get(r.gpa, r.len);
                self.stream_out.entry(r.stream).or_default().extend_from_slice(&data);
                Ok(r.len as i64)
            }
            Request::StreamPoll(r) => {
                let readable = self.stream_in.get(&r.stream).is_some_and(|i| !i.is_empty());
                Ok(if readable { 5 } else { 4 })
            }
            Request::StreamStat(r) => {
                let stat = FileStat { mode: 0o010_600, nlink: 1, ..FileStat::default() };
                put(r.stat_gpa, stat.as_bytes());
                Ok(0)
            }
            Request::StreamClose(r) => {
                *self.stream_closes.entry(r.stream).or_default() += 1;
                Ok(0)
            }
            Request::StreamSeek(_) => Err(-29),
            Request::StreamTerminal(_) => Err(-25),
            _ => Err(-38),
        }
    }
}

/// Serves a host call.
pub fn serve(nr: u64, args: [u64; 6]) -> i64 {
    let Some(request) = Request::decode(&HostCallBlock { nr, args, ret: 0 }) else { return -38 };
    with(|v| {
        v.calls += 1;
        v.serve(request).unwrap_or_else(|e| e)
    })
}
