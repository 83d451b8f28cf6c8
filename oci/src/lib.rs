//! Bundles and containers as the Open Container Initiative defines them, on the host's side: config.json, the state
//! directory, control groups, hooks, and the conversion to what the sentry is launched with.
#![forbid(unsafe_code)]

pub mod bundle;
pub mod cgroup;
pub mod devices;
mod error;
pub mod exec;
pub mod hooks;
pub mod launch;
pub mod limits;
pub mod mounts;
pub mod process;
pub mod seccomp;
pub mod state;

pub use error::Error;
