//! What can go wrong with reading an image.

use super::source::SourceError;
use core::fmt;

/// Why an image, or something in it, could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// This is no EROFS image at all.
    NotErofs,
    /// A correct image that needs what is not there in this reader, by name. `EOPNOTSUPP` to a guest.
    Unsupported(&'static str),
    /// The image contradicts itself, in the way that is named. `EUCLEAN` to a guest.
    Corrupt(&'static str),
    /// The operation does not fit the kind of file: what it would have to be. `ENOTDIR`, `EINVAL` to a guest.
    WrongKind(&'static str),
    /// The image's bytes could not be read. `EIO` to a guest.
    Io,
    /// The image's bytes are not there yet: fetch the chunk, then ask again.
    Absent,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotErofs => f.write_str("not an EROFS image"),
            Self::Unsupported(what) => {
                write!(f, "the image has what this reader does not support: {what}; rebuild it by mkrofs")
            }
            Self::Corrupt(what) => write!(f, "the image is damaged: {what}"),
            Self::WrongKind(what) => write!(f, "not a {what}"),
            Self::Io => f.write_str("the image's file cannot be read"),
            Self::Absent => f.write_str("this part of the image has not been fetched yet"),
        }
    }
}

impl core::error::Error for Error {}

impl From<SourceError> for Error {
    fn from(error: SourceError) -> Self {
        match error {
            // All offsets are checked against the length before: the image has become shorter.
            SourceError::OutOfRange | SourceError::Io => Self::Io,
            SourceError::Absent => Self::Absent,
        }
    }
}
