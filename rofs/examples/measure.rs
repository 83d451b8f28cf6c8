//! What reading and building cost: `cargo run --release -p rofs --example measure [DIRECTORY]`.
//!
//! The tree has 10,000 files in 100 directories; a directory that is named is built, too.

use rofs::build::{Options, build};
use rofs::input::add_directory;
use rofs::progress::Silent;
use rofs::tree::{Content, Kind, Layers, Meta, Node, Tree};
use rofs::{Image, Verify};
use std::collections::BTreeMap;
use std::error::Error;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

const DIRECTORIES: usize = 100;
const FILES: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let mut tree = Tree::new(Meta::default());
    let node = |kind| Node { meta: Meta { mtime: 1, ..Meta::default() }, kind };
    for dir in 0..DIRECTORIES {
        let id = tree.add(node(Kind::Directory(BTreeMap::new())));
        tree.link(Tree::ROOT, format!("directory-{dir}").as_bytes(), id)?;
        for file in 0..FILES {
            let text = format!("the file {file} of {dir} ").repeat(10 + file * 5);
            let file_id = tree.add(node(Kind::Regular(Content::from_bytes(text.into_bytes()))));
            tree.link(id, format!("some-file-{file}.js").as_bytes(), file_id)?;
        }
    }
    let file = tempfile::tempfile()?;
    let summary = build(&tree, &file, &Options::default(), &Silent)?;
    let mut bytes = vec![0; usize::try_from(summary.bytes)?];
    file.read_exact_at(&mut bytes, 0)?;
    println!("image of 10,000 files: {} bytes, {} of metadata", summary.bytes, summary.metadata);
    read(&Image::open(bytes.as_slice(), Verify::Checksum)?)?;
    if let Some(dir) = std::env::args_os().nth(1) {
        let begin = Instant::now();
        let mut layers = Layers::new();
        add_directory(&mut layers, Path::new(&dir), &|_| false, &Silent)?;
        let tree = layers.into_tree();
        let scanned = begin.elapsed();
        let out = tempfile::tempfile()?;
        let summary = build(&tree, &out, &Options::default(), &Silent)?;
        let seconds = begin.elapsed().as_secs_f64();
        let all = (summary.data + summary.shared) as f64 / 1e6;
        let (bytes, shared) = (summary.bytes, summary.shared);
        println!(
            "{}: {} inodes, image of {bytes} bytes, {shared} shared",
            Path::new(&dir).display(),
            summary.inodes
        );
        println!(
            "  {all:.0} MB in {seconds:.2} s ({:.2} s of it read and hashed): {:.0} MB/s",
            scanned.as_secs_f64(),
            all / seconds
        );
    }
    Ok(())
}

fn read(image: &Image<&[u8]>) -> Result<(), Box<dyn Error>> {
    let root = image.inode(image.root())?;
    let names: Vec<(Vec<u8>, Vec<u8>)> = (0..DIRECTORIES * FILES)
        .map(|n| n.wrapping_mul(7919) % (DIRECTORIES * FILES))
        .map(|n| (format!("directory-{}", n / FILES), format!("some-file-{}.js", n % FILES)))
        .map(|(dir, file)| (dir.into_bytes(), file.into_bytes()))
        .collect();
    let mut dirs = BTreeMap::new();
    for (dir, _) in &names {
        let (nid, _) = image.lookup(&root, dir)?.ok_or("a directory is not found")?;
        dirs.insert(dir, image.inode(nid)?);
    }
    let pairs: Vec<_> = names.iter().map(|(dir, file)| (dirs.get(dir).copied(), file)).collect();
    let mut buffer = [0; 4096];
    measure("lookup of a name", names.len(), || {
        for (dir, file) in &pairs {
            black_box(image.lookup(dir.as_ref().ok_or(rofs::Error::Io)?, file)?);
        }
        Ok(())
    })?;
    measure("lookup and inode", names.len(), || {
        for (dir, file) in &pairs {
            if let Some((nid, _)) = image.lookup(dir.as_ref().ok_or(rofs::Error::Io)?, file)? {
                black_box(image.inode(nid)?);
            }
        }
        Ok(())
    })?;
    measure("lookup, inode and read of up to 4 KiB", names.len(), || {
        for (dir, file) in &pairs {
            if let Some((nid, _)) = image.lookup(dir.as_ref().ok_or(rofs::Error::Io)?, file)? {
                black_box(image.read(&image.inode(nid)?, 0, &mut buffer)?);
            }
        }
        Ok(())
    })?;
    measure("walk: an entry and its inode", names.len(), || {
        for dir in dirs.values() {
            let mut found = Ok(());
            image.read_dir(dir, 0, |_, nid, _, _| {
                match image.inode(nid) {
                    Ok(inode) => {
                        black_box(inode.size);
                    }
                    Err(error) => found = Err(error),
                }
                ControlFlow::Continue(())
            })?;
            found?;
        }
        Ok(())
    })
}

/// The least of 20 rounds, for one of `count`.
fn measure(
    what: &str,
    count: usize,
    mut round: impl FnMut() -> Result<(), rofs::Error>,
) -> Result<(), Box<dyn Error>> {
    let mut best = f64::MAX;
    for _ in 0..20 {
        let begin = Instant::now();
        round()?;
        best = best.min(begin.elapsed().as_secs_f64());
    }
    println!("{what:<40} {:>6.0} ns", best * 1e9 / count as f64);
    Ok(())
}
