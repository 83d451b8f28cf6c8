//! Contents of files against a simple model.

use super::support::*;
use crate::errno::Errno;
use crate::fs::hostfs::HostLower;
use crate::fs::memfs::{MemFs, Options};
use crate::host::mock;
use crate::mm::io::SliceSource;
use crate::vfs::{Ctx, FsState, Mount, MountNs, OpenFile};
use linux_raw_sys::general as c;
use std::sync::Arc;

fn check(file: &Arc<OpenFile>, model: &[u8], what: &str) {
    assert_eq!(file.ops().size(), model.len() as u64, "{what}");
    let mut buf = vec![0xaa; model.len() + 10];
    let mut done = 0;
    while done < model.len() {
        match file.read_at(done as u64, &mut buf[done..]) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) => panic!("{what}: {}", e.name()),
        }
    }
    assert_eq!(done, model.len(), "{what}");
    if let Some(at) = (0..model.len()).find(|i| buf[*i] != model[*i]) {
        panic!("{what}: byte {at} is {} and not {}", buf[at], model[at]);
    }
}

fn exercise(file: &Arc<OpenFile>, mut model: Vec<u8>, seed: u64) {
    let mut rng = Rng(seed * 77_777 + 3);
    for n in 0..300 {
        let at = rng.below(60_000) as usize;
        let most = if rng.below(4) == 0 { 20_000 } else { 300 };
        let len = 1 + rng.below(most) as usize;
        let what = format!("seed {seed} step {n}");
        match rng.below(8) {
            0..=2 => {
                let data: Vec<u8> = (0..len).map(|_| rng.below(255) as u8).collect();
                assert_eq!(
                    file.ops().write(file, &mut SliceSource::new(&data), at as u64),
                    Ok(len),
                    "{what}"
                );
                if model.len() < at + len {
                    model.resize(at + len, 0);
                }
                model[at..at + len].copy_from_slice(&data);
            }
            3 => {
                file.ops().truncate(file, at as u64).expect("truncate");
                model.resize(at, 0);
            }
            4 => {
                let mode = c::FALLOC_FL_PUNCH_HOLE | c::FALLOC_FL_KEEP_SIZE;
                file.ops().fallocate(file, mode, at as u64, len as u64).expect("punch");
                let end = (at + len).min(model.len());
                if at < end {
                    model[at..end].fill(0);
                }
            }
            5 => {
                let mode = c::FALLOC_FL_ZERO_RANGE;
                file.ops().fallocate(file, mode, at as u64, len as u64).expect("zero");
                if model.len() < at + len {
                    model.resize(at + len, 0);
                }
                model[at..at + len].fill(0);
            }
            6 => {
                file.ops().fallocate(file, 0, at as u64, len as u64).expect("allocate");
                if model.len() < at + len {
                    model.resize(at + len, 0);
                }
            }
            _ => {
                let data = [7u8; 33];
                let (done, end) = file.ops().append(file, &mut SliceSource::new(&data)).expect("append");
                model.extend_from_slice(&data);
                assert_eq!((done, end), (33, model.len() as u64), "{what}");
            }
        }
        if n % 10 == 0 {
            check(file, &model, &what);
        }
    }
    check(file, &model, "end");
}

#[test]
fn memory_files_hold_what_is_written() {
    for seed in 1..=20 {
        let fs = memory();
        let ctx = superuser(&fs);
        let file = open_path(&ctx, "/f", c::O_CREAT | c::O_RDWR, 0o600).expect("create");
        exercise(&file, Vec::new(), seed);
    }
}

fn overlay(dir: &TempDir) -> (Arc<FsState>, Ctx) {
    let root = mock::donate(dir.0.clone());
    let sb = MemFs::overlay(&Options::default(), Arc::new(HostLower::new(root))).expect("overlay");
    let top = sb.root.clone();
    let fs = FsState::new(MountNs::new(Mount::new(sb, top, b"overlay", 0)));
    let ctx = superuser(&fs);
    (fs, ctx)
}

