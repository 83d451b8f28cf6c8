//! Images from archives, layers, container images and bundles; the same input gives the same bytes.

mod common;

use common::{ALL, Compared, compare, image_of, noise, open, run, sample};
use rofs::Failure;
use rofs::build::{Options, build_to};
use rofs::input::{Choice, Spool, add_archive, add_bundle, add_oci};
use rofs::progress::Silent;
use rofs::tree::{Layers, Tree};
use sha2::Digest;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

fn from_archives(archives: &[&[u8]]) -> Result<Tree, Failure> {
    let mut layers = Layers::new();
    let mut spool = Spool::new(&std::env::temp_dir())?;
    for archive in archives {
        layers.begin_layer();
        add_archive(&mut layers, *archive, "the archive", &mut spool, &Silent)?;
    }
    Ok(layers.into_tree())
}

fn write(tree: &Tree, path: &Path) {
    build_to(tree, path, &Options::default(), &Silent).unwrap();
}

/// What `mkrofs ls -lR` says, without times.
fn listing(tree: &Tree) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    write(tree, &image);
    let text = run(Command::new(env!("CARGO_BIN_EXE_mkrofs")).arg("ls").arg("-R").arg(&image));
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_tree_through_tar_is_the_same_image() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    sample(&tree, ALL);
    // tar does not archive sockets.
    fs::remove_file(tree.join("socket")).unwrap();
    let direct = dir.path().join("direct");
    image_of(&tree, &direct);
    let sparse = ["--sparse", "--sparse-version=0.0", "--sparse-version=0.1", "--sparse-version=1.0"];
    for (number, version) in sparse.iter().enumerate() {
        let archive = dir.path().join("archive");
        let mut tar = Command::new("tar");
        tar.args(["--format=pax", "--sparse", "--xattrs", "--xattrs-include=*", "--sort=inode", version]);
        run(tar.arg("-C").arg(&tree).arg("-cf").arg(&archive).arg("."));
        let mut layers = Layers::new();
        let mut spool = Spool::new(dir.path()).unwrap();
        add_archive(&mut layers, File::open(&archive).unwrap(), "archive", &mut spool, &Silent).unwrap();
        let image = dir.path().join("image");
        write(&layers.into_tree(), &image);
        if number == 0 {
            compare(&open(&image), &tree, Compared { mtime: true });
        }
        assert!(fs::read(&image).unwrap() == fs::read(&direct).unwrap(), "{version}");
    }
}

#[test]
fn old_formats_and_compressions() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("d")).unwrap();
    fs::write(tree.join("d/file"), noise(70_000, 1)).unwrap();
    fs::write(tree.join("x".repeat(180)), "long").unwrap();
    fs::hard_link(tree.join("d/file"), tree.join("again")).unwrap();
    std::os::unix::fs::symlink("y".repeat(180), tree.join("link")).unwrap();
    let holes = File::create(tree.join("holes")).unwrap();
    for number in 0..40u64 {
        std::os::unix::fs::FileExt::write_all_at(&holes, b"data", number << 16).unwrap();
    }
    // GNU's formats have whole seconds.
    run(Command::new("find").arg(&tree).args(["-exec", "touch", "-h", "-d", "@1000000000", "{}", "+"]));
    let direct = dir.path().join("direct");
    image_of(&tree, &direct);
    let expected = fs::read(&direct).unwrap();
    for format in ["gnu", "oldgnu", "posix"] {
        for compress in ["", "--gzip", "--zstd", "--xz", "--bzip2"] {
            let mut tar = Command::new("tar");
            tar.args(["--sparse", "-C"]).arg(&tree).arg(format!("--format={format}"));
            if !compress.is_empty() {
                tar.arg(compress);
            }
            let archive = dir.path().join("archive");
            run(tar.arg("-cf").arg(&archive).arg("."));
            let image = dir.path().join("image");
            write(&from_archives(&[&fs::read(&archive).unwrap()]).unwrap(), &image);
            assert!(fs::read(&image).unwrap() == expected, "{format} {compress}");
        }
    }
}

