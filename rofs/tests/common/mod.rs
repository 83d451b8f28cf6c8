//! What the tests of images share: trees of every kind of file, and comparisons of images with directories.
#![allow(dead_code)]

use rofs::build::{Options, Summary, build_to};
use rofs::input::add_directory;
use rofs::progress::Silent;
use rofs::tree::{Layers, Tree};
use rofs::{Extent, FileKind, Image, Inode, Nid, Verify};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

/// Runs a command that must succeed, and gives its output.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}; scripts/setup installs it"));
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

/// The tree of a directory.
pub fn tree_of(dir: &Path) -> Tree {
    let mut layers = Layers::new();
    add_directory(&mut layers, dir, &|_| false, &Silent).expect("a tree of the directory");
    layers.into_tree()
}

/// Builds an image of a directory.
pub fn image_of(dir: &Path, image: &Path) -> Summary {
    build_to(&tree_of(dir), image, &Options::default(), &Silent).expect("an image")
}

/// Opens an image.
pub fn open(path: &Path) -> Image<File> {
    Image::open(File::open(path).expect("the image"), Verify::Checksum).expect("a correct image")
}

pub fn set_time(path: &Path, seconds: i64, nanos: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("a time");
}

pub fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).expect("an extended attribute");
}

pub fn is_root() -> bool {
    fs::metadata("/proc/self").expect("this process").uid() == 0
}

/// Bytes that do not repeat.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

/// What a sample tree has.
#[derive(Clone, Copy)]
pub struct Sample {
    /// The longest name. mkfs.erofs 1.5 fails on 255 bytes.
    pub longest: usize,
    /// Files with holes, one of more than 4 GiB. fsck.erofs 1.5 does not extract holes.
    pub holes: bool,
    /// Owners above 65,535, which short inodes do not have.
    pub wide: bool,
}

pub const ALL: Sample = Sample { longest: 255, holes: true, wide: true };

