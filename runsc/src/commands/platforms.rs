//! `runsc platforms`: what this host has, and which platform is taken.

use crate::cli::{Global, Platform};
use crate::error::Error;
use crate::sandbox::choose::{Kvm, verdict};

/// Prints it.
pub fn platforms(global: &Global) -> Result<u8, Error> {
    let kvm = match verdict() {
        Kvm::Usable(flavour) => {
            println!("kvm      usable: {flavour} hypervisor, self-test passed");
            true
        }
        Kvm::Refused(reason) => {
            println!("kvm      not usable: {reason}");
            false
        }
    };
    println!("systrap  not usable: this build does not have it yet");
    match (global.platform, kvm) {
        (Platform::Auto | Platform::Kvm, true) => println!("taken    kvm"),
        _ => println!("taken    none"),
    }
    Ok(0)
}