/// An archive of names; one that ends in "/" is a directory, "a->b" a symbolic link, "a=>b" a hard link.
fn layer(names: &[&str]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for name in names {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(0);
        let (path, link, kind) = if let Some((path, link)) = name.split_once("->") {
            (path, link, tar::EntryType::Symlink)
        } else if let Some((path, link)) = name.split_once("=>") {
            (path, link, tar::EntryType::Link)
        } else if let Some(path) = name.strip_suffix('/') {
            (path, "", tar::EntryType::Directory)
        } else {
            (*name, "", tar::EntryType::Regular)
        };
        header.set_entry_type(kind);
        // Written as they are: the library would refuse what a hostile archive has.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        builder.append(&header, std::io::empty()).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn whiteouts_hide_what_is_below() {
    let base = layer(&["d/", "d/a", "d/b", "e/", "e/f", "file", "other"]);
    let over =
        layer(&["d/.wh.a", "d/c", ".wh.other", "e/.wh..wh..opq", "e/new", ".wh..wh.plnk/", ".wh..wh.aufs"]);
    let tree = from_archives(&[&base, &over]).unwrap();
    assert_eq!(listing(&tree), ["d", "e", "file", "d/b", "d/c", "e/new"].map(str::to_owned).to_vec());
}

#[test]
fn an_opaque_directory_hides_what_is_below_wherever_it_stands_in_its_layer() {
    let base = layer(&["d/", "d/old", "d/sub/", "d/sub/old"]);
    for over in [&["d/.wh..wh..opq", "d/sub/new", "d/new"][..], &["d/sub/new", "d/new", "d/.wh..wh..opq"]] {
        let tree = from_archives(&[&base, &layer(over)]).unwrap();
        assert_eq!(
            listing(&tree),
            ["d", "d/new", "d/sub", "d/sub/new"].map(str::to_owned).to_vec(),
            "{over:?}"
        );
    }
}

#[test]
fn kinds_are_replaced() {
    let base = layer(&["a/", "a/x", "b", "c->b", "d/", "d/kept"]);
    let over = layer(&["a", "b/", "b/y", "c/", "c/z", "d/", "e=>a"]);
    let tree = from_archives(&[&base, &over]).unwrap();
    let expected = ["a", "b", "c", "d", "e", "b/y", "c/z", "d/kept"];
    assert_eq!(listing(&tree), expected.map(str::to_owned).to_vec());
}

#[test]
fn no_path_leads_out() {
    let tree = from_archives(&[&layer(&[
        "/abs",
        "../../up",
        "d/../../../side",
        "out->../../../..",
        "out/through",
        "root->/",
        "root/../tmp",
        "circle->circle",
    ])])
    .unwrap();
    let mut found = listing(&tree);
    found.sort();
    assert_eq!(
        found,
        ["abs", "circle", "out", "root", "side", "through", "tmp", "up"].map(str::to_owned).to_vec()
    );
    assert!(from_archives(&[&layer(&["circle->circle", "circle/x"])]).is_err());
    assert!(from_archives(&[&layer(&["x=>../../etc/passwd"])]).is_err());
    assert!(from_archives(&[&layer(&["a/.wh."])]).is_err());
}

#[test]
fn damaged_archives_are_errors() {
    let good = layer(&["a", "b"]);
    for (what, bytes) in [
        ("nothing", Vec::new()),
        ("no archive", b"#!/bin/sh\n".repeat(200)),
        ("cut off", good[..700].to_vec()),
        ("a changed header", [&good[..512], b"x", &good[513..]].concat()),
        ("gzip that is none", vec![0x1f, 0x8b, 8, 0, 0, 0]),
        ("zstd that is none", vec![0x28, 0xb5, 0x2f, 0xfd, 9, 9, 9]),
    ] {
        let error = from_archives(&[&bytes]).expect_err(what);
        assert!(error.to_string().contains("the archive"), "{what}: {error}");
    }
}

/// Writes a blob of a layout, and gives its descriptor.
fn blob(layout: &Path, media: &str, data: &[u8]) -> serde_json::Value {
    let hex: String = sha2::Sha256::digest(data).iter().map(|b| format!("{b:02x}")).collect();
    fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    fs::write(layout.join("blobs/sha256").join(&hex), data).unwrap();
    serde_json::json!({ "mediaType": media, "digest": format!("sha256:{hex}"), "size": data.len() })
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// A layout with two images, one of them for two platforms.
fn layout(dir: &Path) -> PathBuf {
    let layout = dir.join("layout");
    fs::create_dir(&layout).unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let kind = |what: &str| format!("application/vnd.oci.image.{what}+json");
    let manifest = |layers: &[(&str, Vec<u8>)]| {
        let config = blob(&layout, &kind("config.v1"), b"{}");
        let layers: Vec<_> = layers
            .iter()
            .map(|(end, data)| blob(&layout, &format!("application/vnd.oci.image.layer.v1.tar{end}"), data))
            .collect();
        let text = serde_json::json!({ "schemaVersion": 2, "config": config, "layers": layers });
        blob(&layout, &kind("manifest.v1"), text.to_string().as_bytes())
    };
    let base = layer(&["base", "gone"]);
    let zstd = zstd::encode_all(layer(&[".wh.gone", "zstd"]).as_slice(), 1).unwrap();
    let mut ours = manifest(&[("", base.clone()), ("+zstd", zstd)]);
    ours["platform"] = serde_json::json!({ "os": "linux", "architecture": "amd64" });
    let mut theirs = manifest(&[("", layer(&["theirs"]))]);
    theirs["platform"] = serde_json::json!({ "os": "linux", "architecture": "arm64" });
    let both = serde_json::json!({ "schemaVersion": 2, "manifests": [theirs, ours] });
    let mut first = blob(&layout, &kind("index.v1"), both.to_string().as_bytes());
    first["annotations"] = serde_json::json!({ "org.opencontainers.image.ref.name": "first" });
    let mut second = manifest(&[("+gzip", gzip(&base))]);
    second["annotations"] = serde_json::json!({ "org.opencontainers.image.ref.name": "second" });
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [first, second] });
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    layout
}

