//! What images are built from: directories, archives of container layers, container images, bundles.

mod archive;
mod bundle;
mod compression;
mod directory;
mod layer;
mod oci;
mod pax;
mod spool;

pub use bundle::{add_bundle, bundle_root};
pub use compression::decompressed;
pub use directory::add_directory;
pub use layer::{add_archive, looks_like_oci};
pub use oci::{Choice, add_oci};
pub use spool::Spool;
