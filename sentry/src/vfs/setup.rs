//! The root of a container and its mounts.
