//! Images as chunks: keeping, fetching, prefetch lists, collection.

use crate::bar::Bar;
use crate::cli::Make;
use crate::make::{options, read, told};
use rofs::Failure;
use rofs::build::build;
use rofs::failure::Context;
use rofs::store::{ChunkSource, DirSource, HttpSource, Index, Store, assemble, write_prefetch};
use std::io::Read;
use std::path::{Path, PathBuf};

/// `mkrofs --store`.
pub fn make(args: &Make, dir: &Path, bar: &Bar) -> Result<(), Failure> {
    let (output, sources): (Option<&Path>, &[PathBuf]) = match args.paths.split_first() {
        Some((first, rest)) if first.extension().is_some_and(|e| e == "index") && !rest.is_empty() => {
            (Some(first), rest)
        }
        _ => (None, &args.paths),
    };
    let store = Store::create(dir)?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => name_of(output.or(sources.first().map(PathBuf::as_path)))?,
    };
    // Before the work begins.
    let path = store.index_path(&name)?;
    let tree = read(args, sources, &dir.join("image"), bar)?;
    let image = store.temporary()?;
    let summary = build(&tree, image.as_file(), &options(args)?, bar)?;
    let (index, kept) = store.keep(image.as_file(), &name, args.chunk_size, bar)?;
    if let Some(output) = output {
        index.save(output)?;
    }
    if !args.quiet {
        println!("{}: {}", path.display(), told(&summary));
        let (new, shared, zero) = (kept.new, kept.shared, kept.zero);
        println!("{} chunks: {new} new, {shared} shared, {zero} of zeros", index.chunks().len());
    }
    Ok(())
}

/// The name of an image by that of its source.
fn name_of(source: Option<&Path>) -> Result<String, Failure> {
    let name = source.and_then(Path::file_stem).and_then(|n| n.to_str()).map(|n| n.trim_end_matches(".tar"));
    name.filter(|n| !n.is_empty() && *n != "-").map(str::to_owned).ok_or_else(|| {
        Failure::input("the image", "its source has no name that the store could use", "choose one by --name")
    })
}

/// `mkrofs fetch`.
pub fn fetch(index: &Path, source: &str, output: &Path, quiet: bool) -> Result<(), Failure> {
    let index = Index::load(index)?;
    let source: Box<dyn ChunkSource> = if source.contains("://") {
        let first = index.chunks().iter().position(Option::is_some).map(|n| n as u64);
        let known = first.and_then(|n| Some((index.chunks().iter().flatten().next()?, index.place(n)?.1)));
        Box::new(match known {
            Some((digest, len)) => HttpSource::detect(source, digest, len)?,
            None => HttpSource::store(source)?,
        })
    } else {
        Store::open(Path::new(source))?;
        Box::new(DirSource::new(source))
    };
    let bar = Bar::new(quiet);
    let result = assemble(source.as_ref(), &index, output, &bar);
    bar.finish();
    result?;
    if !quiet {
        println!("{}: {} bytes from {}", output.display(), index.length(), source.name());
    }
    Ok(())
}

/// `mkrofs prefetch`.
pub fn prefetch(index: &Path, list: &Path) -> Result<(), Failure> {
    let mut text = String::new();
    if list == Path::new("-") {
        std::io::stdin().lock().read_to_string(&mut text).when("read", "standard input")?;
    } else {
        text = std::fs::read_to_string(list).when("read", list)?;
    }
    let mut numbers = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        numbers.push(line.trim().parse().map_err(|_| {
            let object = format!("{}, line {}", list.display(), at + 1);
            Failure::input(object, "not a chunk's number", "write one number on each line")
        })?);
    }
    write_prefetch(index, numbers)
}

/// `mkrofs gc`.
pub fn gc(dir: &Path, dry: bool) -> Result<(), Failure> {
    let found = Store::open(dir)?.collect(dry)?;
    let verb = if dry { "would remove" } else { "removed" };
    println!("{} chunks kept; {verb} {}, {} bytes", found.kept, found.removed, found.bytes);
    Ok(())
}
