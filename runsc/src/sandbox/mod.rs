//! Sandboxes: making the process around a machine, and talking to it.
//!
//! A command opens everything that the sandbox works with, forks, and the child ([`child`]) goes into its jail and
//! becomes the machine. The two talk over a socket pair ([`sync`]) until the container is made; afterwards every
//! command reaches the sandbox by its control socket ([`control`]).

pub mod child;
pub mod choose;
pub mod control;
pub mod launch;
pub mod limits;
pub mod streams;
pub mod sync;
pub mod tracing;
