//! Bundles: a directory with a config.json.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use crate::Error;

/// Versions of the runtime specification that are understood.
pub const SPEC_VERSION: &str = "1.3.0";

/// A loaded and checked bundle.
#[derive(Debug)]
pub struct Bundle {
    /// Absolute path of the directory.
    pub path: PathBuf,
    /// Its configuration.
    pub spec: Spec,
    /// Absolute path of the root file system: a directory, or an image of one.
    pub rootfs: PathBuf,
    /// It is an image.
    pub image: bool,
}

/// Annotation that names an image as the root file system, in place of `root.path`; relative to the bundle.
pub const IMAGE_ANNOTATION: &str = "dev.runsc.rootfs.image";

impl Bundle {
    /// Loads the bundle at `path`.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let path = path.canonicalize().map_err(|e| Error::io("opening the bundle", path, e))?;
        let config = path.join("config.json");
        let text = fs::read_to_string(&config).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::ConfigMissing { path: config.clone() },
            _ => Error::io("reading", &config, e),
        })?;
        Self::parse(path, &config, &text)
    }

    /// A bundle that is not on disk: runs `args` on the directory `rootfs`, with every capability.
    pub fn for_command(
        rootfs: &Path,
        args: &[String],
        env: &[String],
        cwd: &Path,
        terminal: bool,
    ) -> Result<Self, Error> {
        let mut config: serde_json::Value =
            serde_json::from_str(&template(args, terminal, &cwd.to_string_lossy())?)
                .map_err(|e| Error::invalid("template", e.to_string()))?;
        let caps = crate::process::capability_names();
        config["root"] = serde_json::json!({ "path": rootfs, "readonly": false });
        config["process"]["env"] = serde_json::json!(env);
        config["process"]["capabilities"] =
            serde_json::json!({ "bounding": caps, "effective": caps, "permitted": caps });
        config["hostname"] = serde_json::json!("runsc");
        Self::parse(rootfs.to_path_buf(), Path::new("config.json"), &config.to_string())
    }

    fn parse(path: PathBuf, config: &Path, text: &str) -> Result<Self, Error> {
        let malformed = |reason: String| Error::ConfigMalformed { path: config.to_path_buf(), reason };
        // The version first: a file of another version may have another shape.
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Head {
            oci_version: Option<String>,
        }
        let head: Head = serde_json::from_str(text).map_err(|e| malformed(e.to_string()))?;
        check_version(head.oci_version.as_deref())?;
        let spec: Spec = serde_json::from_str(text)
            .map_err(|e| crate::devices::wrong_type(text).unwrap_or_else(|| malformed(e.to_string())))?;
        let named = spec.annotations().as_ref().and_then(|all| all.get(IMAGE_ANNOTATION)).map(PathBuf::from);
        let (rootfs, image) = check(&spec, &path, named)?;
        Ok(Self { path, spec, rootfs, image })
    }

    /// Takes an image as the root file system, whatever config.json says.
    ///
    /// # Errors
    /// Where it is no regular file.
    pub fn set_image(&mut self, image: &Path) -> Result<(), Error> {
        (self.rootfs, self.image) = root("--rootfs-image", image)?;
        if !self.image {
            let reason = format!("{} is a directory, not an image", self.rootfs.display());
            return Err(Error::invalid("--rootfs-image", reason));
        }
        Ok(())
    }
}

/// Accepts 1.0.0 up to 1.3.x, with suffixes such as `-dev`.
fn check_version(version: Option<&str>) -> Result<(), Error> {
    let version = version
        .ok_or_else(|| Error::invalid("ociVersion", "is missing; it names the specification's version"))?;
    let mut parts = version.split(['.', '-', '+']);
    let numbers: Vec<u32> = parts.by_ref().take(3).map_while(|part| part.parse().ok()).collect();
    match numbers[..] {
        [1, minor, _] if minor <= 3 => Ok(()),
        _ => Err(Error::invalid(
            "ociVersion",
            format!("{version:?} is not supported; 1.0.0 to {SPEC_VERSION} are"),
        )),
    }
}

