//! Control groups of a sandbox: made where config.json names one or sets limits, version 1 or 2.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_spec::runtime::{Linux, LinuxResources};

use crate::Error;

/// Where control groups are mounted.
const MOUNT: &str = "/sys/fs/cgroup";
/// Controllers of version 1 that are used.
const CONTROLLERS: &[&str] = &["memory", "cpu", "pids"];
/// Directory of the control groups of containers that name none.
const DEFAULT_PARENT: &str = "runsc";
/// Period of a CPU quota that names none, microseconds.
const DEFAULT_PERIOD: u64 = 100_000;

/// The directories of one sandbox.
#[derive(Debug, Default)]
pub struct Cgroup {
    /// Directories that were made, deepest first.
    pub dirs: Vec<PathBuf>,
    /// Those that the sandbox process enters.
    leaves: Vec<PathBuf>,
    /// What could not be set.
    pub warnings: Vec<String>,
}

/// Whether the configuration asks for a control group.
fn wanted(linux: &Linux) -> bool {
    let limits = |r: &LinuxResources| {
        r.memory().is_some() || r.cpu().is_some() || r.pids().is_some() || r.unified().is_some()
    };
    linux.cgroups_path().as_ref().is_some_and(|path| !path.as_os_str().is_empty())
        || linux.resources().as_ref().is_some_and(limits)
}

/// Most CPUs that the quota is worth, at least 1.
pub fn cpu_quota(linux: Option<&Linux>) -> Option<u32> {
    let cpu = linux?.resources().as_ref()?.cpu().as_ref()?;
    let quota = u64::try_from(cpu.quota()?).ok().filter(|quota| *quota > 0)?;
    let period = cpu.period().filter(|period| *period > 0).unwrap_or(DEFAULT_PERIOD);
    u32::try_from(quota.div_ceil(period)).ok().map(|cpus| cpus.max(1))
}

/// Memory limit in bytes.
pub fn memory_limit(linux: Option<&Linux>) -> Option<u64> {
    let limit = linux?.resources().as_ref()?.memory().as_ref()?.limit()?;
    u64::try_from(limit).ok().filter(|limit| *limit > 0)
}

impl Cgroup {
    /// Makes the control group of container `id` and sets its limits. A host that does not permit it gives a
    /// warning; a limit that the kernel refuses is an error.
    pub fn create(linux: Option<&Linux>, id: &str) -> Result<Self, Error> {
        let mut group = Self::default();
        let Some(linux) = linux.filter(|linux| wanted(linux)) else { return Ok(group) };
        let path = linux.cgroups_path().clone().filter(|p| !p.as_os_str().is_empty());
        let path = path.unwrap_or_else(|| Path::new("/").join(DEFAULT_PARENT).join(id));
        let text = path.to_string_lossy();
        if text.contains(':') && !text.starts_with('/') {
            let reason = format!(
                "{text:?} is a systemd slice, which is not supported; give a path such as /runsc/{id}"
            );
            return Err(Error::invalid("linux.cgroupsPath", reason));
        }
        if text.split('/').any(|part| part == "..") {
            return Err(Error::invalid("linux.cgroupsPath", format!("{text:?} contains `..`")));
        }
        let relative = Path::new(text.trim_start_matches('/'));
        let settings = linux.resources().as_ref().map(Settings::new).unwrap_or_default();
        let made = if Path::new(MOUNT).join("cgroup.controllers").exists() {
            group.make_v2(relative, &settings)
        } else {
            CONTROLLERS.iter().try_for_each(|controller| group.make_v1(controller, relative, &settings))
        };
        if let Err(error) = made {
            group.remove();
            return Err(error);
        }
        Ok(group)
    }

    fn make_v1(&mut self, controller: &str, relative: &Path, settings: &Settings) -> Result<(), Error> {
        let base = Path::new(MOUNT).join(controller);
        if !base.is_dir() {
            self.warnings
                .push(format!("the {controller} control group is not mounted: its limits have no effect"));
            return Ok(());
        }
        let Some(dir) = self.make_dirs(&base, relative)? else { return Ok(()) };
        let values = match controller {
            "memory" => &settings.memory_v1,
            "cpu" => &settings.cpu_v1,
            _ => &settings.pids,
        };
        set_all(&dir, values)
    }

    fn make_v2(&mut self, relative: &Path, settings: &Settings) -> Result<(), Error> {
        let base = Path::new(MOUNT);
        // Controllers are handed down from every directory above.
        let mut above = base.to_path_buf();
        let Some(dir) = self.make_dirs(base, relative)? else { return Ok(()) };
        for part in relative.iter() {
            let _ = fs::write(above.join("cgroup.subtree_control"), "+cpu +memory +pids");
            above.push(part);
        }
        for values in [&settings.memory_v2, &settings.cpu_v2, &settings.pids, &settings.unified] {
            set_all(&dir, values)?;
        }
        Ok(())
    }

