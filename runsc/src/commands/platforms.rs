//! `runsc platforms`: what this host has, and which platform is taken.

use crate::cli::{Global, Platform};
use crate::error::Error;
use crate::sandbox::choose::{Verdict, kvm_verdict, systrap_verdict};

/// Prints it.
pub fn platforms(global: &Global) -> Result<u8, Error> {
    let kvm = match kvm_verdict() {
        Verdict::Usable(flavour) => {
            println!("kvm      usable: {flavour} hypervisor, self-test passed");
            true
        }
        Verdict::Refused(reason) => {
            println!("kvm      not usable: {reason}");
            false
        }
    };
    let systrap = match systrap_verdict() {
        Verdict::Usable(_) => {
            println!("systrap  usable: user notification of seccomp, FSGSBASE");
            true
        }
        Verdict::Refused(reason) => {
            println!("systrap  not usable: {reason}");
            false
        }
    };
    let taken = match global.platform {
        Platform::Auto | Platform::Kvm if kvm => "kvm",
        Platform::Auto | Platform::Systrap if systrap => "systrap",
        _ => "none",
    };
    println!("taken    {taken}");
    Ok(0)
}