/// Makes a tree with every kind of file and the edges of names, sizes and attributes.
pub fn sample(dir: &Path, what: Sample) {
    let at = |name: &[u8]| dir.join(OsStr::from_bytes(name));
    for size in [0usize, 1, 1023, 1024, 1025, 2048, 4032, 4095, 4096, 4097, 8191, 8192, 8193, 300_000] {
        fs::write(at(format!("size-{size}").as_bytes()), noise(size, size as u64)).unwrap();
    }
    let long = vec![b'n'; what.longest];
    for name in
        [&b"new\nline"[..], b"\xff\xfe\x80", b" ", b"!", b"-", b"...", b".hidden", "ünï".as_bytes(), &long]
    {
        fs::write(at(name), name).unwrap();
    }
    let deep = at(b"deep/a/b/c/d/e/f/g");
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("leaf"), "leaf").unwrap();
    fs::create_dir(at(b"empty")).unwrap();
    // Several blocks of entries, and one whose last block is nearly full.
    for (name, count) in [("many", 700), ("few", 160)] {
        fs::create_dir(at(name.as_bytes())).unwrap();
        for number in 0..count {
            File::create(at(name.as_bytes()).join(format!("entry-{number:06}"))).unwrap();
        }
    }
    fs::hard_link(at(b"size-4097"), at(b"empty").join("..").join("hard")).unwrap();
    fs::hard_link(at(b"size-4097"), at(b"deep/hard")).unwrap();
    fs::copy(at(b"size-300000"), at(b"deep/copy")).unwrap();
    std::os::unix::fs::symlink("size-1", at(b"link")).unwrap();
    std::os::unix::fs::symlink("/", at(b"link-root")).unwrap();
    std::os::unix::fs::symlink("x".repeat(4000), at(b"link-long")).unwrap();
    std::os::unix::fs::symlink(OsStr::from_bytes(b"\xff\n"), at(b"link-bytes")).unwrap();
    rustix::fs::mknodat(CWD, at(b"fifo"), FileType::Fifo, Mode::from(0o640), 0).unwrap();
    drop(std::os::unix::net::UnixListener::bind(at(b"socket")).unwrap());
    if what.holes {
        fs::write(at(b"zeros"), vec![0; 100_000]).unwrap();
        let file = File::create(at(b"holes")).unwrap();
        file.write_all_at(&noise(5000, 1), 1 << 20).unwrap();
        file.write_all_at(&noise(70_000, 2), 3 << 20).unwrap();
        file.set_len((4 << 20) + 17).unwrap();
        let file = File::create(at(b"huge")).unwrap();
        file.write_all_at(&noise(9000, 3), 5 << 30).unwrap();
        file.write_all_at(b"end", (5 << 30) + (3 << 20)).unwrap();
    }
    set_xattr(&at(b"size-1"), "user.one", b"1");
    set_xattr(&at(b"size-1"), "user.empty", b"");
    set_xattr(&at(b"size-1"), "user.newline", b"a\nb=c\n\0d");
    set_xattr(&at(b"size-2048"), "user.long", &noise(3000, 4));
    for number in 0..20 {
        set_xattr(
            &at(format!("many/entry-{number:06}").as_bytes()),
            "user.shared",
            b"the same value everywhere",
        );
    }
    for (name, mode) in [("size-0", 0o4755), ("size-1", 0o2711), ("few", 0o1777), ("size-1024", 0)] {
        fs::set_permissions(at(name.as_bytes()), fs::Permissions::from_mode(mode)).unwrap();
    }
    if is_root() {
        let char_device = FileType::CharacterDevice;
        for (name, major, minor) in [("null", 1, 3), ("wide", 0xfff, 0xf_ffff), ("minor", 8, 0x1_2345)] {
            let device = rustix::fs::makedev(major, minor);
            rustix::fs::mknodat(CWD, at(name.as_bytes()), char_device, Mode::from(0o666), device).unwrap();
        }
        let device = rustix::fs::makedev(259, 7);
        rustix::fs::mknodat(CWD, at(b"disk"), FileType::BlockDevice, Mode::from(0o600), device).unwrap();
        set_xattr(&at(b"few"), "trusted.overlay.opaque", b"y");
        set_xattr(&at(b"link"), "trusted.on-a-link", b"yes");
        let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        set_xattr(&at(b"size-8192"), "security.capability", &capability);
        // user::rw-, user:1234:rw-, group::r--, mask::rw-, other::r--
        let acl: Vec<u8> =
            [(1u16, 6u16, u32::MAX), (2, 6, 1234), (4, 4, u32::MAX), (16, 6, u32::MAX), (32, 4, u32::MAX)]
                .iter()
                .fold(vec![2, 0, 0, 0], |mut out, (tag, perm, id)| {
                    out.extend(tag.to_le_bytes());
                    out.extend(perm.to_le_bytes());
                    out.extend(id.to_le_bytes());
                    out
                });
        set_xattr(&at(b"size-8191"), "system.posix_acl_access", &acl);
        set_xattr(&at(b"few"), "system.posix_acl_default", &acl);
        std::os::unix::fs::lchown(at(b"size-1023"), Some(1000), Some(65_535)).unwrap();
        if what.wide {
            std::os::unix::fs::lchown(at(b"size-1025"), Some(70_000), Some(4_000_000_000)).unwrap();
        }
    }
    set_time(&at(b"size-1"), 981_173_106, 789_012_345);
    set_time(&at(b"size-0"), 0, 0);
    set_time(&at(b"link"), 1_700_000_000, 1);
    set_time(&at(b"size-2048"), -1000, 5);
    set_time(&at(b"size-4095"), 5_000_000_000, 999_999_999);
}

/// What of files is compared.
#[derive(Clone, Copy)]
pub struct Compared {
    pub mtime: bool,
}

/// Compares all of an image with a directory: kinds, modes, owners, times, links, devices, attributes, data.
pub fn compare(image: &Image<File>, dir: &Path, what: Compared) {
    let root = image.inode(image.root()).unwrap();
    let mut inodes: BTreeMap<(u64, u64), Nid> = BTreeMap::new();
    let mut waiting = vec![(root, dir.to_path_buf())];
    while let Some((inode, path)) = waiting.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        compare_inode(image, &inode, &path, &meta, what);
        if !meta.is_dir() {
            let nid = inodes.entry((meta.dev(), meta.ino())).or_insert(inode.nid);
            assert_eq!(*nid, inode.nid, "{path:?}: a hard link to another inode");
            continue;
        }
        let mut names: Vec<Vec<u8>> = Vec::new();
        image
            .read_dir(&inode, 0, |name, nid, kind, _| {
                assert_eq!(image.lookup(&inode, name).unwrap(), Some((nid, kind)), "{path:?} {name:?}");
                names.push(name.to_vec());
                ControlFlow::Continue(())
            })
            .unwrap();
        names.retain(|n| !matches!(n.as_slice(), b"." | b".."));
        let mut expected: Vec<Vec<u8>> =
            fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name().as_bytes().to_vec()).collect();
        expected.sort();
        assert_eq!(names, expected, "{path:?}");
        assert_eq!(image.lookup(&inode, b"\x01no such name").unwrap(), None);
        for name in names {
            let (nid, kind) = image.lookup(&inode, &name).unwrap().unwrap();
            let child = image.inode(nid).unwrap();
            assert_eq!(child.kind, kind);
            waiting.push((child, path.join(OsStr::from_bytes(&name))));
        }
    }
}

