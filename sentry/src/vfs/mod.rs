//! Paths, mounts, dentries, file descriptions, tables of descriptors, locks, permissions.

pub mod anon;
pub mod async_io;
pub mod attr;
pub mod dentry;
pub mod epoll_link;
pub mod exec;
pub mod fdtable;
pub mod file;
pub mod hooks;
pub mod inode;
pub mod leases;
pub mod locks;
pub mod mount;
pub mod namei;
pub mod notify;
pub mod open;
pub mod path;
pub mod perm;
pub mod rw;
pub mod setup;
pub mod state;
#[cfg(test)]
mod tests;
pub mod uapi;
pub mod walk;

pub use exec::exec_open;
pub use fdtable::FdTable;
pub use file::OpenFile;
pub use mount::{Mount, MountNs};
pub use path::Path;
pub use state::{Ctx, FsState};
