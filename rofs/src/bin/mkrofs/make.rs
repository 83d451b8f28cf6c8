//! Making an image.

use crate::bar::Bar;
use crate::cli::{From, Make};
use globset::{Glob, GlobSet, GlobSetBuilder};
use rofs::Failure;
use rofs::build::{Options, Summary, build_to};
use rofs::failure::Context;
use rofs::input::{self, Choice, Spool};
use rofs::tree::{Layers, Tree};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Makes what was asked for, and says what it is.
pub fn make(args: &Make) -> Result<(), Failure> {
    let bar = Bar::new(args.quiet);
    let result = match &args.store {
        Some(store) => crate::stored::make(args, store, &bar),
        None => image(args, &bar),
    };
    bar.finish();
    result
}

fn image(args: &Make, bar: &Bar) -> Result<(), Failure> {
    let Some((output, sources)) = args.paths.split_first().filter(|(_, sources)| !sources.is_empty()) else {
        return Err(Failure::input("command line", "no source is named", "give OUTPUT and SOURCE"));
    };
    let tree = read(args, sources, output, bar)?;
    let summary = build_to(&tree, output, &options(args)?, bar)?;
    if !args.quiet {
        println!("{}: {}", output.display(), told(&summary));
    }
    Ok(())
}

/// A line about an image.
pub fn told(summary: &Summary) -> String {
    format!(
        "{} inodes, {} bytes: {} of metadata, {} of data; {} bytes of equal data kept once",
        summary.inodes, summary.bytes, summary.metadata, summary.data, summary.shared
    )
}

/// How the command line wants the image.
pub fn options(args: &Make) -> Result<Options, Failure> {
    let mut options =
        Options { block_bits: args.block_size, inline_max: args.inline_max, ..Options::default() };
    options.volume_name.iter_mut().zip(args.label.bytes()).for_each(|(to, from)| *to = from);
    if let Some(epoch) = std::env::var_os("SOURCE_DATE_EPOCH") {
        options.build_time = epoch.to_str().and_then(|e| e.trim().parse().ok()).ok_or_else(|| {
            let reason = format!("{} is not a number of seconds", epoch.display());
            Failure::input("SOURCE_DATE_EPOCH", reason, "set it to one, or unset it")
        })?;
    }
    Ok(options)
}

/// The tree of all sources. Data that is read once only is kept in a spool beside `output` meanwhile.
pub fn read(args: &Make, sources: &[PathBuf], output: &Path, bar: &Bar) -> Result<Tree, Failure> {
    let mut layers = Layers::new();
    let work = output.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut spool = None;
    let excluded = patterns(&args.exclude)?;
    let exclude = |path: &[u8]| excluded.is_match(OsStr::from_bytes(path));
    for source in sources {
        layers.begin_layer();
        match args.from.map_or_else(|| detect(source), Ok)? {
            From::Dir => input::add_directory(&mut layers, source, &exclude, bar)?,
            From::Bundle => input::add_bundle(&mut layers, source, &exclude, bar)?,
            From::Tar => {
                let spool = spool_in(&mut spool, work)?;
                let name = source.display().to_string();
                if source == Path::new("-") {
                    input::add_archive(&mut layers, std::io::stdin().lock(), "standard input", spool, bar)?;
                } else {
                    let file = File::open(source).when("open", source)?;
                    input::add_archive(&mut layers, file, &name, spool, bar)?;
                }
            }
            From::Oci => {
                let spool = spool_in(&mut spool, work)?;
                let choice = Choice { reference: args.reference.as_deref(), platform: &args.platform };
                input::add_oci(&mut layers, source, &choice, work, spool, bar)?;
            }
        }
    }
    let mut tree = layers.into_tree();
    if !args.exclude.is_empty() {
        tree.prune(|path, _| exclude(path));
    }
    let owner = if args.all_root { Some((0, 0)) } else { args.owner };
    if let Some((uid, gid)) = owner {
        tree.nodes_mut().for_each(|node| (node.meta.uid, node.meta.gid) = (uid, gid));
    }
    Ok(tree)
}

fn patterns(texts: &[String]) -> Result<GlobSet, Failure> {
    let mut set = GlobSetBuilder::new();
    let bad =
        |text: &str, e: globset::Error| Failure::input(text, e.to_string(), "mend the pattern of --exclude");
    for text in texts {
        set.add(Glob::new(text.trim_matches('/')).map_err(|e| bad(text, e))?);
    }
    set.build().map_err(|e| bad("--exclude", e))
}

/// The spool, which is made when it is first needed.
fn spool_in<'a>(spool: &'a mut Option<Spool>, dir: &Path) -> Result<&'a mut Spool, Failure> {
    if let Some(spool) = spool {
        return Ok(spool);
    }
    Ok(spool.insert(Spool::new(dir)?))
}

/// What a source is, from what is there.
fn detect(source: &Path) -> Result<From, Failure> {
    if source.is_dir() {
        if source.join("oci-layout").is_file() && source.join("index.json").is_file() {
            return Ok(From::Oci);
        }
        if source.join("config.json").is_file() {
            return Ok(From::Bundle);
        }
        return Ok(From::Dir);
    }
    if source != Path::new("-") && input::looks_like_oci(File::open(source).when("open", source)?) {
        return Ok(From::Oci);
    }
    Ok(From::Tar)
}
