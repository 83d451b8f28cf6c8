//! Random trees come back as they were; random damage ends in an error, never in a panic or a loop.

mod common;
#[path = "../../fuzz/image_reader.rs"]
mod image_reader;

use image_reader::exercise;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use rofs::build::{Options, build};
use rofs::progress::Silent;
use rofs::tree::{Content, Kind, Meta, Node, NodeId, Tree};
use rofs::{FileKind, Image, Inode, Verify};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;

/// How many cases are tried: times `ROFS_CASES`, for a long run.
fn cases(usual: u32) -> u32 {
    let times = std::env::var("ROFS_CASES").ok().and_then(|t| t.parse().ok()).unwrap_or(1);
    usual.saturating_mul(times)
}

/// A file of a random tree.
#[derive(Clone, Debug)]
enum Random {
    Directory(BTreeMap<Vec<u8>, (Meta, Random)>),
    Regular(Vec<u8>),
    Symlink(Vec<u8>),
    Device(u32, u32),
    Fifo,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_filter("a byte of a name", |b| !matches!(b, 0 | b'/'));
    let short = vec(byte.clone(), 1..12);
    let long = vec(byte, 200..=255);
    prop_oneof![9 => short, 1 => long].prop_filter("not a name", |n| !matches!(n.as_slice(), b"." | b".."))
}

fn data() -> impl Strategy<Value = Vec<u8>> {
    let bytes = (0usize..9000, any::<u64>()).prop_map(|(len, seed)| common::noise(len, seed));
    // Data and zeros in turns, some long enough to be holes.
    let sparse = vec((0usize..5000, 0usize..60_000), 0..4).prop_map(|parts| {
        parts.into_iter().fold(Vec::new(), |mut out, (data, zeros)| {
            out.extend(common::noise(data, zeros as u64));
            out.resize(out.len() + zeros, 0);
            out
        })
    });
    prop_oneof![3 => bytes, 1 => sparse]
}

fn meta() -> impl Strategy<Value = Meta> {
    let owner = prop_oneof![Just(0), 0u32..70_000, any::<u32>()];
    let xattr =
        prop_oneof![Just(b"user.a".to_vec()), Just(b"trusted.b".to_vec()), Just(b"security.c".to_vec())];
    let value = prop_oneof![Just(vec![1, 2, 3]), vec(any::<u8>(), 0..900)];
    let time = prop_oneof![Just((0, 0)), (any::<i64>(), 0u32..1_000_000_000)];
    (0u16..0o10000, owner.clone(), owner, time, btree_map(xattr, value, 0..3)).prop_map(
        |(mode, uid, gid, (mtime, mtime_ns), xattrs)| Meta { mode, uid, gid, mtime, mtime_ns, xattrs },
    )
}

fn tree() -> impl Strategy<Value = Random> {
    let leaf = prop_oneof![
        4 => data().prop_map(Random::Regular),
        1 => vec(1u8..=255, 1..300).prop_map(Random::Symlink),
        1 => (0u32..4096, 0u32..0x10_0000).prop_map(|(major, minor)| Random::Device(major, minor)),
        1 => Just(Random::Fifo),
    ];
    leaf.prop_recursive(4, 60, 20, |inner| {
        btree_map(name(), (meta(), inner), 0..20).prop_map(Random::Directory)
    })
}

fn root() -> impl Strategy<Value = Random> {
    btree_map(name(), (meta(), tree()), 0..20).prop_map(Random::Directory)
}

fn add(tree: &mut Tree, dir: NodeId, files: &BTreeMap<Vec<u8>, (Meta, Random)>) {
    for (name, (meta, file)) in files {
        let kind = match file {
            Random::Directory(_) => Kind::Directory(BTreeMap::new()),
            Random::Regular(data) => Kind::Regular(Content::from_bytes(data.clone())),
            Random::Symlink(target) => Kind::Symlink(target.clone()),
            Random::Device(major, minor) => Kind::BlockDevice { major: *major, minor: *minor },
            Random::Fifo => Kind::Fifo,
        };
        let id = tree.add(Node { meta: meta.clone(), kind });
        tree.link(dir, name, id).unwrap();
        if let Random::Directory(inner) = file {
            add(tree, id, inner);
        }
    }
}

