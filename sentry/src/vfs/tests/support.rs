//! What the tests share.

use crate::errno::Result;
use crate::fs::memfs::{MemFs, Options};
use crate::kernel::cred::Cred;
use crate::vfs::file::DirSink;
use crate::vfs::inode::Create;
use crate::vfs::open::{OpenHow, open};
use crate::vfs::{Ctx, FsState, Mount, MountNs, OpenFile, Path, namei};
use linux_raw_sys::general as c;
use std::sync::Arc;

/// An empty tmpfs as the root of a namespace.
pub fn memory() -> Arc<FsState> {
    let options = Options { size: 64 << 20, inodes: 100_000, mode: 0o755, uid: 0, gid: 0 };
    let sb = MemFs::tmpfs(&options, "tmpfs").expect("tmpfs");
    let root = sb.root.clone();
    let state = FsState::new(MountNs::new(Mount::new(sb, root, b"tmpfs", 0)));
    state.set_umask(0o022);
    state
}

/// The superuser in a state.
pub fn superuser(fs: &Arc<FsState>) -> Ctx {
    Ctx::new(Arc::new(Cred::root()), fs.clone())
}

/// An ordinary user.
pub fn user(fs: &Arc<FsState>, id: u32) -> Ctx {
    let cred = Cred {
        uid: id,
        euid: id,
        suid: id,
        fsuid: id,
        gid: id,
        egid: id,
        sgid: id,
        fsgid: id,
        effective: 0,
        permitted: 0,
        ..Cred::root()
    };
    Ctx::new(Arc::new(cred), fs.clone())
}

/// Opens a path.
pub fn open_path(ctx: &Ctx, path: &str, flags: u32, mode: u32) -> Result<Arc<OpenFile>> {
    open(ctx, ctx.fs.cwd(), path.as_bytes(), &OpenHow::lenient(flags, mode)?)
}

/// Writes a whole file.
pub fn write_file(ctx: &Ctx, path: &str, data: &[u8]) {
    let file = open_path(ctx, path, c::O_CREAT | c::O_TRUNC | c::O_WRONLY, 0o644).expect(path);
    let mut source = crate::mm::io::SliceSource::new(data);
    assert_eq!(file.ops().write(&file, &mut source, 0), Ok(data.len()));
}

/// Reads a whole file.
pub fn read_file(ctx: &Ctx, path: &str) -> Result<Vec<u8>> {
    let file = open_path(ctx, path, c::O_RDONLY, 0)?;
    let mut out = Vec::new();
    let mut buf = [0; 5000];
    loop {
        let n = file.read_at(out.len() as u64, &mut buf)?;
        if n == 0 {
            return Ok(out);
        }
        out.extend_from_slice(&buf[..n]);
    }
}

/// mkdir.
pub fn mkdir(ctx: &Ctx, path: &str) -> Result<Path> {
    namei::make(ctx, ctx.fs.cwd(), path.as_bytes(), Create::Dir, 0o755)
}

/// symlink.
pub fn symlink(ctx: &Ctx, target: &str, path: &str) -> Result<Path> {
    namei::make(ctx, ctx.fs.cwd(), path.as_bytes(), Create::Symlink(target.as_bytes()), 0o777)
}

/// unlink.
pub fn unlink(ctx: &Ctx, path: &str) -> Result<()> {
    namei::remove(ctx, ctx.fs.cwd(), path.as_bytes(), false)
}

/// rmdir.
pub fn rmdir(ctx: &Ctx, path: &str) -> Result<()> {
    namei::remove(ctx, ctx.fs.cwd(), path.as_bytes(), true)
}

/// rename.
pub fn rename(ctx: &Ctx, from: &str, to: &str, flags: u32) -> Result<()> {
    namei::rename(ctx, (ctx.fs.cwd(), from.as_bytes()), (ctx.fs.cwd(), to.as_bytes()), flags)
}

/// link.
pub fn link(ctx: &Ctx, from: &str, to: &str) -> Result<()> {
    let target = ctx.resolve(ctx.fs.cwd(), from.as_bytes(), false)?;
    namei::link(ctx, &target, ctx.fs.cwd(), to.as_bytes())
}

/// Names with their positions.
#[derive(Default)]
pub struct Names(pub Vec<(String, u64)>, pub usize);

impl DirSink for Names {
    fn entry(&mut self, name: &[u8], _ino: u64, _kind: u8, next: u64) -> bool {
        if self.1 != 0 && self.0.len() >= self.1 {
            return false;
        }
        self.0.push((String::from_utf8_lossy(name).into_owned(), next));
        true
    }
}

/// Sorted names of a directory, without `.` and `..`.
pub fn list(ctx: &Ctx, path: &str) -> Result<Vec<String>> {
    let dir = open_path(ctx, path, c::O_RDONLY | c::O_DIRECTORY, 0)?;
    let mut names = Names::default();
    dir.ops().readdir(&dir, 0, &mut names)?;
    let mut names: Vec<String> = names.0.into_iter().map(|n| n.0).filter(|n| n != "." && n != "..").collect();
    names.sort();
    Ok(names)
}

/// Random numbers that are the same in each run (xorshift).
pub struct Rng(pub u64);

impl Rng {
    /// Below a bound.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// A temporary directory, removed when it is dropped.
pub struct TempDir(pub std::path::PathBuf);

impl TempDir {
    /// A new one.
    pub fn new() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("sentry-vfs-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).expect("temporary directory");
        Self(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
