//! Platform systrap: no virtual machine; the sentry is a process, and programs run in stub processes.
//!
//! This process is the broker of [`abi::systrap`]. It makes the sentry process while it has one thread and still may
//! fork, then goes into its jail, and serves host calls from there: a thread for each vCPU, woken through a word of
//! shared memory.

mod filter;
mod layout;
mod probe;
mod raw;
mod sentry;
mod serve;
mod spawner;
mod stub;
mod stubs;

use std::convert::Infallible;
use std::sync::Arc;

pub use self::layout::memory;
pub use self::probe::{Host, probe};

use self::stubs::Stubs;
use abi::boot::PlatformKind;
use abi::control::SavedMachine;

use crate::host::control::MachineInfo;
use crate::memory::GuestMemory;
use crate::{Error, HostServices, Image, Machine};

/// The processes of a sandbox, ready to run.
pub struct SystrapMachine {
    memory: Arc<GuestMemory>,
    sentry: sentry::Child,
    stubs: Stubs,
    cpus: u32,
    /// XCR0 and the size of an XSAVE area.
    state: (u64, u64),
}

impl SystrapMachine {
    /// Makes them: `cpus` vCPUs that will run `image` with the launch specification `spec` in `memory` (made by
    /// [`memory()`]). This process must have one thread, its own namespaces, and not be in its jail yet.
    pub fn new(
        host: &Host,
        image: &Image<'_>,
        spec: &[u8],
        cpus: u32,
        memory: Arc<GuestMemory>,
    ) -> Result<Self, Error> {
        layout::fill(&memory, image, spec, cpus, host)?;
        Self::start(image, cpus, memory, host)
    }

    /// Makes the processes for `memory` that was saved from a frozen sandbox, `saved`, whose sentry was `image`.
    ///
    /// # Errors
    /// [`Error::Snapshot`] where this host cannot run it.
    pub fn restore(
        host: &Host,
        image: &Image<'_>,
        saved: &SavedMachine,
        cpus: u32,
        memory: Arc<GuestMemory>,
    ) -> Result<Self, Error> {
        if (saved.xcr0, saved.xsave_size) != (host.xcr0, host.xsave_size) {
            let reason = format!(
                "it was made with extended state {:#x} of {} bytes, this host has {:#x} of {} bytes",
                saved.xcr0, saved.xsave_size, host.xcr0, host.xsave_size
            );
            return Err(Error::Snapshot { reason });
        }
        layout::refill(&memory, cpus, host)?;
        Self::start(image, cpus, memory, host)
    }

    /// Starts the sentry process in memory that is filled in.
    fn start(image: &Image<'_>, cpus: u32, memory: Arc<GuestMemory>, host: &Host) -> Result<Self, Error> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..cpus {
            let (one, other) = raw::socket_pair()?;
            ours.push(one);
            theirs.push(other);
        }
        let sentry = sentry::start(image, &memory, &theirs)?;
        Ok(Self { memory, sentry, stubs: Stubs::new(ours), cpus, state: (host.xcr0, host.xsave_size) })
    }
}

impl Machine for SystrapMachine {
    fn run(self: Box<Self>, services: Arc<HostServices>) -> Result<Infallible, Error> {
        let (xcr0, xsave_size) = self.state;
        let platform = PlatformKind::Systrap;
        services.set_machine(MachineInfo { platform, xcr0, xsave_size, cpus: self.cpus });
        serve::boot(*self, services)
    }
}
