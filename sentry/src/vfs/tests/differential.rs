//! Random operations on names, done both here and by the host's kernel: the results must agree.

use super::support::*;
use crate::errno::{Errno, Result};
use crate::fs::hostfs::HostLower;
use crate::fs::memfs::{MemFs, Options};
use crate::host::mock;
use crate::vfs::{Ctx, FsState, Mount, MountNs};
use linux_raw_sys::general as c;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path as HostPath;
use std::sync::Arc;

fn host<T>(result: std::io::Result<T>) -> Result<T> {
    result.map_err(|e| Errno(e.raw_os_error().unwrap_or(5) as u16))
}

/// A path of one to three components, sometimes odd.
fn path(rng: &mut Rng) -> String {
    let mut out = String::new();
    for n in 0..=rng.below(3) {
        if n > 0 {
            out.push('/');
        }
        out.push_str(match rng.below(14) {
            0..=2 => "a",
            3..=5 => "b",
            6..=8 => "c",
            9 => "d",
            10 => ".",
            11 => "..",
            12 => "link",
            _ => "e",
        });
    }
    if rng.below(9) == 0 {
        out.push('/');
    }
    out
}

/// One operation; the answer in words.
fn step(ctx: &Ctx, base: &HostPath, rng: &mut Rng) -> (String, String, String) {
    let (p, q) = (path(rng), path(rng));
    // The host must not leave its directory.
    if escapes(&p) || escapes(&q) {
        return (String::new(), String::new(), String::new());
    }
    let (hp, hq) = (base.join(&p), base.join(&q));
    let show = |r: Result<String>| match r {
        Ok(text) => text,
        Err(e) => e.name().to_string(),
    };
    let done = |r: Result<()>| show(r.map(|()| "ok".to_string()));
    match rng.below(10) {
        0 | 1 => {
            let ours = mkdir(ctx, &p).map(drop);
            (format!("mkdir {p}"), done(ours), done(host(std::fs::DirBuilder::new().mode(0o755).create(hp))))
        }
        2 | 3 => {
            let ours = open_path(ctx, &p, c::O_CREAT | c::O_WRONLY, 0o644).map(drop);
            let theirs =
                std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).open(hp);
            (format!("create {p}"), done(ours), done(host(theirs.map(drop))))
        }
        4 => {
            let target = if rng.below(2) == 0 { "a" } else { "../b" };
            let theirs = host(std::os::unix::fs::symlink(target, hp));
            (format!("symlink {target} {p}"), done(symlink(ctx, target, &p).map(drop)), done(theirs))
        }
        5 => (format!("unlink {p}"), done(unlink(ctx, &p)), done(host(std::fs::remove_file(hp)))),
        6 => (format!("rmdir {p}"), done(rmdir(ctx, &p)), done(host(std::fs::remove_dir(hp)))),
        7 => {
            let ours = rename(ctx, &p, &q, 0);
            (format!("rename {p} {q}"), done(ours), done(host(std::fs::rename(hp, hq))))
        }
        8 => (format!("link {p} {q}"), done(link(ctx, &p, &q)), done(host(std::fs::hard_link(hp, hq)))),
        _ => {
            let ours = ctx
                .resolve(ctx.fs.cwd(), p.as_bytes(), true)
                .and_then(|at| at.inode().stat())
                .map(|s| format!("{:o} {}", s.mode, s.nlink));
            let theirs = host(std::fs::metadata(hp)).map(|m| format!("{:o} {}", m.mode(), m.nlink()));
            (format!("stat {p}"), show(ours), show(theirs))
        }
    }
}

fn escapes(path: &str) -> bool {
    let mut depth = 0i32;
    for part in path.split('/') {
        match part {
            ".." => depth -= 1,
            "." | "" => {}
            // A link may lead one up.
            "link" => depth += 0,
            _ => depth += 1,
        }
        if depth < 0 {
            return true;
        }
    }
    false
}

