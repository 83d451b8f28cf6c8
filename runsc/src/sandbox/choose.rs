//! Which platform a sandbox gets, and whether this host's hypervisor may be used.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use platform::kvm::{self, Device};

use crate::cli::Platform;
use crate::error::Error;

/// What is known of KVM on this host.
pub enum Kvm {
    /// It may be used: flavour of the hypervisor.
    Usable(String),
    /// It may not: the reason.
    Refused(String),
}

/// Takes the platform that is asked for; opens its device.
pub fn open(platform: Platform) -> Result<Device, Error> {
    if platform == Platform::Systrap {
        let reason = "this build does not have it yet; use --platform=kvm".into();
        return Err(platform::Error::Unavailable { name: "systrap", reason }.into());
    }
    let device = Device::open()?;
    match verdict() {
        Kvm::Usable(_) => Ok(device),
        Kvm::Refused(reason) => Err(platform::Error::SelfTest { reason }.into()),
    }
}

/// The verdict of the self-test, which runs once a boot.
pub fn verdict() -> Kvm {
    let key = key();
    if let Some(known) = cached(&key) {
        return known;
    }
    let found = match kvm::self_test() {
        Ok(verdict) => Kvm::Usable(verdict.flavour.name().to_string()),
        // A device that cannot be opened now may be opened later: not kept.
        Err(error @ platform::Error::KvmDevice { .. }) => return Kvm::Refused(error.to_string()),
        Err(platform::Error::SelfTest { reason }) => Kvm::Refused(reason),
        Err(error) => Kvm::Refused(error.to_string()),
    };
    store(&key, &found);
    found
}

/// What a verdict holds for: this boot of this kernel, this version of the runtime.
fn key() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_string();
    let boot = read("/proc/sys/kernel/random/boot_id");
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{boot} {kernel} {}", env!("RUNSC_COMMIT"))
}

fn path() -> Option<PathBuf> {
    if nix::unistd::geteuid().is_root() {
        Some("/run/runsc-selftest".into())
    } else {
        std::env::var_os("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("runsc-selftest"))
    }
}

fn cached(key: &str) -> Option<Kvm> {
    let path = path()?;
    let meta = fs::symlink_metadata(&path).ok()?;
    // Of this user and written by nobody else.
    if !meta.is_file() || meta.uid() != nix::unistd::geteuid().as_raw() || meta.mode() & 0o022 != 0 {
        return None;
    }
    let text = fs::read_to_string(&path).ok()?;
    let (found, verdict) = text.split_once('\n')?;
    if found != key {
        return None;
    }
    match verdict.trim_end().split_once(' ')? {
        ("usable", flavour) => Some(Kvm::Usable(flavour.to_string())),
        ("refused", reason) => Some(Kvm::Refused(reason.to_string())),
        _ => None,
    }
}

fn store(key: &str, verdict: &Kvm) {
    let Some(path) = path() else { return };
    let (word, text) = match verdict {
        Kvm::Usable(flavour) => ("usable", flavour),
        Kvm::Refused(reason) => ("refused", reason),
    };
    let new = path.with_extension(format!("{}", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut file| file.write_all(format!("{key}\n{word} {text}\n").as_bytes()))
        .and_then(|()| fs::rename(&new, &path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
}
