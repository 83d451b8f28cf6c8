//! Read-only images of file systems: one file that is mapped and read as memory, never unpacked and never mounted.
//!
//! The format is EROFS as Linux mounts it, without compression: `docs/rofs.md` says what of it is read and written.
//!
//! * The **reader** ([`Image`]) is `no_std` and allocates nothing. It trusts no byte of an image: whatever is in
//!   there, the answer is data or an [`Error`]; never a panic, a loop without end or a read outside of the image.
//! * The **builder** (`build`, `input`; feature `std`) makes images from directories, archives and container images.
//! * The **store** (`store`; feature `std`) keeps images as chunks that they share, and fetches them on demand.
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unreachable,
        clippy::todo
    )
)]

#[cfg(feature = "std")]
pub mod build;
#[cfg(feature = "std")]
pub mod failure;
pub mod format;
#[cfg(feature = "std")]
pub mod input;
pub mod presence;
#[cfg(feature = "std")]
pub mod progress;
#[cfg(feature = "std")]
pub mod store;
#[cfg(feature = "std")]
pub mod tree;
#[cfg(feature = "std")]
pub mod verify;

mod read;

#[cfg(feature = "std")]
pub use failure::Failure;

pub use presence::{Partial, Presence};
pub use read::{
    Device, Error, Extent, FileKind, Image, Info, Inode, Layout, Nid, Source, SourceError, Verify, XattrEntry,
};