fn image(files: &Random, block_bits: u8) -> Vec<u8> {
    let mut tree = Tree::new(Meta { mode: 0o755, ..Meta::default() });
    if let Random::Directory(files) = files {
        add(&mut tree, Tree::ROOT, files);
    }
    let file = tempfile::tempfile().unwrap();
    let summary = build(&tree, &file, &Options { block_bits, ..Options::default() }, &Silent).unwrap();
    let mut bytes = vec![0; summary.bytes as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn check(image: &Image<&[u8]>, dir: &Inode, files: &BTreeMap<Vec<u8>, (Meta, Random)>) {
    let mut count = 0;
    image
        .read_dir(dir, 0, |_, _, _, _| {
            count += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(count, files.len() + 2);
    for (name, (meta, file)) in files {
        let (nid, kind) = image.lookup(dir, name).unwrap().expect("the name is found");
        let inode = image.inode(nid).unwrap();
        assert_eq!(inode.kind, kind);
        let mode = inode.mode & 0o7777;
        assert_eq!((mode, inode.uid, inode.gid), (meta.mode, meta.uid, meta.gid));
        assert_eq!((inode.mtime, inode.mtime_ns), (meta.mtime, meta.mtime_ns));
        for (name, value) in &meta.xattrs {
            let mut found = Vec::new();
            image
                .xattr(&inode, name, &mut |piece| found.extend_from_slice(piece))
                .unwrap()
                .expect("an attribute");
            assert_eq!(found, *value);
        }
        match file {
            Random::Directory(inner) => check(image, &inode, inner),
            Random::Regular(data) => {
                let mut found = vec![1; data.len() + 10];
                assert_eq!(image.read(&inode, 0, &mut found).unwrap(), data.len());
                assert!(found[..data.len()] == data[..]);
            }
            Random::Symlink(target) => {
                let mut found = [0; 400];
                let len = image.read_link(&inode, &mut found).unwrap();
                assert_eq!(&found[..len], target.as_slice());
            }
            Random::Device(major, minor) => {
                assert_eq!((inode.device.major, inode.device.minor), (*major, *minor));
                assert_eq!(kind, FileKind::BlockDevice);
            }
            Random::Fifo => assert_eq!(kind, FileKind::Fifo),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(128), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_trees_come_back(files in root(), block_bits in prop_oneof![4 => Just(12u8), 1 => 9u8..=16]) {
        let bytes = image(&files, block_bits);
        let image = Image::open(bytes.as_slice(), Verify::Checksum).unwrap();
        prop_assert_eq!(rofs::verify::verify(&image, &Silent).problems, []);
        let root = image.inode(image.root()).unwrap();
        if let Random::Directory(files) = &files {
            check(&image, &root, files);
        }
    }
}

/// A small image with every layout.
fn small() -> Vec<u8> {
    let file = |data: Vec<u8>| (Meta { mtime: 5, ..Meta::default() }, Random::Regular(data));
    let mut sparse = vec![7; 100];
    sparse.resize(50_000, 0);
    sparse.push(1);
    let xattrs =
        BTreeMap::from([(b"user.one".to_vec(), vec![b'x'; 40]), (b"user.two".to_vec(), vec![b'y'; 600])]);
    let with = Meta { xattrs, ..Meta::default() };
    let mut files = BTreeMap::from([
        (b"inline".to_vec(), file(vec![1; 500])),
        (b"plain".to_vec(), file(vec![2; 5000])),
        (b"sparse".to_vec(), file(sparse)),
        (b"link".to_vec(), (Meta::default(), Random::Symlink(b"inline".to_vec()))),
        (b"one".to_vec(), (with.clone(), Random::Fifo)),
        (b"two".to_vec(), (with, Random::Device(1, 2))),
    ]);
    let many = (0..250u32).map(|n| (format!("name-{n}").into_bytes(), (Meta::default(), Random::Fifo)));
    files.insert(b"dir".to_vec(), (Meta::default(), Random::Directory(many.collect())));
    image(&Random::Directory(files), 12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(1000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damage_is_survived(
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        metadata in any::<bool>(),
        cut in prop_oneof![3 => Just(None), 1 => any::<prop::sample::Index>().prop_map(Some)],
    ) {
        thread_local!(static IMAGE: Vec<u8> = small());
        let mut bytes = IMAGE.with(Clone::clone);
        // Most of an image is data, whose damage nobody notices.
        let end = if metadata { 4096 } else { bytes.len() };
        for (at, value) in flips {
            let at = at.index(end);
            bytes[at] ^= value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        exercise(&bytes);
    }
}

/// Every byte of the superblock and the first inodes, with the values that break counts.
#[test]
fn each_byte_of_the_first_inodes_is_doubted() {
    let image = small();
    let mut image = image;
    for at in 1024..1024 + 128 + 600 {
        let before = image[at];
        for value in [0, 0xff, before ^ 1, before ^ 0x80] {
            image[at] = value;
            if let Ok(image) = Image::open(image.as_slice(), Verify::No) {
                let _ = rofs::verify::verify(&image, &Silent);
            }
        }
        image[at] = before;
    }
}

/// A directory that contains itself, and one that contains its parent.
#[test]
fn circles_end() {
    let mut bytes = small();
    let opened = Image::open(bytes.as_slice(), Verify::No).unwrap();
    let root = opened.inode(opened.root()).unwrap();
    let (dir, _) = opened.lookup(&root, b"dir").unwrap().unwrap();
    let needle = dir.0.to_le_bytes();
    let root_nid = opened.root().0.to_le_bytes();
    let at = bytes.windows(8).position(|w| w == needle).unwrap();
    bytes[at..at + 8].copy_from_slice(&root_nid);
    exercise(&bytes);
    let image = Image::open(bytes.as_slice(), Verify::No).unwrap();
    let report = rofs::verify::verify(&image, &Silent);
    assert!(!report.problems.is_empty());
}

/// The corpus of the fuzz target: small images of every layout, and what broke the reader once.
#[test]
fn the_saved_corpus_is_survived() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/image");
    let mut count = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        exercise(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 3, "{count} images");
}

/// Writes the seeds of the corpus anew: `cargo test -p rofs --test properties -- --ignored seeds`.
#[test]
#[ignore = "writes to the sources"]
fn seeds_of_the_corpus() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/image");
    let mut cut = small();
    std::fs::write(corpus.join("every-layout"), &cut).unwrap();
    cut.truncate(6000);
    std::fs::write(corpus.join("cut-off"), &cut).unwrap();
    std::fs::write(corpus.join("empty-root"), image(&Random::Directory(BTreeMap::new()), 12)).unwrap();
    std::fs::write(corpus.join("small-blocks"), image(&Random::Directory(BTreeMap::new()), 9)).unwrap();
}
