//! The host side of a machine.
//!
//! A [`Machine`] runs the sentry; what the sentry asks of its host is served by [`HostServices`], which checks every
//! argument and is the same for every platform. [`jail`] takes the process's access to the host away before the
//! first instruction of a guest runs.

pub mod clock;
mod error;
pub mod host;
mod image;
pub mod jail;
pub mod kvm;
pub mod memory;
pub mod process;
pub mod systrap;
pub mod terminal;

use std::convert::Infallible;
use std::sync::Arc;

pub use error::Error;
pub use host::{HostServices, Outcome};
pub use image::Image;

/// A machine that is ready to run.
pub trait Machine {
    /// Runs it on this thread until the sandbox ends, which ends the process ([`HostServices::end`]).
    fn run(self: Box<Self>, services: Arc<HostServices>) -> Result<Infallible, Error>;
}

/// The way by which the VMM tells the guest that something happened.
pub trait Events: Send + Sync {
    /// Sets `EVENT_*` bits in the shared page and interrupts vCPU 0.
    fn raise(&self, bits: u64);
}
