//! Looking into images: info, ls, cat, stat, verify.

use crate::bar::Bar;
use rofs::failure::{Context, shown};
use rofs::{Error, Extent, Failure, FileKind, Image, Inode, Verify};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Symbolic links that a path may lead through.
const MAX_LINKS: u32 = 40;

/// An image by its file.
pub fn open(path: &Path) -> Result<Image<File>, Failure> {
    let file = File::open(path).when("open", path)?;
    Image::open(file, Verify::Checksum).map_err(|e| wrong(path, "", e))
}

/// An error of the reader, with the image and the place in it.
pub fn wrong(image: &Path, place: &str, source: Error) -> Failure {
    let object =
        if place.is_empty() { image.display().to_string() } else { format!("{}: {place}", image.display()) };
    Failure::Image { object, source }
}

fn show(path: &Path) -> String {
    shown(path.as_os_str().as_bytes())
}

/// The inode at a path of an image. The last component is followed if it is a symbolic link and `follow` says so.
fn resolve(image: &Image<File>, file: &Path, path: &Path, follow: bool) -> Result<Inode, Failure> {
    let place = show(path);
    let bad = |e| wrong(file, &place, e);
    let absent = |reason: &str| {
        let object = format!("{}: {place}", file.display());
        Failure::input(object, reason, "mkrofs ls shows what is there")
    };
    let root = image.inode(image.root()).map_err(bad)?;
    let mut todo: Vec<Vec<u8>> = split(path.as_os_str().as_bytes());
    let mut stack = vec![root];
    let mut links = 0;
    while let Some(name) = todo.pop() {
        let dir = stack.last().copied().unwrap_or(root);
        if name == b".." {
            if stack.len() > 1 {
                stack.pop();
            }
            continue;
        }
        let found =
            if dir.kind == FileKind::Directory { image.lookup(&dir, &name).map_err(bad)? } else { None };
        let (nid, _) = found.ok_or_else(|| absent("no such file in the image"))?;
        let inode = image.inode(nid).map_err(bad)?;
        if inode.kind == FileKind::Symlink && (follow || !todo.is_empty()) {
            links += 1;
            if links > MAX_LINKS {
                return Err(absent("more symbolic links than Linux follows"));
            }
            let target = target(image, &inode).map_err(bad)?;
            if target.first() == Some(&b'/') {
                stack.truncate(1);
            }
            todo.extend(split(&target));
            continue;
        }
        stack.push(inode);
    }
    Ok(stack.last().copied().unwrap_or(root))
}

/// Components, the first one last.
fn split(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path.split(|b| *b == b'/').filter(|c| !matches!(*c, b"" | b"."));
    parts.rev().map(<[u8]>::to_vec).collect()
}

/// Where a symbolic link leads.
pub fn target(image: &Image<File>, inode: &Inode) -> Result<Vec<u8>, Error> {
    let mut buffer = vec![0; 4096];
    let len = image.read_link(inode, &mut buffer)?;
    buffer.truncate(len);
    Ok(buffer)
}

