//! The store: images as chunks that they share.
//!
//! ```text
//! STORE/chunks/ab/abcdef…   a chunk, named by the BLAKE3 digest of its bytes
//! STORE/images/NAME.index   an image: its chunks in order
//! STORE/lock                held while chunks are written or removed
//! ```
//!
//! Whoever has an index has the digest of every chunk, so chunks may come from anywhere: each is verified.

mod http;
mod index;
mod keep;
mod source;

pub use http::HttpSource;
pub use index::{Index, MAX_CHUNK, MIN_CHUNK, write_prefetch};
pub use keep::{Collected, Kept, Store};
pub use source::{ChunkSource, DirSource, assemble, fetch_chunk};
