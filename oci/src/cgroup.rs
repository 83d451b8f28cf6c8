//! Control groups of a sandbox: made where config.json names one or sets limits, version 1 or 2.

mod settings;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oci_spec::runtime::Linux;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::limits::Limits;

/// Where control groups are mounted.
const MOUNT: &str = "/sys/fs/cgroup";
/// Directory of the control groups of containers that name none.
const DEFAULT_PARENT: &str = "runsc";

/// Time that the processes of a group get to be gone when it is removed.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest time between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(16);

/// A group that a sandbox is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaf {
    /// Its controller; empty for version 2.
    pub controller: String,
    /// Its directory.
    pub dir: PathBuf,
}

/// The directories of one sandbox.
#[derive(Debug, Default)]
pub struct Cgroup {
    /// Directories that were made, deepest first.
    pub dirs: Vec<PathBuf>,
    /// Those that the sandbox process enters.
    pub leaves: Vec<Leaf>,
    /// Path beneath the mount of each controller, where a group can be made.
    pub path: PathBuf,
    /// What could not be set.
    pub warnings: Vec<String>,
}

/// Whether the host has version 2 alone.
pub fn unified() -> bool {
    Path::new(MOUNT).join("cgroup.controllers").exists()
}

impl Cgroup {
    /// The control group of container `id`, which is still to be made; and whether it is to be: config.json
    /// names one, or there are limits.
    pub fn plan(linux: Option<&Linux>, limits: &Limits, id: &str) -> Result<(Self, bool), Error> {
        let named =
            linux.and_then(|linux| linux.cgroups_path().clone()).filter(|p| !p.as_os_str().is_empty());
        let wanted = named.is_some() || !limits.is_empty();
        let path = named.unwrap_or_else(|| Path::new("/").join(DEFAULT_PARENT).join(id));
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
        Ok((Self { path: text.trim_start_matches('/').into(), ..Self::default() }, wanted))
    }

    /// Makes it and sets its limits. A host that does not permit it gives a warning; a limit that the kernel refuses is
    /// an error.
    pub fn create(&mut self, limits: &Limits) -> Result<(), Error> {
        self.complete(limits).and_then(|()| self.set(limits).map(drop)).inspect_err(|_| self.remove())
    }

    /// The directories that [`Cgroup::complete`] will make, deepest first: for a note of them before there are any, so
    /// that a command that is killed leaves none that nobody knows of.
    pub fn missing(&self, limits: &Limits) -> Vec<PathBuf> {
        let controllers = if unified() { vec![""] } else { settings::controllers(limits) };
        let mut missing = Vec::new();
        for controller in controllers {
            let mut dir = Path::new(MOUNT).join(controller);
            if self.leaves.iter().any(|leaf| leaf.controller == controller) || !dir.is_dir() {
                continue;
            }
            for part in self.path.iter() {
                dir.push(part);
                if part == DEFAULT_PARENT || !dir.exists() {
                    missing.insert(0, dir.clone());
                }
            }
        }
        missing
    }

    /// Makes the groups that the limits need and that are not there yet.
    pub fn complete(&mut self, limits: &Limits) -> Result<(), Error> {
        if unified() {
            return if self.leaves.is_empty() { self.make_v2() } else { Ok(()) };
        }
        for controller in settings::controllers(limits) {
            if !self.leaves.iter().any(|leaf| leaf.controller == controller) {
                self.make_v1(controller)?;
            }
        }
        Ok(())
    }

    /// Sets limits: all or none. What is returned takes them back.
    ///
    /// # Errors
    /// [`Error::Limit`].
    pub fn set(&mut self, limits: &Limits) -> Result<settings::Undo, Error> {
        let (undo, warnings) = settings::set(&self.leaves, limits)?;
        self.warnings.extend(warnings);
        Ok(undo)
    }

