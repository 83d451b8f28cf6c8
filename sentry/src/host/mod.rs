//! The client side of the host calls.

pub mod files;
#[cfg(test)]
pub mod mock;
pub mod streams;

use crate::errno::{Errno, Result};
use abi::hostcall::HostCall;

/// Makes a host call.
///
/// # Errors
/// What the VMM answers.
#[cfg(not(test))]
pub fn call<C: HostCall>(request: &C) -> Result<u64> {
    Errno::check(crate::arch::host_call(request))
}

/// Makes a host call, which a stand-in serves.
///
/// # Errors
/// What the stand-in answers.
#[cfg(test)]
pub fn call<C: HostCall>(request: &C) -> Result<u64> {
    Errno::check(mock::serve(C::NR, request.to_args()))
}
