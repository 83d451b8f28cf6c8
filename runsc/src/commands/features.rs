//! `runsc features`: what the runtime supports, as the runtime specification's features document has it.

use serde_json::json;

use crate::error::Error;

/// Prints it as JSON.
pub fn features() -> Result<u8, Error> {
    let document = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": oci::bundle::SPEC_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "poststart", "poststop"],
        "mountOptions": oci::mounts::options(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "uts"],
            "capabilities": oci::process::capability_names(),
            "cgroup": { "v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": false },
            "seccomp": {
                "enabled": true,
                "actions": oci::seccomp::ACTIONS,
                "operators": oci::seccomp::OPERATORS,
                "archs": oci::seccomp::ARCHS,
                "knownFlags": oci::seccomp::FLAGS,
                "supportedFlags": oci::seccomp::FLAGS,
            },
            "apparmor": { "enabled": false },
            "selinux": { "enabled": false },
            "intelRdt": { "enabled": false },
            "mountExtensions": { "idmap": { "enabled": false } },
            "netDevices": { "enabled": false },
        },
        "potentiallyUnsafeConfigAnnotations": [oci::bundle::IMAGE_ANNOTATION],
        "annotations": { "dev.runsc.version": env!("CARGO_PKG_VERSION"), "dev.runsc.commit": env!("RUNSC_COMMIT") },
    });
    println!("{document:#}");
    Ok(0)
}
