//! The command line of mkrofs.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Makes read-only images of file systems (EROFS, uncompressed) from directories, archives of container layers,
/// container images and bundles; looks into images; keeps them as chunks in a store.
#[derive(Debug, Parser)]
#[command(name = "mkrofs", version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub make: Make,
}

/// What to make an image from, and how.
#[derive(Debug, Args)]
pub struct Make {
    /// Describe an image instead of making one.
    #[arg(long, value_name = "IMAGE", exclusive = true)]
    pub info: Option<PathBuf>,
    /// The image to write, then what to make it from: several are layers, each over those before it. With --store
    /// the output can be left out, or is an index whose name ends in .index. "-" is standard input.
    #[arg(value_name = "OUTPUT> <SOURCE", required_unless_present = "info")]
    pub paths: Vec<PathBuf>,
    /// What the sources are, where that is not seen from themselves.
    #[arg(long, value_enum, value_name = "KIND")]
    pub from: Option<From>,
    /// Which image of an OCI layout: its name (annotation org.opencontainers.image.ref.name) or digest.
    #[arg(long = "ref", value_name = "NAME")]
    pub reference: Option<String>,
    /// The platform to take of an image for several.
    #[arg(long, value_name = "OS/ARCH", default_value = "linux/amd64")]
    pub platform: String,
    /// Leave out what this pattern matches, a path from the root such as `var/cache/*`, and what is beneath it.
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// Give all files to this user and group.
    #[arg(long, value_name = "UID:GID", value_parser = owner, conflicts_with = "all_root")]
    pub owner: Option<(u32, u32)>,
    /// Give all files to root.
    #[arg(long)]
    pub all_root: bool,
    /// Name of the file system, up to 16 bytes.
    #[arg(long, value_name = "NAME", default_value = "", value_parser = label)]
    pub label: String,
    /// Keep regular files of up to this many bytes behind their inodes.
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    pub inline_max: u32,
    /// Block size in bytes. Linux mounts 4096 everywhere.
    #[arg(long, value_name = "BYTES", default_value = "4096", value_parser = block_bits)]
    pub block_size: u8,
    /// Keep the image as chunks in this store.
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// Name of the image in the store, if it is not to be that of the source.
    #[arg(long, value_name = "NAME", requires = "store")]
    pub name: Option<String>,
    /// Size of the store's chunks in bytes, a power of 2 from 4096 on.
    #[arg(long, value_name = "BYTES", default_value_t = 256 * 1024, requires = "store")]
    pub chunk_size: u32,
    /// Say nothing but errors.
    #[arg(long, short)]
    pub quiet: bool,
}

/// Kinds of sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum From {
    /// A directory.
    Dir,
    /// An archive, a container layer: tar, also compressed.
    Tar,
    /// An OCI image layout: a directory, or an archive of one.
    Oci,
    /// A directory with a config.json: the root directory that this names.
    Bundle,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Describe an image.
    Info {
        /// The image's file.
        image: PathBuf,
    },
    /// List a directory of an image.
    Ls {
        /// Kind, permissions, links, owner, size and time too.
        #[arg(short, long)]
        long: bool,
        /// All that is beneath it too.
        #[arg(short = 'R', long)]
        recursive: bool,
        /// The image's file.
        image: PathBuf,
        /// A path in the image.
        #[arg(default_value = "/")]
        path: PathBuf,
    },
    /// Print files of an image.
    Cat {
        /// The image's file.
        image: PathBuf,
        /// Paths in the image; symbolic links are followed.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Print what is known of files of an image.
    Stat {
        /// The image's file.
        image: PathBuf,
        /// Paths in the image; symbolic links are not followed.
        #[arg(default_value = "/")]
        paths: Vec<PathBuf>,
    },
    /// Read everything in an image, and say what is wrong with it.
    Verify {
        /// The image's file.
        image: PathBuf,
        /// Say nothing but errors.
        #[arg(long, short)]
        quiet: bool,
    },
    /// Copy an image's files to a new directory.
    Extract {
        /// The image's file.
        image: PathBuf,
        /// The directory, which must be empty or not there.
        dir: PathBuf,
        /// Say nothing but errors.
        #[arg(long, short)]
        quiet: bool,
    },
    /// Assemble an image from the chunks that an index names.
    Fetch {
        /// The index: a file.
        index: PathBuf,
        /// Where the chunks are: a store's directory, http://HOST/STORE, or the http:// address of a whole image.
        #[arg(long, value_name = "DIR|URL")]
        source: String,
        /// The image to write.
        output: PathBuf,
        /// Say nothing but errors.
        #[arg(long, short)]
        quiet: bool,
    },
    /// Set which chunks of an index are to be fetched first.
    Prefetch {
        /// The index, which is written anew.
        index: PathBuf,
        /// A file with a chunk's number on each line, the first to be fetched first; "-" is standard input.
        list: PathBuf,
    },
    /// Remove the chunks of a store that no index in it names.
    Gc {
        /// The store.
        #[arg(long, value_name = "DIR")]
        store: PathBuf,
        /// Say what would be removed, and remove nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

fn owner(text: &str) -> Result<(u32, u32), String> {
    let parsed = text.split_once(':').and_then(|(u, g)| Some((u.parse().ok()?, g.parse().ok()?)));
    parsed.ok_or_else(|| "two numbers with a colon between them, such as 1000:1000".into())
}

fn label(text: &str) -> Result<String, String> {
    if text.len() > 16 { Err("at most 16 bytes".into()) } else { Ok(text.into()) }
}

fn block_bits(text: &str) -> Result<u8, String> {
    let size: u32 = text.parse().map_err(|_| "a number of bytes".to_owned())?;
    if !size.is_power_of_two() || !(512..=65_536).contains(&size) {
        return Err("a power of 2 from 512 to 65536".into());
    }
    u8::try_from(size.trailing_zeros()).map_err(|e| e.to_string())
}