#[test]
fn lower_files_show_until_they_are_written() {
    for seed in 1..=20 {
        let dir = TempDir::new();
        let content: Vec<u8> = (0..50_000u32).map(|i| (i * 31 / 7) as u8).collect();
        std::fs::write(dir.0.join("f"), &content).expect("write");
        let (_fs, ctx) = overlay(&dir);
        let file = open_path(&ctx, "/f", c::O_RDWR, 0).expect("open");
        exercise(&file, content.clone(), seed);
        assert_eq!(std::fs::read(dir.0.join("f")).expect("read"), content, "the lower file never changes");
    }
}

#[test]
fn clean_pages_can_be_given_back() {
    let dir = TempDir::new();
    let content: Vec<u8> = (0..400_000u32).map(|i| (i / 3) as u8).collect();
    std::fs::write(dir.0.join("f"), &content).expect("write");
    let (fs, ctx) = overlay(&dir);
    assert_eq!(read_file(&ctx, "/f").expect("read"), content);
    let file = open_path(&ctx, "/f", c::O_RDWR, 0).expect("open");
    file.ops().write(&file, &mut SliceSource::new(b"changed"), 4096).expect("write");
    let given = fs.root().mnt.sb.fs.shrink();
    assert_eq!(given, 400_000usize.div_ceil(4096) - 1);
    let mut expected = content;
    expected[4096..4103].copy_from_slice(b"changed");
    assert_eq!(read_file(&ctx, "/f").expect("read"), expected);
}

#[test]
fn space_has_an_end() {
    let options = Options { size: 10 * 4096, inodes: 5, ..Options::default() };
    let sb = MemFs::tmpfs(&options, "tmpfs").expect("tmpfs");
    let root = sb.root.clone();
    let fs = FsState::new(MountNs::new(Mount::new(sb, root, b"tmpfs", 0)));
    let ctx = superuser(&fs);
    let file = open_path(&ctx, "/f", c::O_CREAT | c::O_RDWR, 0o600).expect("create");
    let data = vec![1u8; 20 * 4096];
    assert_eq!(file.ops().write(&file, &mut SliceSource::new(&data), 0), Ok(10 * 4096));
    assert_eq!(file.ops().write(&file, &mut SliceSource::new(&data), 10 * 4096), Err(Errno::ENOSPC));
    file.ops().truncate(&file, 4096).expect("truncate");
    assert_eq!(file.ops().write(&file, &mut SliceSource::new(&data), 4096), Ok(9 * 4096));
    drop(file);
    unlink(&ctx, "/f").expect("unlink");
    assert_eq!(fs.root().mnt.sb.fs.statfs().free, 10, "pages go with the last reference");
    for n in 0..4 {
        mkdir(&ctx, &format!("/d{n}")).expect("mkdir");
    }
    assert_eq!(mkdir(&ctx, "/more").map(drop), Err(Errno::ENOSPC));
    rmdir(&ctx, "/d0").expect("rmdir");
    mkdir(&ctx, "/more").expect("mkdir");
}

#[test]
fn holes_are_found() {
    let fs = memory();
    let ctx = superuser(&fs);
    let file = open_path(&ctx, "/f", c::O_CREAT | c::O_RDWR, 0o600).expect("create");
    file.ops().truncate(&file, 100_000).expect("truncate");
    file.ops().write(&file, &mut SliceSource::new(&[1; 100]), 40_960).expect("write");
    assert_eq!(file.ops().seek_data(0, false), Ok(40_960));
    assert_eq!(file.ops().seek_data(0, true), Ok(0));
    assert_eq!(file.ops().seek_data(40_961, false), Ok(40_961));
    assert_eq!(file.ops().seek_data(40_961, true), Ok(45_056));
    assert_eq!(file.ops().seek_data(50_000, false), Err(Errno::ENXIO));
    assert_eq!(file.ops().seek_data(100_000, true), Err(Errno::ENXIO));
    assert_eq!(file.path.inode().stat().expect("stat").blocks, 8);
}
