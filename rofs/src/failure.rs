//! What can go wrong on the side of the host: building, storing, fetching, and the tool.

use std::io;
use std::path::Path;

/// Why an image could not be made, stored or looked at. Each names the object, what was done, and what helps.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The host's file system or network said no.
    #[error("cannot {action} {object}: {source}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// With what.
        object: String,
        /// What the host said.
        source: io::Error,
    },
    /// What was given to build from cannot be used.
    #[error("{object}: {reason}; {remedy}")]
    Input {
        /// Which part of it.
        object: String,
        /// What is wrong.
        reason: String,
        /// What would help.
        remedy: &'static str,
    },
    /// An image could not be read.
    #[error("{object}: {source}")]
    Image {
        /// The image's file, and the place in it.
        object: String,
        /// What the reader said.
        source: crate::Error,
    },
    /// Content is not what its digest promises.
    #[error("{object} is not what its digest says: expected {expected}, found {found}; fetch it again")]
    Digest {
        /// Which content.
        object: String,
        /// As promised.
        expected: String,
        /// As found.
        found: String,
    },
}

impl Failure {
    /// An input that cannot be used.
    pub fn input(object: impl Into<String>, reason: impl Into<String>, remedy: &'static str) -> Self {
        Self::Input { object: object.into(), reason: reason.into(), remedy }
    }
}

/// Says what was being done when an error of the host came.
pub trait Context<T> {
    /// Names the action, a verb, and the object.
    ///
    /// # Errors
    /// Those of `self`, named.
    fn when(self, action: &'static str, object: impl AsRef<Path>) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn when(self, action: &'static str, object: impl AsRef<Path>) -> Result<T, Failure> {
        self.map_err(|source| Failure::Io {
            action,
            object: object.as_ref().display().to_string(),
            source: source.into(),
        })
    }
}

/// A name of a file in a message: bytes that are not text are shown as escapes.
pub fn shown(name: &[u8]) -> String {
    name.utf8_chunks().fold(String::new(), |mut text, chunk| {
        text.extend(chunk.valid().chars().flat_map(|c| {
            let plain = !c.is_control();
            plain.then_some(c).into_iter().chain((!plain).then(|| c.escape_default()).into_iter().flatten())
        }));
        chunk.invalid().iter().for_each(|b| text.push_str(&format!("\\x{b:02x}")));
        text
    })
}
