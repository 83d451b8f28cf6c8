//! From a bundle to what the sentry is launched with.

use std::path::PathBuf;

use abi::spec::{ContainerSpec, MountSource, MountSpec};
use oci_spec::runtime::LinuxNamespaceType;

use crate::bundle::Bundle;
use crate::limits::Limits;
use crate::mounts::{self, Donation, Donations};
use crate::{Error, devices, process, seccomp};

/// A container ready to be launched, except for its streams.
#[derive(Debug)]
pub struct Launch {
    /// What the sentry is told.
    pub container: ContainerSpec,
    /// Host files that it needs, by index.
    pub donations: Vec<Donation>,
    /// Images of file systems, by index.
    pub images: Vec<PathBuf>,
    /// What of config.json has no effect here.
    pub warnings: Vec<String>,
}

/// Converts `bundle` for the container `id`; `start` tells whether its process runs at once.
pub fn convert(bundle: &Bundle, id: &str, start: bool) -> Result<Launch, Error> {
    let spec = &bundle.spec;
    let process = spec.process().as_ref().ok_or_else(|| Error::invalid("process", "property is missing"))?;
    let mut donations = Donations::default();
    let readonly = spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false);
    let path = bundle.rootfs.clone();
    let source = if bundle.image {
        MountSource::Image { image: donations.add_image(path) }
    } else {
        MountSource::Overlay { root: donations.add(Donation { path, writable: false, directory: true }) }
    };
    let root = MountSpec { destination: "/".into(), source, readonly, options: Vec::new() };
    let mounts = spec
        .mounts()
        .iter()
        .flatten()
        .map(|mount| mounts::convert(mount, &bundle.path, &mut donations))
        .collect::<Result<_, _>>()?;
    let linux = spec.linux().as_ref();
    let paths = |get: fn(&oci_spec::runtime::Linux) -> &Option<Vec<String>>| {
        linux.and_then(|l| get(l).clone()).unwrap_or_default()
    };
    let mut sysctl: Vec<_> = linux.and_then(|l| l.sysctl().clone()).unwrap_or_default().into_iter().collect();
    sysctl.sort();
    let container = ContainerSpec {
        id: id.to_string(),
        hostname: spec.hostname().clone().unwrap_or_else(|| id.to_string()),
        domainname: spec.domainname().clone().unwrap_or_default(),
        process: process::convert(process)?,
        root,
        mounts,
        devices: devices::convert(linux)?,
        masked_paths: paths(|l| l.masked_paths()),
        readonly_paths: paths(|l| l.readonly_paths()),
        sysctl,
        seccomp: linux.and_then(|l| l.seccomp().as_ref()).map(seccomp::convert).transpose()?,
        resources: Limits::of(linux).for_sentry(),
        start,
    };
    Ok(Launch { container, donations: donations.files, images: donations.images, warnings: warnings(bundle) })
}

/// Names what has no effect.
fn warnings(bundle: &Bundle) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |there: bool, text: &str| {
        if there {
            warnings.push(text.to_string());
        }
    };
    let spec = &bundle.spec;
    if let Some(process) = spec.process() {
        let profile = process.apparmor_profile().as_deref().unwrap_or_default();
        warn(
            !profile.is_empty(),
            "process.apparmorProfile has no effect: the container does not run on the host's kernel",
        );
        warn(process.scheduler().is_some(), "process.scheduler has no effect");
        warn(process.io_priority().is_some(), "process.ioPriority has no effect");
    }
    if let Some(linux) = spec.linux() {
        warn(linux.intel_rdt().is_some(), "linux.intelRdt has no effect");
        let joins = linux
            .namespaces()
            .iter()
            .flatten()
            .any(|ns| ns.path().is_some() && ns.typ() != LinuxNamespaceType::Network);
        warn(joins, "paths of linux.namespaces have no effect: the sentry has namespaces of its own");
    }
    let hooks = spec.hooks().as_ref();
    let inside = hooks.is_some_and(|h| h.start_container().as_ref().is_some_and(|list| !list.is_empty()));
    warn(inside, "hooks.startContainer is skipped: host programs do not run in the container");
    warnings
}
