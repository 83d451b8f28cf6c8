//! Which platform a sandbox gets, and what this host can run.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use abi::boot::PlatformKind;
use abi::control::SavedMachine;
use platform::kvm::{self, Device};
use platform::systrap::{self, Host};

use crate::cli::Platform;
use crate::error::Error;

/// What is known of a platform on this host.
pub enum Verdict {
    /// It may be used: flavour of the hypervisor, or frequency of the time-stamp counter in kHz.
    Usable(String),
    /// It may not: the reason.
    Refused(String),
}

/// A platform that was taken, ready for a sandbox.
pub enum Taken {
    /// KVM, with its device.
    Kvm(Device),
    /// Systrap, with what is known of the host.
    Systrap(Host),
}

/// Takes the platform that is asked for.
pub fn open(platform: Platform) -> Result<Taken, Error> {
    match platform {
        Platform::Kvm => open_kvm(),
        Platform::Systrap => open_systrap(),
        // Where neither can be had, the hypervisor is the one to look after.
        Platform::Auto => open_kvm().or_else(|kvm| open_systrap().map_err(|_| kvm)),
    }
}

/// Takes the platform that a snapshot was made on.
///
/// # Errors
/// Where another one is asked for, or it cannot be used here.
pub fn open_for(platform: Platform, saved: &SavedMachine) -> Result<Taken, Error> {
    let systrap = saved.platform == PlatformKind::Systrap as u32;
    match (platform, systrap) {
        (Platform::Kvm | Platform::Auto, false) => open_kvm(),
        (Platform::Systrap | Platform::Auto, true) => open_systrap(),
        _ => {
            let reason = format!("it was made on platform {}", if systrap { "systrap" } else { "kvm" });
            Err(platform::Error::Snapshot { reason }.into())
        }
    }
}

fn open_kvm() -> Result<Taken, Error> {
    let device = Device::open()?;
    match kvm_verdict() {
        Verdict::Usable(_) => Ok(Taken::Kvm(device)),
        Verdict::Refused(reason) => Err(platform::Error::SelfTest { reason }.into()),
    }
}

fn open_systrap() -> Result<Taken, Error> {
    let refuse = |reason| Err(platform::Error::Unavailable { name: "systrap", reason }.into());
    match systrap_verdict() {
        Verdict::Usable(khz) => match khz.parse() {
            Ok(khz) => Ok(Taken::Systrap(Host::new(khz))),
            Err(_) => refuse(format!("the frequency of the time-stamp counter is not known ({khz})")),
        },
        Verdict::Refused(reason) => refuse(reason),
    }
}

/// The verdict on KVM, whose self-test runs once a boot.
pub fn kvm_verdict() -> Verdict {
    let key = key();
    if let Some(known) = cached("runsc-selftest", &key) {
        return known;
    }
    let found = match kvm::self_test() {
        Ok(verdict) => Verdict::Usable(verdict.flavour.name().to_string()),
        // A device that cannot be opened now may be opened later: not kept.
        Err(error @ platform::Error::KvmDevice { .. }) => return Verdict::Refused(error.to_string()),
        Err(platform::Error::SelfTest { reason }) => Verdict::Refused(reason),
        Err(error) => Verdict::Refused(error.to_string()),
    };
    store("runsc-selftest", &key, &found);
    found
}

/// The verdict on systrap; the host is looked at once a boot.
pub fn systrap_verdict() -> Verdict {
    let key = key();
    if let Some(known) = cached("runsc-systrap", &key) {
        return known;
    }
    let found = match systrap::probe() {
        Ok(host) => Verdict::Usable(host.tsc_khz.to_string()),
        Err(platform::Error::Unavailable { reason, .. }) => Verdict::Refused(reason),
        Err(error) => Verdict::Refused(error.to_string()),
    };
    store("runsc-systrap", &key, &found);
    found
}

/// What a verdict holds for: this boot of this kernel, this version of the runtime.
fn key() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_string();
    let boot = read("/proc/sys/kernel/random/boot_id");
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{boot} {kernel} {}", env!("RUNSC_COMMIT"))
}

fn path(name: &str) -> Option<PathBuf> {
    let dir = if nix::unistd::geteuid().is_root() {
        "/run".into()
    } else {
        PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR")?)
    };
    Some(dir.join(name))
}

fn cached(name: &str, key: &str) -> Option<Verdict> {
    let path = path(name)?;
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
        ("usable", flavour) => Some(Verdict::Usable(flavour.to_string())),
        ("refused", reason) => Some(Verdict::Refused(reason.to_string())),
        _ => None,
    }
}

fn store(name: &str, key: &str, verdict: &Verdict) {
    let Some(path) = path(name) else { return };
    let (word, text) = match verdict {
        Verdict::Usable(flavour) => ("usable", flavour),
        Verdict::Refused(reason) => ("refused", reason),
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
