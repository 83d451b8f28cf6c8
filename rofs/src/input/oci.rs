//! Container images as OCI image layouts: a directory with `index.json` and blobs, or an archive of one.

use super::layer::{add_archive, unpack_some};
use super::spool::Spool;
use crate::failure::{Context, Failure, shown};
use crate::progress::Progress;
use crate::tree::Layers;
use oci_spec::image::{Descriptor, Digest, DigestAlgorithm, ImageIndex, ImageManifest, MediaType};
use sha2::Digest as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The annotation that names an image in a layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The one that some tools write instead.
const FULL_NAME: &str = "io.containerd.image.name";
/// How deep indexes may name each other.
const MAX_DEPTH: u32 = 4;
/// Indexes and manifests are shorter than this.
const MAX_DOCUMENT: u64 = 16 << 20;

/// Which image of a layout.
#[derive(Clone, Debug)]
pub struct Choice<'a> {
    /// Its name, or its digest; the only one if there is none.
    pub reference: Option<&'a str>,
    /// Operating system and architecture, as `linux/amd64`.
    pub platform: &'a str,
}

/// Adds each layer of a container image as a layer of its own. `source` is the directory of a layout, or an archive of
/// one, which is unpacked to a temporary directory in `work` first. All digests are verified.
///
/// # Errors
/// [`Failure::Input`] if no such image is there, [`Failure::Digest`], and as [`add_archive`].
pub fn add_oci(
    layers: &mut Layers,
    source: &Path,
    choice: &Choice<'_>,
    work: &Path,
    spool: &mut Spool,
    progress: &dyn Progress,
) -> Result<(), Failure> {
    let unpacked;
    let layout = if source.is_dir() {
        source
    } else {
        progress.stage("unpacking", None);
        unpacked = unpack(source, work)?;
        unpacked.path()
    };
    let index_path = layout.join("index.json");
    let text = document(File::open(&index_path).when("open", &index_path)?, &index_path)?;
    let index = ImageIndex::from_reader(text.as_slice()).map_err(|e| unreadable(&index_path, &e))?;
    let manifest = choose(layout, &index, choice)?;
    for descriptor in manifest.layers() {
        layers.begin_layer();
        let (mut blob, path) = Blob::open(layout, descriptor)?;
        add_archive(layers, &mut blob, &path.display().to_string(), spool, progress)?;
        blob.finish(&path)?;
    }
    Ok(())
}

/// Unpacks the archive of a layout: the index and the blobs, by names that are made here.
fn unpack(source: &Path, work: &Path) -> Result<tempfile::TempDir, Failure> {
    let dir = tempfile::Builder::new()
        .prefix(".mkrofs-oci-")
        .tempdir_in(work)
        .when("create a directory in", work)?;
    let root = dir.path().to_path_buf();
    let file = File::open(source).when("open", source)?;
    unpack_some(file, &source.display().to_string(), |path| match path {
        [b"index.json"] => Some(root.join("index.json")),
        [b"blobs", algorithm @ (b"sha256" | b"sha512"), hex] if is_hex(hex) => {
            let dir = root.join("blobs").join(str::from_utf8(algorithm).ok()?);
            std::fs::create_dir_all(&dir).ok()?;
            Some(dir.join(str::from_utf8(hex).ok()?))
        }
        _ => None,
    })?;
    Ok(dir)
}