/// The root file system at a path, and whether it is an image.
fn root(field: &'static str, path: &Path) -> Result<(PathBuf, bool), Error> {
    let meta =
        fs::metadata(path).map_err(|e| Error::invalid(field, format!("stat {}: {e}", path.display())))?;
    if !meta.is_dir() && !meta.is_file() {
        let reason = format!("{} is neither a directory nor an image", path.display());
        return Err(Error::invalid(field, reason));
    }
    let path = path.canonicalize().map_err(|e| Error::io("resolving the root", path, e))?;
    Ok((path, meta.is_file()))
}

/// Checks what the types do not; returns the path of the root file system, and whether it is an image. `image` is the
/// one that annotations name.
fn check(spec: &Spec, bundle: &Path, image: Option<PathBuf>) -> Result<(PathBuf, bool), Error> {
    let process = spec.process().as_ref().ok_or_else(|| Error::invalid("process", "property is missing"))?;
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return Err(Error::invalid("process.args", "is empty; name a program to run"));
    }
    if !process.cwd().is_absolute() {
        return Err(Error::invalid("process.cwd", format!("{:?} is not an absolute path", process.cwd())));
    }
    if process.selinux_label().as_ref().is_some_and(|label| !label.is_empty()) {
        return Err(Error::invalid("process.selinuxLabel", "SELinux labels are not supported; remove it"));
    }
    for (field, strings) in [("process.args", process.args()), ("process.env", process.env())] {
        if strings.iter().flatten().any(|s| s.contains('\0')) {
            return Err(Error::invalid(field, "contains a NUL character"));
        }
    }
    if let Some(entry) = process.env().iter().flatten().find(|entry| !entry.contains('=')) {
        let reason = format!("invalid environment variable: {entry:?}; write NAME=VALUE");
        return Err(Error::invalid("process.env", reason));
    }
    if let Some(image) = image {
        return root("annotations", &bundle.join(image));
    }
    let path = spec.root().as_ref().ok_or_else(|| Error::invalid("root", "property is missing"))?.path();
    root("root.path", &bundle.join(path))
}

/// A template of config.json that runs `args`.
pub fn template(args: &[String], terminal: bool, cwd: &str) -> Result<String, Error> {
    let args = if args.is_empty() { vec!["sh".to_string()] } else { args.to_vec() };
    let caps = serde_json::json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let template = serde_json::json!({
        "ociVersion": SPEC_VERSION,
        "process": {
            "terminal": terminal,
            "user": { "uid": 0, "gid": 0 },
            "args": args,
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": cwd,
            "capabilities": { "bounding": caps, "effective": caps, "permitted": caps },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "runsc",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
              "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
              "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs",
              "options": ["nosuid", "noexec", "nodev", "ro"] },
            { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
              "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] }
        ],
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" },
                { "type": "uts" }, { "type": "mount" }, { "type": "cgroup" }
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    });
    serde_json::to_string_pretty(&template).map_err(|e| Error::invalid("template", e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for good in ["1.0.0", "1.0.2-dev", "1.1.0-rc.1", "1.2.1", "1.3.0"] {
            assert!(check_version(Some(good)).is_ok(), "{good}");
        }
        for bad in ["", "1", "0.9.0", "2.0.0", "1.4.0", "x.y.z", "1.0"] {
            assert!(check_version(Some(bad)).is_err(), "{bad}");
        }
        assert!(check_version(None).is_err());
    }

    #[test]
    fn malformed_files_are_refused() {
        let here = std::env::temp_dir();
        for (text, word) in [
            ("", "EOF"),
            ("{", "EOF"),
            ("[]", "parsing"),
            ("{\"ociVersion\": 3}", "invalid type"),
            ("{\"ociVersion\": \"1.0.0\"}", "process"),
            (
                "{\"ociVersion\": \"1.0.0\", \"process\": {\"cwd\": \"/\", \"user\": {\"uid\": 0, \"gid\": 0}}}",
                "process.args",
            ),
        ] {
            let error =
                Bundle::parse(here.clone(), &here.join("config.json"), text).map(|_| ()).expect_err(text);
            assert!(error.to_string().contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn the_template_is_accepted() {
        let dir = std::env::temp_dir().join(format!("runsc-bundle-{}", std::process::id()));
        fs::create_dir_all(dir.join("rootfs")).expect("mkdir");
        let text = template(&[], false, "/").expect("template");
        let bundle = Bundle::parse(dir.clone(), &dir.join("config.json"), &text);
        let _ = fs::remove_dir_all(&dir);
        bundle.expect("bundle");
    }
}
