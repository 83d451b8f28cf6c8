//! Images of mkfs.erofs are read here, and ours are judged by fsck.erofs, dump.erofs and Linux.

mod common;

use common::{ALL, Compared, Sample, compare, image_of, open, run, sample};
use rofs::progress::Silent;
use rofs::{Error, FileKind, Image, Verify};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

const WITH_TIMES: Compared = Compared { mtime: true };

/// Lets mkfs.erofs make an image with these options, reads all of it, and gives how it ended.
fn read_theirs(what: Sample, options: &[&str], compared: Compared) {
    let dir = tempfile::tempdir().unwrap();
    let (tree, image) = (dir.path().join("tree"), dir.path().join("image"));
    fs::create_dir(&tree).unwrap();
    sample(&tree, what);
    run(Command::new("mkfs.erofs").arg("--quiet").args(options).arg(&image).arg(&tree));
    let image = open(&image);
    compare(&image, &tree, compared);
    assert_eq!(rofs::verify::verify(&image, &Silent).problems, [], "{options:?}");
}

/// What mkfs.erofs 1.5 manages: it fails on names of 255 bytes and writes holes out.
const THEIRS: Sample = Sample { longest: 254, holes: false, wide: true };

#[test]
fn images_of_mkfs_are_read() {
    read_theirs(THEIRS, &[], WITH_TIMES);
}

#[test]
fn extended_inodes_and_no_inline_data() {
    read_theirs(THEIRS, &["-Eforce-inode-extended", "-Enoinline_data"], WITH_TIMES);
}

#[test]
fn compact_inodes() {
    read_theirs(Sample { wide: false, ..THEIRS }, &["-Eforce-inode-compact"], Compared { mtime: false });
}

#[test]
fn all_extended_attributes_shared() {
    read_theirs(THEIRS, &["-x1"], WITH_TIMES);
}

#[test]
fn chunks_by_block_map_and_by_index() {
    read_theirs(THEIRS, &["--chunksize=4096"], WITH_TIMES);
    read_theirs(THEIRS, &["--chunksize=65536", "-Eforce-chunk-indexes"], WITH_TIMES);
}

#[test]
fn compressed_images_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, image) = (dir.path().join("tree"), dir.path().join("image"));
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("file"), "again and again ".repeat(10_000)).unwrap();
    for options in [&["-zlz4"][..], &["-zlz4hc", "-C65536"], &["-zlz4", "-Elegacy-compress"]] {
        run(Command::new("mkfs.erofs").arg("--quiet").args(options).arg(&image).arg(&tree));
        let error = Image::open(File::open(&image).unwrap(), Verify::Checksum).unwrap_err();
        assert!(matches!(error, Error::Unsupported(what) if what.contains("compressed (LZ4)")), "{error}");
    }
    let blob = dir.path().join("blob");
    let device = format!("--blobdev={}", blob.display());
    run(Command::new("mkfs.erofs").args(["--quiet", "--chunksize=4096", &device]).arg(&image).arg(&tree));
    let error = Image::open(File::open(&image).unwrap(), Verify::Checksum).unwrap_err();
    assert!(matches!(error, Error::Unsupported(what) if what.contains("multi-device")), "{error}");
}

#[test]
fn features_from_the_future_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    image_of(&empty(dir.path()), &image);
    let bytes = fs::read(&image).unwrap();
    for bit in 0..32 {
        let mut bytes = bytes.clone();
        bytes[1024 + 80 + bit / 8] |= 1 << (bit % 8);
        let opened = Image::open(bytes.as_slice(), Verify::No);
        // Padding of compressed data without compressed data, and chunks.
        let known = matches!(bit, 0 | 2);
        assert_eq!(opened.is_ok(), known, "bit {bit}: {:?}", opened.err());
    }
    let file = File::options().write(true).open(&image).unwrap();
    file.write_all_at(&[0], 1024 + 4).unwrap();
    let damaged = Image::open(File::open(&image).unwrap(), Verify::Checksum);
    assert!(matches!(damaged, Err(Error::Corrupt(what)) if what.contains("checksum")));
    assert!(Image::open(File::open(&image).unwrap(), Verify::No).is_ok());
}

fn empty(dir: &Path) -> std::path::PathBuf {
    let empty = dir.join("nothing");
    fs::create_dir_all(&empty).unwrap();
    empty
}

