//! The reader: images as they are found, each byte of them doubted.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::cast_possible_truncation))]

mod data;
mod dir;
mod error;
mod image;
mod inode;
mod source;
mod xattr;

pub use data::Extent;
pub use error::Error;
pub use image::{Image, Info, Verify};
pub use inode::{Device, FileKind, Inode, Layout, Nid};
pub use source::{Source, SourceError};
pub use xattr::XattrEntry;