/// Writes to standard output; whoever does not want to read more ends it.
fn print(write: impl FnOnce(&mut dyn Write) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush().when("write", "standard output")) {
        Err(Failure::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// `mkrofs info`.
pub fn info(path: &Path) -> Result<(), Failure> {
    let image = open(path)?;
    let info = image.info();
    let uuid: String = info.uuid.iter().map(|b| format!("{b:02x}")).collect();
    let name = info.volume_name.split(|b| *b == 0).next().unwrap_or_default();
    print(|out| {
        let mut put =
            |key: &str, value: String| writeln!(out, "{key:<14}{value}").when("write", "standard output");
        put("format", "EROFS, uncompressed".into())?;
        put("bytes", rofs::Source::len(image.source()).to_string())?;
        put("block size", info.block_size.to_string())?;
        put("blocks", info.blocks.to_string())?;
        put("inodes", info.inodes.to_string())?;
        put("root", image.root().0.to_string())?;
        put("build time", info.build_time.to_string())?;
        put("uuid", uuid)?;
        put("label", shown(name))?;
        put("checksum", info.checksum.map_or("none".into(), |c| format!("{c:08x}, correct")))?;
        put(
            "features",
            format!("compatible {:#x}, incompatible {:#x}", info.feature_compat, info.feature_incompat),
        )
    })
}

/// `mkrofs ls`.
pub fn ls(file: &Path, path: &Path, long: bool, recursive: bool) -> Result<(), Failure> {
    let image = open(file)?;
    let start = resolve(&image, file, path, true)?;
    print(|out| {
        if start.kind != FileKind::Directory {
            return line(out, &image, file, &start, path.as_os_str().as_bytes(), long);
        }
        let mut seen = std::collections::HashSet::from([start.nid]);
        let mut waiting = vec![(start, Vec::new())];
        while let Some((dir, at)) = waiting.pop() {
            let mut below = Vec::new();
            for (name, inode) in list(&image, file, &dir)? {
                let mut full: Vec<u8> = at.clone();
                full.extend_from_slice(&name);
                line(out, &image, file, &inode, &full, long)?;
                if recursive && inode.kind == FileKind::Directory && seen.insert(inode.nid) {
                    full.push(b'/');
                    below.push((inode, full));
                }
            }
            waiting.extend(below.into_iter().rev());
        }
        Ok(())
    })
}

/// The entries of a directory, without "." and "..".
pub fn list(image: &Image<File>, file: &Path, dir: &Inode) -> Result<Vec<(Vec<u8>, Inode)>, Failure> {
    let mut names = Vec::new();
    let listed = image.read_dir(dir, 0, |name, nid, _, _| {
        if !matches!(name, b"." | b"..") {
            names.push((name.to_vec(), nid));
        }
        ControlFlow::Continue(())
    });
    listed.map_err(|e| wrong(file, "a directory", e))?;
    names
        .into_iter()
        .map(|(name, nid)| {
            let inode = image.inode(nid).map_err(|e| wrong(file, &shown(&name), e))?;
            Ok((name, inode))
        })
        .collect()
}

fn line(
    out: &mut dyn Write,
    image: &Image<File>,
    file: &Path,
    inode: &Inode,
    name: &[u8],
    long: bool,
) -> Result<(), Failure> {
    let mut text = String::new();
    if long {
        let size = match inode.kind {
            FileKind::CharDevice | FileKind::BlockDevice => {
                format!("{}, {}", inode.device.major, inode.device.minor)
            }
            _ => inode.size.to_string(),
        };
        let head = mode_text(inode);
        text = format!(
            "{head} {:>4} {:>5} {:>5} {size:>10} {}.{:09} ",
            inode.nlink, inode.uid, inode.gid, inode.mtime, inode.mtime_ns
        );
    }
    text.push_str(&shown(name));
    if long && inode.kind == FileKind::Symlink {
        let target = target(image, inode).map_err(|e| wrong(file, &shown(name), e))?;
        text.push_str(" -> ");
        text.push_str(&shown(&target));
    }
    writeln!(out, "{text}").when("write", "standard output")
}

/// Kind and permissions as `ls -l` shows them.
fn mode_text(inode: &Inode) -> String {
    let kind = match inode.kind {
        FileKind::Regular => '-',
        FileKind::Directory => 'd',
        FileKind::CharDevice => 'c',
        FileKind::BlockDevice => 'b',
        FileKind::Fifo => 'p',
        FileKind::Socket => 's',
        FileKind::Symlink => 'l',
    };
    let mut text = String::from(kind);
    for (shift, special, set) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = inode.mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, inode.mode & special != 0) {
            (true, true) => set,
            (false, true) => set.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// `mkrofs cat`.
pub fn cat(file: &Path, paths: &[impl AsRef<Path>]) -> Result<(), Failure> {
    let image = open(file)?;
    print(|out| {
        let mut buffer = vec![0; 1 << 18];
        for path in paths {
            let place = show(path.as_ref());
            let inode = resolve(&image, file, path.as_ref(), true)?;
            if inode.kind != FileKind::Regular {
                return Err(wrong(file, &place, Error::WrongKind("regular file")));
            }
            let mut offset = 0;
            loop {
                let count = image.read(&inode, offset, &mut buffer).map_err(|e| wrong(file, &place, e))?;
                if count == 0 {
                    break;
                }
                out.write_all(buffer.get(..count).unwrap_or_default()).when("write", "standard output")?;
                offset = offset.saturating_add(count as u64);
            }
        }
        Ok(())
    })
}

/// `mkrofs stat`.
pub fn stat(file: &Path, paths: &[impl AsRef<Path>]) -> Result<(), Failure> {
    let image = open(file)?;
    print(|out| {
        for path in paths {
            let place = show(path.as_ref());
            let bad = |e| wrong(file, &place, e);
            let inode = resolve(&image, file, path.as_ref(), false)?;
            let mut put =
                |key: &str, value: String| writeln!(out, "{key:<10}{value}").when("write", "standard output");
            put("path", place.clone())?;
            put("kind", format!("{:?}", inode.kind))?;
            put("mode", format!("{} {:04o}", mode_text(&inode), inode.mode & 0o7777))?;
            put("owner", format!("{}:{}", inode.uid, inode.gid))?;
            put("links", inode.nlink.to_string())?;
            put("size", inode.size.to_string())?;
            put("mtime", format!("{}.{:09}", inode.mtime, inode.mtime_ns))?;
            put("inode", inode.nid.0.to_string())?;
            match inode.kind {
                FileKind::CharDevice | FileKind::BlockDevice => {
                    put("device", format!("{}:{}", inode.device.major, inode.device.minor))?;
                }
                FileKind::Symlink => put("target", shown(&target(&image, &inode).map_err(bad)?))?,
                FileKind::Regular | FileKind::Directory => {
                    let place = match image.map(&inode, 0).map_err(bad)? {
                        Extent::Data { image_offset, .. } => format!("at {image_offset:#x}"),
                        Extent::Hole { len: 0 } => "none".into(),
                        Extent::Hole { .. } => "begins with a hole".into(),
                    };
                    put("data", format!("{:?}, {place}", inode.layout))?;
                }
                FileKind::Fifo | FileKind::Socket => {}
            }
            let mut names = Vec::new();
            let each = &mut |name: &[u8], _| {
                names.push(name.to_vec());
                ControlFlow::Continue(())
            };
            image.list_xattrs(&inode, each).map_err(bad)?;
            for name in names {
                let mut value = Vec::new();
                image.xattr(&inode, &name, &mut |piece| value.extend_from_slice(piece)).map_err(bad)?;
                put("xattr", format!("{} = {}", shown(&name), shown(&value)))?;
            }
        }
        Ok(())
    })
}

/// `mkrofs verify`.
pub fn verify(file: &Path, quiet: bool) -> Result<(), Failure> {
    let image = open(file)?;
    let bar = Bar::new(quiet);
    let report = rofs::verify::verify(&image, &bar);
    bar.finish();
    if report.problems.is_empty() {
        if !quiet {
            let (inodes, data) = (report.inodes, report.data);
            println!("{}: correct; {inodes} inodes, {data} bytes of data read", file.display());
        }
        return Ok(());
    }
    for (path, reason) in &report.problems {
        eprintln!("mkrofs: {}: {path}: {reason}", file.display());
    }
    let reason = format!("{} problems", report.problems.len());
    Err(Failure::input(file.display().to_string(), reason, "build or fetch the image again"))
}
