//! Keeping images in a store, and removing what none needs.

use super::index::Index;
use super::source::DirSource;
use crate::build::beside;
use crate::failure::{Context, Failure, shown};
use crate::progress::Progress;
use blake3::Hash;
use rustix::fs::FlockOperation;
use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A store's directory.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
}

/// What keeping an image took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Chunks that were written.
    pub new: u64,
    /// Chunks that were there, in the store or earlier in the image.
    pub shared: u64,
    /// Chunks of zeros, which are not kept.
    pub zero: u64,
}

/// What a collection found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Chunks that some index names.
    pub kept: u64,
    /// Chunks that none names.
    pub removed: u64,
    /// Bytes of these.
    pub bytes: u64,
}

/// How old a temporary file must be before a collection takes it for a leftover.
const LEFTOVER_AGE: std::time::Duration = std::time::Duration::from_secs(3600);

impl Store {
    /// The store at `dir`, which is made if it is not there.
    ///
    /// # Errors
    /// What making it says.
    pub fn create(dir: &Path) -> Result<Self, Failure> {
        for part in ["chunks", "images"] {
            fs::create_dir_all(dir.join(part)).when("create the store", dir)?;
        }
        Ok(Self { dir: dir.to_path_buf() })
    }

    /// The store at `dir`, which must be there.
    ///
    /// # Errors
    /// [`Failure::Input`] if it is not.
    pub fn open(dir: &Path) -> Result<Self, Failure> {
        if !dir.join("chunks").is_dir() || !dir.join("images").is_dir() {
            let object = dir.display().to_string();
            return Err(Failure::input(object, "not a store", "name one that mkrofs --store made"));
        }
        Ok(Self { dir: dir.to_path_buf() })
    }

    /// The store's chunks, to be fetched.
    pub fn source(&self) -> DirSource {
        DirSource::new(&self.dir)
    }

    /// Where the index of an image is.
    ///
    /// # Errors
    /// [`Failure::Input`] for a name that no file can have.
    pub fn index_path(&self, name: &str) -> Result<PathBuf, Failure> {
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) || name.len() > 200 {
            return Err(Failure::input(
                shown(name.as_bytes()),
                "not a name for an image",
                "choose one by --name",
            ));
        }
        Ok(self.dir.join("images").join(format!("{name}.index")))
    }

    /// A file for temporary data of this store.
    pub fn temporary(&self) -> Result<tempfile::NamedTempFile, Failure> {
        beside(&self.dir.join("image"))
    }

    /// Keeps an image as chunks, and its index under `name`.
    ///
    /// # Errors
    /// What reading and writing say.
    pub fn keep(
        &self,
        image: &File,
        name: &str,
        chunk_size: u32,
        progress: &dyn Progress,
    ) -> Result<(Index, Kept), Failure> {
        let path = self.index_path(name)?;
        let length = image.metadata().when("look at", "the image")?.len();
        // Sizes are checked before anything is written.
        let count = length.div_ceil(u64::from(chunk_size.max(1)));
        let none = vec![None; usize::try_from(count).unwrap_or(0)];
        Index::new(length, chunk_size, blake3::hash(&[]), none)?;
        // Chunks that are there must stay until the index that names them is.
        let _lock = self.lock(FlockOperation::LockShared)?;
        progress.stage("storing", Some(length));
        let mut kept = Kept::default();
        let mut whole = blake3::Hasher::new();
        let mut chunks = Vec::new();
        let mut buffer = vec![0; usize::try_from(chunk_size).unwrap_or(0)];
        let mut offset = 0;
        while offset < length {
            let take = length.saturating_sub(offset).min(u64::from(chunk_size));
            let data = buffer.get_mut(..usize::try_from(take).unwrap_or(0)).unwrap_or_default();
            image.read_exact_at(data, offset).when("read", "the image")?;
            whole.update(data);
            chunks.push(self.keep_chunk(data, &mut kept)?);
            offset = offset.saturating_add(take);
            progress.advance(take);
        }
        let index = Index::new(length, chunk_size, whole.finalize(), chunks)?;
        index.save(&path)?;
        Ok((index, kept))
    }

    fn keep_chunk(&self, data: &[u8], kept: &mut Kept) -> Result<Option<Hash>, Failure> {
        if data.iter().all(|b| *b == 0) {
            kept.zero = kept.zero.saturating_add(1);
            return Ok(None);
        }
        let digest = blake3::hash(data);
        let path = self.source().path(&digest);
        // A chunk has its name only once it is whole; one of another length was damaged since.
        if fs::metadata(&path).is_ok_and(|m| m.is_file() && m.len() == data.len() as u64) {
            kept.shared = kept.shared.saturating_add(1);
            return Ok(Some(digest));
        }
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).when("create", dir)?;
        }
        let file = beside(&path)?;
        file.as_file().write_all_at(data, 0).when("write the chunk", &path)?;
        file.persist(&path).map_err(|e| e.error).when("rename the finished file to", &path)?;
        kept.new = kept.new.saturating_add(1);
        Ok(Some(digest))
    }

    /// Removes the chunks that no index of the store names; only counts them if `dry`.
    ///
    /// # Errors
    /// What reading says; also if an index cannot be understood, since its chunks would be lost.
    pub fn collect(&self, dry: bool) -> Result<Collected, Failure> {
        let _lock = self.lock(FlockOperation::LockExclusive)?;
        let mut named: HashSet<String> = HashSet::new();
        for path in list(&self.dir.join("images"))? {
            if path.extension().is_some_and(|e| e == "index") {
                let index = Index::load(&path)?;
                named.extend(index.chunks().iter().flatten().map(|h| h.to_string()));
            }
        }
        let mut found = Collected::default();
        for dir in list(&self.dir.join("chunks"))?.iter().filter(|d| d.is_dir()) {
            for path in list(dir)? {
                let name = path.file_name().map_or(&[][..], OsStrExt::as_bytes);
                let meta = fs::symlink_metadata(&path).when("look at", &path)?;
                let is_chunk = name.len() == 64 && name.iter().all(u8::is_ascii_hexdigit);
                let old =
                    || meta.modified().ok().and_then(|t| t.elapsed().ok()).is_some_and(|a| a > LEFTOVER_AGE);
                if is_chunk && str::from_utf8(name).is_ok_and(|n| named.contains(n)) {
                    found.kept = found.kept.saturating_add(1);
                } else if is_chunk || (name.starts_with(b".mkrofs-") && old()) {
                    found.removed = found.removed.saturating_add(1);
                    found.bytes = found.bytes.saturating_add(meta.len());
                    if !dry {
                        fs::remove_file(&path).when("remove", &path)?;
                    }
                }
            }
        }
        Ok(found)
    }

    fn lock(&self, operation: FlockOperation) -> Result<File, Failure> {
        let path = self.dir.join("lock");
        let file =
            File::options().create(true).truncate(false).write(true).open(&path).when("open", &path)?;
        rustix::fs::flock(&file, operation).when("lock", &path)?;
        Ok(file)
    }
}

fn list(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    fs::read_dir(dir).when("list", dir)?.map(|e| e.map(|e| e.path()).when("list", dir)).collect()
}
