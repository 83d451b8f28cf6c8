//! Unit tests of the VFS, over file systems in memory.