    fn make_v1(&mut self, controller: &str) -> Result<(), Error> {
        let base = Path::new(MOUNT).join(controller);
        if !base.is_dir() {
            self.warnings
                .push(format!("the {controller} control group is not mounted: its limits have no effect"));
            return Ok(());
        }
        let relative = self.path.clone();
        let Some(dir) = self.make_dirs(&base, &relative)? else { return Ok(()) };
        if controller == "cpuset" {
            // A group takes no process before it has CPUs and memory nodes, and begins with none.
            let mut above = base;
            for part in relative.iter() {
                let below = above.join(part);
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    let empty = fs::read_to_string(below.join(file)).is_ok_and(|text| text.trim().is_empty());
                    if empty && let Ok(text) = fs::read_to_string(above.join(file)) {
                        let path = below.join(file);
                        fs::write(&path, text.trim()).map_err(|e| Error::io("setting", path, e))?;
                    }
                }
                above = below;
            }
        }
        self.leaves.push(Leaf { controller: controller.into(), dir });
        Ok(())
    }

    fn make_v2(&mut self) -> Result<(), Error> {
        let base = Path::new(MOUNT);
        let relative = self.path.clone();
        let Some(dir) = self.make_dirs(base, &relative)? else { return Ok(()) };
        // Controllers are handed down from every directory above; one by one, since not every host has each.
        let mut above = base.to_path_buf();
        for part in relative.iter() {
            for controller in ["cpu", "memory", "pids", "cpuset", "io"] {
                let _ = fs::write(above.join("cgroup.subtree_control"), format!("+{controller}"));
            }
            above.push(part);
        }
        self.leaves.push(Leaf { controller: String::new(), dir });
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
        Ok(Some(dir))
    }

    /// Moves a process into it.
    pub fn enter(&self, pid: i32) -> Result<(), Error> {
        self.leaves.iter().try_for_each(|leaf| enter(&leaf.dir, pid))
    }

    /// Moves a running sandbox into the groups from number `first` on: its process and all that descend from it.
    pub fn enter_all(&self, first: usize, pid: i32) -> Result<(), Error> {
        let Some(leaves) = self.leaves.get(first..).filter(|leaves| !leaves.is_empty()) else {
            return Ok(());
        };
        let mut moved = BTreeSet::new();
        // Until there is none that was forked meanwhile by one that was not moved yet.
        loop {
            let new: Vec<i32> = family(pid).into_iter().filter(|pid| !moved.contains(pid)).collect();
            if new.is_empty() {
                return Ok(());
            }
            for pid in new {
                for leaf in leaves {
                    match enter(&leaf.dir, pid) {
                        // It has ended.
                        Err(Error::Io { source, .. }) if source.raw_os_error() == Some(nix::libc::ESRCH) => {}
                        other => other?,
                    }
                }
                moved.insert(pid);
            }
        }
    }

    /// Removes the directories; their processes have ended or are about to.
    pub fn remove(&self) {
        remove(&self.dirs);
    }
}

fn enter(dir: &Path, pid: i32) -> Result<(), Error> {
    let path = dir.join("cgroup.procs");
    fs::write(&path, pid.to_string()).map_err(|e| Error::io("entering the control group", path, e))
}

/// A process and all that descend from it.
pub fn family(pid: i32) -> Vec<i32> {
    let mut parents: Vec<(i32, i32)> = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The state and the parent come after the name, which may hold anything.
        let parent = stat.rfind(')').and_then(|at| stat.get(at + 2..)?.split(' ').nth(1)?.parse().ok());
        parents.extend(parent.map(|parent| (pid, parent)));
    }
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
        next += 1;
    }
    found
}

/// Removes control group directories; returns those that are still in use. A group is busy for a while after its last
/// process was killed: until the last of its threads has ended, which on a busy host waits for its turn.
pub fn remove(dirs: &[PathBuf]) -> Vec<&Path> {
    let begin = Instant::now();
    let mut pause = Duration::from_millis(1);
    let mut busy = Vec::new();
    for dir in dirs {
        while let Err(e) = fs::remove_dir(dir)
            && e.kind() == io::ErrorKind::ResourceBusy
            && !has_groups(dir)
        {
            if begin.elapsed() > PATIENCE {
                busy.push(dir.as_path());
                break;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
    busy
}

/// Whether there are groups beneath it.
fn has_groups(dir: &Path) -> bool {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
}
