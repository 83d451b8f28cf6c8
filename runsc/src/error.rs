//! What a command can fail with.

use std::io;

use abi::control::Failure;

/// Failure of a command, as it is shown to the user.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A bundle, state or host resource.
    #[error(transparent)]
    Oci(#[from] oci::Error),
    /// A snapshot.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// The machine or its host side.
    #[error(transparent)]
    Platform(#[from] platform::Error),
    /// The container could not be made or its program not be started.
    #[error("unable to start container process: {0}")]
    Start(String),
    /// A further process could not be started in the container.
    #[error("exec failed: {0}")]
    Exec(Box<Error>),
    /// The sandbox process failed.
    #[error("sandbox failed: {0}")]
    Sandbox(String),
    /// An image of a file system cannot be used.
    #[error("image {}: {reason}", path.display())]
    Image {
        /// The image.
        path: std::path::PathBuf,
        /// Why.
        reason: String,
    },
    /// The sandbox process was killed.
    #[error("the sandbox process of container {id:?} was killed by {signal} before the container ended")]
    Killed {
        /// The container.
        id: String,
        /// The signal.
        signal: String,
    },
    /// The sentry refused a command.
    #[error("{0}")]
    Refused(String),
    /// The command does not fit the container's status, in the words of the runtime specification's callers.
    #[error("{0}")]
    Status(String),
    /// Wrong use of the command line.
    #[error("{0}")]
    Usage(String),
    /// A request of the host's operating system failed.
    #[error("{operation}: {source}")]
    Os {
        /// What was tried, with its object.
        operation: String,
        /// The host's answer.
        source: io::Error,
    },
}

impl Error {
    /// Exit code of a command that fails so: 255 where `exec` does, as runc's callers expect, else 1.
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::Exec(_)) { 255 } else { 1 }
    }

    /// A failed request of the operating system.
    pub fn os(operation: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Os { operation: operation.into(), source: source.into() }
    }

    /// A failure that the sentry told of: its context with the text of its errno.
    pub fn describe(failure: &Failure) -> String {
        let text = nix::errno::Errno::from_raw(failure.errno).desc();
        let mut text = text.to_string();
        // As strerror(3) words it, but in lower case: sentences of the runtime's callers look for that.
        if let Some(first) = text.get_mut(..1) {
            first.make_ascii_lowercase();
        }
        format!("{}: {text}", failure.context)
    }
}

/// A message without the numbers that `std::io::Error` puts behind its texts: ` (os error 2)`.
pub fn plain(message: &str) -> String {
    let mut text = message.to_string();
    while let Some(start) = text.find(" (os error ") {
        let Some(len) = text[start..].find(')') else { break };
        text.replace_range(start..=start + len, "");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_plain() {
        let error = Error::os("opening x", io::Error::from_raw_os_error(2));
        assert_eq!(plain(&error.to_string()), "opening x: No such file or directory");
        assert_eq!(plain("a (os error 1): b (os error 22)"), "a: b");
        assert_eq!(plain("a (os error "), "a (os error ");
    }

    #[test]
    fn failures_of_the_sentry_read_as_runc_words_them() {
        let failure = Failure { errno: 2, context: "exec: \"/nosuch\": stat /nosuch".into() };
        let error = Error::Start(Error::describe(&failure));
        assert_eq!(
            error.to_string(),
            "unable to start container process: exec: \"/nosuch\": stat /nosuch: no such file or directory"
        );
    }
}