#[test]
fn our_images_pass_fsck_and_are_extracted_by_it() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, image, out) = (dir.path().join("tree"), dir.path().join("image"), dir.path().join("out"));
    fs::create_dir(&tree).unwrap();
    sample(&tree, Sample { holes: false, ..ALL });
    image_of(&tree, &image);
    compare(&open(&image), &tree, WITH_TIMES);
    let extract = format!("--extract={}", out.display());
    run(Command::new("fsck.erofs").args([&extract, "--preserve"]).arg(&image));
    same_files(&tree, &out);
    let described = run(Command::new("dump.erofs").arg("-s").arg(&image));
    assert!(described.contains("sb_csum"), "{described}");
}

/// Two directories by `diff`, which looks at names, links and data. Special files it cannot compare.
fn same_files(left: &Path, right: &Path) {
    let output =
        Command::new("diff").args(["-r", "--no-dereference"]).arg(left).arg(right).output().expect("diff");
    let text = String::from_utf8_lossy(&output.stdout);
    let wrong: Vec<&str> = text.lines().filter(|l| !l.contains(" while file ")).collect();
    assert!(wrong.is_empty(), "{wrong:?} {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn our_images_with_holes_pass_fsck() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, image) = (dir.path().join("tree"), dir.path().join("image"));
    fs::create_dir(&tree).unwrap();
    sample(&tree, ALL);
    let summary = image_of(&tree, &image);
    assert!(summary.bytes < 4 << 20, "holes are kept: {summary:?}");
    assert!(summary.shared >= 300_000, "equal files are kept once: {summary:?}");
    let image = open(&image);
    compare(&image, &tree, WITH_TIMES);
    assert_eq!(rofs::verify::verify(&image, &Silent).problems, []);
    run(Command::new("fsck.erofs").arg(dir.path().join("image")));
}

/// Linux itself, where loop devices work.
#[test]
fn our_images_mount_on_linux() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, image, mount) = (dir.path().join("tree"), dir.path().join("image"), dir.path().join("mount"));
    fs::create_dir(&tree).unwrap();
    fs::create_dir(&mount).unwrap();
    sample(&tree, ALL);
    image_of(&tree, &image);
    let mounted =
        Command::new("mount").args(["-t", "erofs", "-o", "loop,ro"]).arg(&image).arg(&mount).output();
    match mounted {
        Ok(output) if output.status.success() => {}
        other => {
            println!("skipped: this machine does not mount erofs by loop devices: {other:?}");
            return;
        }
    }
    struct Mounted<'a>(&'a Path);
    impl Drop for Mounted<'_> {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg(self.0).status();
        }
    }
    let mounted = Mounted(&mount);
    // Linux numbers inodes as it likes; all else is equal.
    compare(&open(&image), mounted.0, WITH_TIMES);
    same_files(&tree.join("deep"), &mount.join("deep"));
    let listed = run(Command::new("find").arg(&mount));
    assert!(listed.lines().count() > 900);
}

#[test]
fn a_directory_of_70000_entries() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    let mut tree = rofs::tree::Tree::new(rofs::tree::Meta { mode: 0o755, ..Default::default() });
    let one = tree.add(rofs::tree::Node { meta: Default::default(), kind: rofs::tree::Kind::Fifo });
    let name = |number: u32| format!("{:x}-{number}", number.wrapping_mul(0x9e37_79b9));
    for number in 0..70_000 {
        tree.link(rofs::tree::Tree::ROOT, name(number).as_bytes(), one).unwrap();
    }
    rofs::build::build_to(&tree, &path, &Default::default(), &Silent).unwrap();
    run(Command::new("fsck.erofs").arg(&path));
    let image = open(&path);
    let root = image.inode(image.root()).unwrap();
    for number in (0..70_000).step_by(7) {
        let (_, kind) = image.lookup(&root, name(number).as_bytes()).unwrap().unwrap();
        assert_eq!(kind, FileKind::Fifo);
        assert_eq!(image.lookup(&root, format!("{}x", name(number)).as_bytes()).unwrap(), None);
    }
    // Listed in pieces of 1,000, each from where the last one ended.
    let (mut cookie, mut count) = (0, 0);
    loop {
        let mut piece = 0;
        image
            .read_dir(&root, cookie, |_, _, _, next| {
                (cookie, piece) = (next, piece + 1);
                if piece == 1000 {
                    std::ops::ControlFlow::Break(())
                } else {
                    std::ops::ControlFlow::Continue(())
                }
            })
            .unwrap();
        count += piece;
        if piece == 0 {
            break;
        }
    }
    assert_eq!(count, 70_002);
}