fn from_oci(source: &Path, reference: Option<&str>, platform: &str) -> Result<Vec<String>, Failure> {
    let dir = tempfile::tempdir().unwrap();
    let mut layers = Layers::new();
    let mut spool = Spool::new(dir.path()).unwrap();
    add_oci(&mut layers, source, &Choice { reference, platform }, dir.path(), &mut spool, &Silent)?;
    Ok(listing(&layers.into_tree()))
}

#[test]
fn images_of_an_oci_layout() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(dir.path());
    assert_eq!(from_oci(&layout, Some("first"), "linux/amd64").unwrap(), ["base", "zstd"]);
    assert_eq!(from_oci(&layout, Some("first"), "linux/arm64").unwrap(), ["theirs"]);
    assert_eq!(from_oci(&layout, Some("second"), "linux/amd64").unwrap(), ["base", "gone"]);
    let several = from_oci(&layout, None, "linux/amd64").unwrap_err().to_string();
    assert!(
        several.contains("--ref") && several.contains("first") && several.contains("second"),
        "{several}"
    );
    let none = from_oci(&layout, Some("third"), "linux/amd64").unwrap_err().to_string();
    assert!(none.contains("third"), "{none}");
    // An archive of the same.
    let archive = dir.path().join("archive.tar");
    run(Command::new("tar").arg("-C").arg(&layout).arg("-cf").arg(&archive).arg("."));
    assert_eq!(from_oci(&archive, Some("first"), "linux/amd64").unwrap(), ["base", "zstd"]);
    let image = dir.path().join("image");
    let mkrofs = || Command::new(env!("CARGO_BIN_EXE_mkrofs"));
    run(mkrofs().args(["--ref", "second"]).arg(&image).arg(&archive));
    assert_eq!(run(mkrofs().arg("ls").arg(&image)), "base\ngone\n");
}

#[test]
fn changed_blobs_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(dir.path());
    for entry in fs::read_dir(layout.join("blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        // Behind the end of a layer's archive, where only the digest sees it.
        File::options().append(true).open(path).unwrap().write_all(&[0; 512]).unwrap();
    }
    let error = from_oci(&layout, Some("second"), "linux/amd64").unwrap_err();
    assert!(matches!(error, Failure::Digest { .. }), "{error}");
}

#[test]
fn the_root_of_a_bundle() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("rootfs/etc")).unwrap();
    let add = |config: &str| {
        fs::write(dir.path().join("config.json"), config).unwrap();
        let mut layers = Layers::new();
        add_bundle(&mut layers, dir.path(), &|_| false, &Silent).map(|()| listing(&layers.into_tree()))
    };
    assert_eq!(add(r#"{"root":{"path":"rootfs"}}"#).unwrap(), ["etc"]);
    assert!(add(r#"{"root":{}}"#).unwrap_err().to_string().contains("root.path"));
    assert!(add("{").is_err());
}

#[test]
fn the_same_input_is_the_same_image() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    fs::create_dir(&one).unwrap();
    sample(&one, ALL);
    fs::remove_file(one.join("huge")).unwrap();
    // A copy without holes, made in another order.
    run(Command::new("cp").args(["-a", "--sparse=never"]).arg(&one).arg(&two));
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let a = image_of(&one, &first);
    assert_eq!(a, image_of(&two, &second));
    assert!(fs::read(&first).unwrap() == fs::read(&second).unwrap());
    fs::write(two.join("size-0"), "changed").unwrap();
    assert_ne!(a.uuid, image_of(&two, &second).uuid);
    let dated = Options { build_time: 1_000_000_000, ..Options::default() };
    build_to(&common::tree_of(&one), &second, &dated, &Silent).unwrap();
    assert_eq!(open(&second).info().build_time, 1_000_000_000);
}

#[test]
fn data_is_laid_out_for_mapping() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, image) = (dir.path().join("tree"), dir.path().join("image"));
    fs::create_dir(&tree).unwrap();
    sample(&tree, ALL);
    let summary = image_of(&tree, &image);
    let image = open(&image);
    let root = image.inode(image.root()).unwrap();
    for (size, inline) in [(1024u64, true), (1025, false), (4096, false), (300_000, false)] {
        let (nid, _) = image.lookup(&root, format!("size-{size}").as_bytes()).unwrap().unwrap();
        let inode = image.inode(nid).unwrap();
        let rofs::Extent::Data { image_offset, len } = image.map(&inode, 0).unwrap() else {
            panic!("a hole")
        };
        assert_eq!(len, size);
        if inline {
            assert!(image_offset < summary.metadata);
        } else {
            assert!(image_offset >= summary.metadata && image_offset % 4096 == 0);
        }
    }
    let (nid, _) = image.lookup(&root, b"holes").unwrap().unwrap();
    let inode = image.inode(nid).unwrap();
    let rofs::Extent::Hole { len } = image.map(&inode, 0).unwrap() else { panic!("data") };
    assert_eq!(len % 4096, 0);
    let rofs::Extent::Data { image_offset, .. } = image.map(&inode, 1 << 20).unwrap() else {
        panic!("a hole")
    };
    assert_eq!(image_offset % 4096, 0);
}