/// All names below a directory with their types.
fn ours(ctx: &Ctx, path: &str, out: &mut Vec<String>) {
    for name in list(ctx, path).expect("list") {
        let full = format!("{path}/{name}");
        let at = ctx.resolve(ctx.fs.cwd(), full.as_bytes(), false).expect("entry");
        let stat = at.inode().stat().expect("stat");
        out.push(format!("{full} {:o} {}", stat.mode & 0o170_000, stat.nlink));
        if at.dentry.is_dir() {
            ours(ctx, &full, out);
        }
    }
}

fn theirs(base: &HostPath, path: &str, out: &mut Vec<String>) {
    let mut names: Vec<String> = std::fs::read_dir(base.join(path))
        .expect("list")
        .map(|e| e.expect("entry").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    for name in names {
        let full = format!("{path}/{name}");
        let meta = std::fs::symlink_metadata(base.join(&full)).expect("stat");
        out.push(format!("{full} {:o} {}", meta.mode() & 0o170_000, meta.nlink()));
        if meta.is_dir() {
            theirs(base, &full, out);
        }
    }
}

/// Directories on some host file systems (overlay, btrfs) have one link only: these are not comparable.
fn counts_subdirectories(dir: &HostPath) -> bool {
    let probe = dir.join("probe");
    std::fs::create_dir(&probe).expect("mkdir");
    let links = std::fs::metadata(&probe).expect("stat").nlink();
    std::fs::remove_dir(&probe).expect("rmdir");
    links == 2
}

fn compare(ctx: &Ctx, base: &HostPath, seed: u64, steps: u32) {
    let mut rng = Rng(seed * 2_654_435_761 + 1);
    for n in 0..steps {
        let (what, a, b) = step(ctx, base, &mut rng);
        assert_eq!(a, b, "seed {seed} step {n}: {what}");
    }
    let (mut a, mut b) = (Vec::new(), Vec::new());
    ours(ctx, ".", &mut a);
    theirs(base, ".", &mut b);
    assert_eq!(a, b, "seed {seed}");
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}

#[test]
fn memory_agrees_with_the_host() {
    if !is_root() {
        return;
    }
    for seed in 1..=120 {
        let dir = TempDir::new();
        if !counts_subdirectories(&dir.0) {
            return;
        }
        let fs = memory();
        let ctx = superuser(&fs);
        // One level down, so that `..` stays inside.
        let base = dir.0.join("top");
        std::fs::create_dir(&base).expect("mkdir");
        fs.set_cwd(mkdir(&ctx, "/top").expect("mkdir"));
        compare(&ctx, &base, seed, 400);
    }
}

#[test]
fn overlay_agrees_with_the_host() {
    if !is_root() {
        return;
    }
    for seed in 100..=180 {
        let (lower, dir) = (TempDir::new(), TempDir::new());
        if !counts_subdirectories(&dir.0) {
            return;
        }
        // The same random tree as the lower directory and as the host's.
        let scratch = memory();
        let scratch_ctx = superuser(&scratch);
        for base in [&lower.0, &dir.0] {
            std::fs::create_dir(base.join("top")).expect("mkdir");
        }
        scratch.set_cwd(mkdir(&scratch_ctx, "/top").expect("mkdir"));
        for (n, base) in [&lower.0, &dir.0].into_iter().enumerate() {
            let fresh = memory();
            let ctx = superuser(&fresh);
            fresh.set_cwd(mkdir(&ctx, "/top").expect("mkdir"));
            let _ = n;
            compare(&ctx, &base.join("top"), seed, 150);
        }
        let root = mock::donate(lower.0.clone());
        let sb = MemFs::overlay(&Options::default(), Arc::new(HostLower::new(root))).expect("overlay");
        let top = sb.root.clone();
        let fs = FsState::new(MountNs::new(Mount::new(sb, top, b"overlay", 0)));
        let ctx = superuser(&fs);
        fs.set_cwd(ctx.lookup(b"/top").expect("top"));
        compare(&ctx, &dir.0.join("top"), seed + 1000, 300);
    }
}