fn compare_inode(image: &Image<File>, inode: &Inode, path: &Path, meta: &fs::Metadata, what: Compared) {
    assert_eq!(u32::from(inode.mode), meta.mode(), "{path:?}: mode");
    assert_eq!((inode.uid, inode.gid), (meta.uid(), meta.gid()), "{path:?}: owner");
    assert_eq!(u64::from(inode.nlink), meta.nlink(), "{path:?}: links");
    if what.mtime {
        let time = (inode.mtime, i64::from(inode.mtime_ns));
        assert_eq!(time, (meta.mtime(), meta.mtime_nsec()), "{path:?}: time");
    }
    assert_eq!(xattrs_of_image(image, inode), xattrs_of_file(path), "{path:?}: extended attributes");
    match inode.kind {
        FileKind::CharDevice | FileKind::BlockDevice => {
            let device = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
            assert_eq!((inode.device.major, inode.device.minor), device, "{path:?}: device");
        }
        FileKind::Symlink => {
            let mut target = vec![0; 5000];
            let len = image.read_link(inode, &mut target).unwrap();
            assert_eq!(&target[..len], fs::read_link(path).unwrap().as_os_str().as_bytes(), "{path:?}");
        }
        FileKind::Regular => {
            assert_eq!(inode.size, meta.len(), "{path:?}: size");
            compare_data(image, inode, path);
        }
        _ => {}
    }
}

/// Compares where either side has data; holes of both are equal.
fn compare_data(image: &Image<File>, inode: &Inode, path: &Path) {
    let file = File::open(path).unwrap();
    let same = |mut offset: u64, end: u64| {
        while offset < end {
            let len = (end - offset).min(1 << 20) as usize;
            let (mut ours, mut theirs) = (vec![1; len], vec![2; len]);
            assert_eq!(image.read(inode, offset, &mut ours).unwrap(), len);
            file.read_exact_at(&mut theirs, offset).unwrap();
            assert!(ours == theirs, "{path:?}: data from {offset} on");
            offset += len as u64;
        }
    };
    let mut offset = 0;
    while offset < inode.size {
        match image.map(inode, offset).unwrap() {
            Extent::Data { len, .. } => {
                same(offset, offset + len);
                offset += len;
            }
            Extent::Hole { len } => offset += len,
        }
    }
    assert_eq!(image.map(inode, inode.size).unwrap(), Extent::Hole { len: 0 });
    assert_eq!(image.read(inode, inode.size, &mut [0; 8]).unwrap(), 0);
    let mut offset = 0;
    while let Ok(start) = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(offset)) {
        let end = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(start)).unwrap();
        same(start, end);
        offset = end;
    }
}

pub fn xattrs_of_image(image: &Image<File>, inode: &Inode) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut out = BTreeMap::new();
    let mut names = Vec::new();
    image
        .list_xattrs(inode, &mut |name, len| {
            names.push((name.to_vec(), len));
            ControlFlow::Continue(())
        })
        .unwrap();
    for (name, len) in names {
        let mut value = Vec::new();
        let found = image.xattr(inode, &name, &mut |piece| value.extend_from_slice(piece)).unwrap();
        assert_eq!(found, Some(len));
        assert_eq!(value.len(), len);
        out.insert(name, value);
    }
    assert_eq!(image.xattr(inode, b"user.not-there", &mut |_| {}).unwrap(), None);
    out
}

fn xattrs_of_file(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0u8; 1 << 16];
    let len = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    names[..len]
        .split(|b| *b == 0)
        .filter(|n| !n.is_empty())
        .map(|name| {
            let mut value = vec![0u8; 1 << 16];
            let len = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            value.truncate(len);
            (name.to_vec(), value)
        })
        .collect()
}