    /// Makes the directories; `None` with a warning where the host does not permit it.
    fn make_dirs(&mut self, base: &Path, relative: &Path) -> Result<Option<PathBuf>, Error> {
        let mut dir = base.to_path_buf();
        for part in relative.iter() {
            dir.push(part);
            match fs::create_dir(&dir) {
                // Several containers share the directory that is theirs by default: the last one removes it.
                Ok(()) => self.dirs.insert(0, dir.clone()),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && part == DEFAULT_PARENT => {
                    self.dirs.insert(0, dir.clone());
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                    ) =>
                {
                    let text = format!(
                        "control group {} cannot be made ({e}): its limits have no effect",
                        dir.display()
                    );
                    self.warnings.push(text);
                    return Ok(None);
                }
                Err(e) => return Err(Error::io("making the control group", dir, e)),
            }
        }
        self.leaves.push(dir.clone());
        Ok(Some(dir))
    }

    /// Moves a process into it.
    pub fn enter(&self, pid: i32) -> Result<(), Error> {
        self.leaves.iter().try_for_each(|dir| {
            let path = dir.join("cgroup.procs");
            fs::write(&path, pid.to_string()).map_err(|e| Error::io("entering the control group", path, e))
        })
    }

    /// Removes the directories; their processes have ended or are about to.
    pub fn remove(&self) {
        remove(&self.dirs);
    }
}

/// Removes control group directories. A group is busy for a moment after its last process.
pub fn remove(dirs: &[PathBuf]) {
    for dir in dirs {
        for _ in 0..50 {
            match fs::remove_dir(dir) {
                Err(e) if e.kind() == io::ErrorKind::ResourceBusy && !has_groups(dir) => {
                    std::thread::sleep(Duration::from_millis(2))
                }
                _ => break,
            }
        }
    }
}

/// Whether there are groups beneath it.
fn has_groups(dir: &Path) -> bool {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
}

fn set_all(dir: &Path, values: &[(String, String)]) -> Result<(), Error> {
    values.iter().try_for_each(|(file, value)| {
        let path = dir.join(file);
        fs::write(&path, value).map_err(|e| Error::io("setting a limit in", path, e))
    })
}

/// Values to write, by file.
#[derive(Debug, Default)]
struct Settings {
    memory_v1: Vec<(String, String)>,
    memory_v2: Vec<(String, String)>,
    cpu_v1: Vec<(String, String)>,
    cpu_v2: Vec<(String, String)>,
    pids: Vec<(String, String)>,
    unified: Vec<(String, String)>,
}

impl Settings {
    fn new(resources: &LinuxResources) -> Self {
        let mut settings = Self::default();
        let max = |n: i64| if n < 0 { "max".to_string() } else { n.to_string() };
        if let Some(memory) = resources.memory() {
            if let Some(limit) = memory.limit().filter(|n| *n != 0) {
                settings.memory_v1.push(("memory.limit_in_bytes".into(), limit.to_string()));
                settings.memory_v2.push(("memory.max".into(), max(limit)));
            }
            if let Some(low) = memory.reservation().filter(|n| *n != 0) {
                settings.memory_v1.push(("memory.soft_limit_in_bytes".into(), low.to_string()));
                settings.memory_v2.push(("memory.low".into(), max(low)));
            }
        }
        if let Some(cpu) = resources.cpu() {
            if let Some(shares) = cpu.shares().filter(|n| *n != 0) {
                settings.cpu_v1.push(("cpu.shares".into(), shares.to_string()));
                // The range 2..262144 of shares on the range 1..10000 of weights.
                let weight = 1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142;
                settings.cpu_v2.push(("cpu.weight".into(), weight.to_string()));
            }
            let period = cpu.period().filter(|n| *n != 0);
            if let Some(period) = period {
                settings.cpu_v1.push(("cpu.cfs_period_us".into(), period.to_string()));
            }
            if let Some(quota) = cpu.quota().filter(|n| *n != 0) {
                settings.cpu_v1.push(("cpu.cfs_quota_us".into(), quota.to_string()));
                let value = format!("{} {}", max(quota), period.unwrap_or(DEFAULT_PERIOD));
                settings.cpu_v2.push(("cpu.max".into(), value));
            }
        }
        if let Some(pids) = resources.pids() {
            let limit = pids.limit();
            settings
                .pids
                .push(("pids.max".into(), if limit <= 0 { "max".into() } else { limit.to_string() }));
        }
        settings.unified =
            resources.unified().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
        settings.unified.retain(|(file, _)| !file.contains('/'));
        settings
    }
}
