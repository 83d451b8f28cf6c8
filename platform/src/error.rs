//! What can go wrong on the host side of a machine.

use std::io;

/// Failure of the host side: names the object, the operation and, where there is one, the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A KVM request failed.
    #[error("{operation} failed: {source} ({remedy})")]
    Kvm {
        /// What was asked of KVM.
        operation: &'static str,
        /// The host's answer.
        source: io::Error,
        /// What can be done.
        remedy: &'static str,
    },
    /// The KVM device cannot be opened.
    #[error(
        "cannot open /dev/kvm: {source}; check that the KVM module is loaded and that this user may use it"
    )]
    KvmDevice {
        /// The host's answer.
        source: io::Error,
    },
    /// This host's KVM lacks something that is needed.
    #[error("the hypervisor lacks {what}; run with --platform=systrap")]
    KvmFeature {
        /// What is missing.
        what: &'static str,
    },
    /// The hypervisor was tried and does not run a machine correctly.
    #[error("the self-test of the hypervisor failed: {reason}; run with --platform=systrap")]
    SelfTest {
        /// What went wrong.
        reason: String,
    },
    /// The sentry image is not one that this VMM can run.
    #[error("the sentry image cannot be used: {reason}; rebuild the runtime")]
    Image {
        /// Why.
        reason: String,
    },
    /// A snapshot is not one that this VMM can run.
    #[error("the snapshot cannot be used: {reason}")]
    Snapshot {
        /// Why.
        reason: String,
    },
    /// Guest memory cannot be had.
    #[error("cannot map {bytes} bytes of guest memory: {source}; lower --memory or free memory on the host")]
    Memory {
        /// How much was asked for.
        bytes: u64,
        /// The host's answer.
        source: io::Error,
    },
    /// The launch description does not fit.
    #[error(
        "the launch specification ({bytes} bytes) does not fit in the boot memory; shorten arguments, environment or mounts"
    )]
    SpecTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The platform asked for is not there.
    #[error("platform {name} is not available: {reason}")]
    Unavailable {
        /// The platform.
        name: &'static str,
        /// Why.
        reason: String,
    },
    /// A request of the host's operating system failed.
    #[error("{operation}: {source}")]
    Os {
        /// What was tried, with its object.
        operation: String,
        /// The host's answer.
        source: io::Error,
    },
    /// The seccomp filter cannot be made.
    #[error("cannot build the system-call filter: {reason}")]
    Filter {
        /// Why.
        reason: String,
    },
}

impl Error {
    /// A failed KVM request with the last errno.
    pub(crate) fn kvm(operation: &'static str, source: kvm_ioctls::Error) -> Self {
        let source = io::Error::from_raw_os_error(source.errno());
        Self::Kvm { operation, source, remedy: "`runsc platforms` tells what this host offers" }
    }

    /// A failed request of the operating system with the last errno.
    pub(crate) fn os(operation: impl Into<String>) -> Self {
        Self::Os { operation: operation.into(), source: io::Error::last_os_error() }
    }
}