fn is_hex(text: &[u8]) -> bool {
    matches!(text.len(), 64 | 128) && text.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The manifest of the chosen image.
fn choose(layout: &Path, index: &ImageIndex, choice: &Choice<'_>) -> Result<ImageManifest, Failure> {
    let object = || layout.display().to_string();
    let named: Vec<&Descriptor> = match choice.reference {
        Some(wanted) => index.manifests().iter().filter(|d| is_named(d, wanted)).collect(),
        None => index.manifests().iter().collect(),
    };
    let mut found = Vec::new();
    for descriptor in &named {
        resolve(layout, descriptor, choice.platform, 0, &mut found)?;
    }
    found.dedup_by(|a, b| a.0 == b.0);
    let names = || {
        let all = index.manifests().iter().map(|d| name_of(d).unwrap_or_else(|| d.digest().to_string()));
        all.collect::<Vec<_>>().join(", ")
    };
    match (found.pop(), found.is_empty()) {
        (Some((_, manifest)), true) => Ok(manifest),
        (Some(_), false) => {
            let reason = format!("several images are in it: {}", names());
            Err(Failure::input(object(), reason, "choose one by --ref"))
        }
        (None, _) => {
            let wanted = choice.reference.map_or_else(String::new, |r| format!(" {}", shown(r.as_bytes())));
            let reason = format!("no image{wanted} for {} in it, but {}", choice.platform, names());
            Err(Failure::input(object(), reason, "choose another by --ref or --platform"))
        }
    }
}

fn name_of(descriptor: &Descriptor) -> Option<String> {
    let annotations = descriptor.annotations().as_ref()?;
    annotations.get(FULL_NAME).or_else(|| annotations.get(REF_NAME)).cloned()
}

fn is_named(descriptor: &Descriptor, wanted: &str) -> bool {
    let has =
        |key| descriptor.annotations().as_ref().and_then(|a| a.get(key)).is_some_and(|name| name == wanted);
    has(REF_NAME) || has(FULL_NAME) || descriptor.digest().as_ref() == wanted
}

/// Finds manifests for a platform behind a descriptor, through indexes.
fn resolve(
    layout: &Path,
    descriptor: &Descriptor,
    platform: &str,
    depth: u32,
    found: &mut Vec<(String, ImageManifest)>,
) -> Result<(), Failure> {
    let other = descriptor.platform().as_ref().is_some_and(|p| {
        let this = format!("{}/{}", p.os(), p.architecture());
        this != platform && !this.is_empty()
    });
    if other || depth > MAX_DEPTH {
        return Ok(());
    }
    let is_index = match descriptor.media_type() {
        MediaType::ImageIndex => true,
        MediaType::ImageManifest => false,
        MediaType::Other(other) if other.ends_with("manifest.list.v2+json") => true,
        MediaType::Other(other) if other.ends_with("manifest.v2+json") => false,
        _ => return Ok(()),
    };
    let (mut blob, path) = Blob::open(layout, descriptor)?;
    let text = document(&mut blob, &path)?;
    blob.finish(&path)?;
    if !is_index {
        let manifest = ImageManifest::from_reader(text.as_slice()).map_err(|e| unreadable(&path, &e))?;
        found.push((descriptor.digest().to_string(), manifest));
        return Ok(());
    }
    let index = ImageIndex::from_reader(text.as_slice()).map_err(|e| unreadable(&path, &e))?;
    for inner in index.manifests() {
        resolve(layout, inner, platform, depth.saturating_add(1), found)?;
    }
    Ok(())
}

fn document(stream: impl Read, path: &Path) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    stream.take(MAX_DOCUMENT).read_to_end(&mut text).when("read", path)?;
    Ok(text)
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::input(path.display().to_string(), error.to_string(), "fetch the image again")
}

/// Digests that OCI has.
enum Hasher {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

/// A blob that is read, and its digest on the way.
struct Blob<'a> {
    file: File,
    hasher: Hasher,
    digest: &'a Digest,
}

impl<'a> Blob<'a> {
    fn open(layout: &Path, descriptor: &'a Descriptor) -> Result<(Self, PathBuf), Failure> {
        let digest = descriptor.digest();
        let (name, hasher) = match digest.algorithm() {
            DigestAlgorithm::Sha256 => ("sha256", Hasher::Sha256(sha2::Sha256::new())),
            DigestAlgorithm::Sha512 => ("sha512", Hasher::Sha512(sha2::Sha512::new())),
            other => {
                let reason = format!("a digest by {other}, which is not known here");
                return Err(Failure::input(digest.to_string(), reason, "use sha256"));
            }
        };
        if !is_hex(digest.digest().as_bytes()) {
            return Err(Failure::input(digest.to_string(), "not a digest", "fetch the image again"));
        }
        let path = layout.join("blobs").join(name).join(digest.digest());
        let file = File::open(&path).when("open", &path)?;
        Ok((Self { file, hasher, digest }, path))
    }

    /// Reads the rest, and compares.
    fn finish(mut self, path: &Path) -> Result<(), Failure> {
        io::copy(&mut self, &mut io::sink()).when("read", path)?;
        let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |text, b| text + &format!("{b:02x}"));
        let found = match self.hasher {
            Hasher::Sha256(hasher) => hex(&hasher.finalize()),
            Hasher::Sha512(hasher) => hex(&hasher.finalize()),
        };
        let expected = self.digest.digest().to_owned();
        if found == expected {
            return Ok(());
        }
        Err(Failure::Digest { object: path.display().to_string(), expected, found })
    }
}

impl Read for Blob<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(out)?;
        let data = out.get(..count).unwrap_or_default();
        match &mut self.hasher {
            Hasher::Sha256(hasher) => hasher.update(data),
            Hasher::Sha512(hasher) => hasher.update(data),
        }
        Ok(count)
    }
}
