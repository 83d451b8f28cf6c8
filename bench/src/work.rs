//! The working directory: the program of operations, its data, and bundles. It goes when the program ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Failure;

/// Sources of the program of operations.
const SOURCES: &[(&str, &str)] = &[
    ("ops.h", include_str!("../ops/ops.h")),
    ("main.c", include_str!("../ops/main.c")),
    ("calls.c", include_str!("../ops/calls.c")),
    ("files.c", include_str!("../ops/files.c")),
    ("memory.c", include_str!("../ops/memory.c")),
    ("processes.c", include_str!("../ops/processes.c")),
    ("pairs.c", include_str!("../ops/pairs.c")),
];
/// Bytes of the file that is read.
const FILE_LEN: usize = 64 << 10;
/// Entries of the directory that is listed.
const MANY: usize = 1000;

/// Which root file system a bundle has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// The program of operations and its data, no more.
    Small,
    /// The host's root, read-only.
    Host,
}

/// The directory.
pub struct Work {
    dir: TempDir,
    /// A directory in memory for files that are written natively, as /tmp of the containers is.
    memory: TempDir,
}

impl Work {
    /// Makes it. As root, mounts for containers are made in a mount namespace of this process, and go with it.
    pub fn new() -> Result<Self, Failure> {
        let dir = tempfile::Builder::new().prefix("bench-").tempdir()?;
        let shm = Path::new("/dev/shm");
        let memory = if shm.is_dir() { tempfile::tempdir_in(shm)? } else { tempfile::tempdir()? };
        let work = Self { dir, memory };
        let data = work.data();
        fs::create_dir_all(data.join("many"))?;
        for sub in ["proc", "dev", "sys", "tmp"] {
            fs::create_dir_all(work.small().join(sub))?;
        }
        fs::write(data.join("file"), vec![0; FILE_LEN])?;
        for index in 0..MANY {
            fs::write(data.join(format!("many/f{index}")), format!("{index}\n"))?;
        }
        work.compile()?;
        work.mounts();
        Ok(work)
    }

    /// The directory itself; commands of runtimes have it in their arguments.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    fn small(&self) -> PathBuf {
        self.path().join("small")
    }

    fn host(&self) -> PathBuf {
        self.path().join("host")
    }

    /// Data of the operations, natively; in containers it is /data.
    pub fn data(&self) -> PathBuf {
        self.small().join("data")
    }

    /// Where operations write natively; in containers it is /tmp.
    pub fn memory(&self) -> &Path {
        self.memory.path()
    }

    /// Whether there is a root of this kind.
    pub fn has(&self, root: Root) -> bool {
        root == Root::Small || self.host().join("usr").is_dir()
    }

    fn compile(&self) -> Result<(), Failure> {
        let sources = self.path().join("sources");
        fs::create_dir(&sources)?;
        let mut gcc = Command::new("gcc");
        gcc.args(["-O2", "-static", "-pthread", "-w", "-o"]).arg(self.data().join("program"));
        for (name, text) in SOURCES {
            let path = sources.join(name);
            fs::write(&path, text)?;
            if name.ends_with(".c") {
                gcc.arg(path);
            }
        }
        let output = gcc.output().map_err(|e| format!("starting gcc: {e}"))?;
        if !output.status.success() {
            return Err(format!("compiling: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(())
    }

    /// Without the right to mount, containers of the host's root are not measured.
    fn mounts(&self) {
        let none = None::<&str>;
        let private = || {
            unshare(CloneFlags::CLONE_NEWNS)?;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        };
        if private().is_err() || fs::create_dir(self.host()).is_err() {
            return;
        }
        if let Err(error) = mount(Some("/"), &self.host(), none, MsFlags::MS_BIND, none) {
            eprintln!("bench: no containers of the host's root: {error}");
        }
        // crun does not run where both versions of control groups are mounted.
        let unified = Path::new("/sys/fs/cgroup/unified");
        if unified.exists() {
            let _ = umount2(unified, MntFlags::MNT_DETACH);
        }
    }

    /// Whether a bundle's root is this machine's.
    pub fn is_of_host(&self, bundle: &Path) -> bool {
        let config = fs::read(bundle.join("config.json")).unwrap_or_default();
        let config: Value = serde_json::from_slice(&config).unwrap_or_default();
        config["root"]["path"].as_str().is_some_and(|path| Path::new(path) == self.host())
    }

    /// Writes a bundle and returns its directory.
    pub fn bundle(&self, name: &str, root: Root, args: &[&str]) -> Result<PathBuf, Failure> {
        let dir = self.path().join(format!("bundle-{name}"));
        fs::create_dir_all(&dir)?;
        let path = if root == Root::Small { self.small() } else { self.host() };
        let mount = |destination: &str, kind: &str, options: &[&str]| -> Value {
            json!({"destination": destination, "type": kind, "source": kind, "options": options})
        };
        let namespaces: Vec<_> =
            ["pid", "mount", "network", "ipc", "uts"].iter().map(|kind| json!({"type": kind})).collect();
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": args,
                "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/tmp", "LANG=C"],
                "cwd": "/",
            },
            "root": {"path": path, "readonly": root == Root::Host},
            "mounts": [
                mount("/proc", "proc", &[]),
                mount("/dev", "tmpfs", &["nosuid", "mode=755"]),
                mount("/dev/shm", "tmpfs", &[]),
                mount("/tmp", "tmpfs", &["mode=1777"]),
            ],
            "linux": {"namespaces": namespaces},
        });
        fs::write(dir.join("config.json"), serde_json::to_vec_pretty(&config)?)?;
        Ok(dir)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // The mount namespace may be the one of others, where this process had no right to make its own.
        if self.has(Root::Host) {
            let _ = umount2(&self.host(), MntFlags::MNT_DETACH);
        }
    }
}
