//! A temporary file for data that can be read once only.

use crate::failure::{Context, Failure};
use crate::tree::{Analyser, Content, Copied};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Data of archives, until the image is written. Equal data is kept once, holes are not kept.
#[derive(Debug)]
pub struct Spool {
    file: Arc<File>,
    end: u64,
    known: HashMap<[u8; 32], u64>,
}

impl Spool {
    /// An empty spool without a name in `dir`, which should be on the disk that the image goes to.
    ///
    /// # Errors
    /// What creating it says.
    pub fn new(dir: &Path) -> Result<Self, Failure> {
        let file = tempfile::tempfile_in(dir).when("create a temporary file in", dir)?;
        Ok(Self { file: Arc::new(file), end: 0, known: HashMap::new() })
    }

    /// Takes what `feed` hands to the analyser.
    ///
    /// # Errors
    /// Those of `feed` and of writing.
    pub fn take(&mut self, feed: impl FnOnce(&mut dyn Feed) -> io::Result<()>) -> io::Result<Content> {
        let start = self.end;
        let mut at = start;
        let file = Arc::clone(&self.file);
        let mut analyser = Analyser::new(|data: &[u8]| {
            file.write_all_at(data, at)?;
            at = at.saturating_add(data.len() as u64);
            Ok(())
        });
        feed(&mut analyser)?;
        let copied: Copied = analyser.finish()?;
        drop(analyser);
        let place = *self.known.entry(copied.digest).or_insert(start);
        if place == start {
            self.end = at;
        }
        Ok(Content::spooled(copied, file, place))
    }
}

/// Whoever takes a file's data in order.
pub trait Feed {
    /// The next bytes.
    ///
    /// # Errors
    /// Those of writing.
    fn push(&mut self, data: &[u8]) -> io::Result<()>;
    /// So many zeros.
    ///
    /// # Errors
    /// Those of writing.
    fn skip(&mut self, len: u64) -> io::Result<()>;
}

impl<F: FnMut(&[u8]) -> io::Result<()>> Feed for Analyser<F> {
    fn push(&mut self, data: &[u8]) -> io::Result<()> {
        Self::push(self, data)
    }

    fn skip(&mut self, len: u64) -> io::Result<()> {
        Self::skip(self, len)
    }
}
