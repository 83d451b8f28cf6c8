//! The mounts of config.json as the sentry takes them, and the host files that they need.

use std::fs;
use std::path::{Path, PathBuf};

use abi::spec::{MountSource, MountSpec};
use oci_spec::runtime::Mount;

use crate::Error;

/// File systems that the sentry has by itself.
const INTERNAL: &[&str] = &["proc", "sysfs", "tmpfs", "devtmpfs", "devpts", "mqueue", "cgroup", "cgroup2"];
/// The type of an image of a file system.
const IMAGE: &str = "erofs";
/// Options that are served here and not handed on.
const TAKEN: &[&str] = &[
    "bind",
    "rbind",
    "ro",
    "rw",
    "defaults",
    "private",
    "rprivate",
    "slave",
    "rslave",
    "unbindable",
    "runbindable",
    "rro",
    "rrw",
    "tmpcopyup",
];
/// Options that are handed on, and served by the sentry for every file system.
const FLAGS: &[&str] = &[
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "noatime",
    "nodiratime",
    "relatime",
    "strictatime",
    "nosymfollow",
];
/// Options that would let mounts of the container appear on the host.
const REFUSED: &[&str] = &["shared", "rshared", "idmap", "ridmap"];

/// A host directory or file that a container is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Donation {
    /// Its absolute path.
    pub path: PathBuf,
    /// Whether the container may change it.
    pub writable: bool,
    /// Whether it is a directory.
    pub directory: bool,
}

/// Collects what is donated; an index is the number by which the sentry names it.
#[derive(Debug, Default)]
pub struct Donations {
    /// Directories and files.
    pub files: Vec<Donation>,
    /// Images of file systems, which have numbers of their own.
    pub images: Vec<PathBuf>,
}

impl Donations {
    /// Adds one and returns its index.
    pub fn add(&mut self, donation: Donation) -> u32 {
        self.files.push(donation);
        self.files.len() as u32 - 1
    }

    /// Adds an image and returns its index. One that is mounted more than once is one.
    pub fn add_image(&mut self, path: PathBuf) -> u32 {
        let known = self.images.iter().position(|image| *image == path);
        known.unwrap_or_else(|| {
            self.images.push(path);
            self.images.len() - 1
        }) as u32
    }
}

/// Options of mounts that have an effect, or are accepted, beyond those of a file system.
pub fn options() -> Vec<&'static str> {
    let mut all: Vec<&str> = TAKEN.iter().chain(FLAGS).copied().collect();
    all.sort_unstable();
    all
}

/// Converts one mount.
pub fn convert(mount: &Mount, bundle: &Path, donations: &mut Donations) -> Result<MountSpec, Error> {
    let target = mount.destination().display();
    let options = mount.options().as_deref().unwrap_or_default();
    let has = |name: &str| options.iter().any(|option| option == name);
    if let Some(refused) = options.iter().find(|option| REFUSED.contains(&option.as_str())) {
        return Err(Error::invalid("mounts", format!("{target}: option {refused} is not supported")));
    }
    let kind = mount.typ().as_deref().unwrap_or_default();
    // An image has no way to be written; as a root it has a layer in memory over it.
    let readonly = has("ro") || has("rro") || kind == IMAGE;
    let source = if kind == "bind" || has("bind") || has("rbind") {
        let source = mount
            .source()
            .as_ref()
            .ok_or_else(|| Error::invalid("mounts", format!("{target}: has no source")))?;
        let path = bundle.join(source);
        let meta = fs::metadata(&path)
            .map_err(|e| Error::invalid("mounts", format!("{target}: source {}: {e}", path.display())))?;
        let directory = meta.is_dir();
        if !directory && !meta.is_file() {
            let reason =
                format!("{target}: source {} is neither a directory nor a regular file", path.display());
            return Err(Error::invalid("mounts", reason));
        }
        let root = donations.add(Donation { path, writable: !readonly, directory });
        MountSource::Bind { root, directory }
    } else if kind == IMAGE {
        let source = mount.source().as_ref();
        let source = source.ok_or_else(|| Error::invalid("mounts", format!("{target}: has no source")))?;
        let path = bundle.join(source);
        let path = path.canonicalize().ok().filter(|path| path.is_file()).ok_or_else(|| {
            Error::invalid("mounts", format!("{target}: source {} is no image", path.display()))
        })?;
        MountSource::Image { image: donations.add_image(path) }
    } else if INTERNAL.contains(&kind) {
        // As runc has it: this type is whatever the host has.
        let kind = if kind == "cgroup" && crate::cgroup::unified() { "cgroup2" } else { kind };
        MountSource::Internal { fstype: kind.to_string() }
    } else {
        return Err(Error::invalid(
            "mounts",
            format!("{target}: file system type {kind:?} is not supported"),
        ));
    };
    let destination = mount.destination().to_string_lossy();
    let destination =
        if destination.starts_with('/') { destination.into_owned() } else { format!("/{destination}") };
    let options = options.iter().filter(|option| !TAKEN.contains(&option.as_str())).cloned().collect();
    Ok(MountSpec { destination, source, readonly, options })
}
