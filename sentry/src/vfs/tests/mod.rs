//! Unit tests of the VFS, over file systems in memory and over a temporary directory of the host.

mod data;
mod differential;
mod objects;
mod overlay;
mod streams;
mod support;
mod tree;
