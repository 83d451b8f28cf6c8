//! What can go wrong with bundles and state.

use std::io;
use std::path::PathBuf;

/// Failure that concerns a bundle, a container's state or its host resources.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no config.json.
    #[error("JSON specification file {path} not found; `runsc spec` writes a template")]
    ConfigMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// config.json is not JSON, or not of the right shape.
    #[error("parsing {path}: {reason}")]
    ConfigMalformed {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        reason: String,
    },
    /// config.json asks for something that is wrong.
    #[error("config.json: {field}: {reason}")]
    ConfigInvalid {
        /// The field.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The identifier is not one.
    #[error("invalid container ID format: {id:?}; use letters, digits, `_`, `+`, `-` and `.`")]
    InvalidId {
        /// The identifier.
        id: String,
    },
    /// The identifier is taken.
    #[error("container with given ID already exists")]
    Exists,
    /// There is no such container.
    #[error("container does not exist")]
    NotFound,
    /// The state file of a container is damaged.
    #[error("state of container {id:?} is damaged: {reason}; remove it with `runsc delete --force {id}`")]
    StateMalformed {
        /// The container.
        id: String,
        /// What is wrong.
        reason: String,
    },
    /// A hook failed.
    #[error("error running {stage} hook #{index}: {reason}")]
    Hook {
        /// Name of the list in config.json.
        stage: &'static str,
        /// Number of the hook in it.
        index: usize,
        /// What happened.
        reason: String,
    },
    /// The kernel refuses a limit. The words are those of runc.
    #[error("failed to write {value:?}: write {}: {}", path.display(), lower(source))]
    Limit {
        /// What was written.
        value: String,
        /// Where.
        path: PathBuf,
        /// The host's answer.
        source: io::Error,
    },
    /// A file operation failed.
    #[error("{operation} {path}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The host's answer.
        source: io::Error,
    },
}

/// The host's answer as Go words it, which begins in lower case.
fn lower(error: &io::Error) -> String {
    let mut text = error.to_string();
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    text
}

impl Error {
    /// A failed file operation.
    pub fn io(operation: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self::Io { operation, path: path.into(), source: source.into() }
    }

    /// A wrong field of config.json.
    pub fn invalid(field: &'static str, reason: impl Into<String>) -> Self {
        Self::ConfigInvalid { field, reason: reason.into() }
    }
}
