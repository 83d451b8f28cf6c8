//! Where operations run: natively, or under a runtime.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Failure;
use crate::work::Work;

/// How a place is reached.
#[derive(Clone)]
enum Kind {
    Native,
    /// A runtime with flags before its command.
    Runtime {
        binary: PathBuf,
        flags: Vec<String>,
    },
}

/// A place.
#[derive(Clone)]
pub struct Place {
    /// Its name: in the table, and of `--places`.
    pub name: &'static str,
    kind: Kind,
    /// It has counters that can be asked for.
    pub counts: bool,
    /// Operations are measured there too, not whole commands only.
    pub operations: bool,
    /// An image of this machine's root, in place of the root itself.
    image: Option<PathBuf>,
}

/// All places that are known.
pub fn all(runsc: &Path, gvisor: Option<&Path>, cpus: Option<u32>, image: Option<&Path>) -> Vec<Place> {
    let own = |name: &'static str, platform: &str| {
        let mut flags = vec!["--platform".to_string(), platform.to_string()];
        if let Some(cpus) = cpus {
            flags.extend(["--cpus".to_string(), cpus.to_string()]);
        }
        let kind = Kind::Runtime { binary: runsc.to_path_buf(), flags };
        Place { name, kind, counts: true, operations: true, image: None }
    };
    let peer = |name: &'static str, binary: &Path, flags: &[&str]| Place {
        name,
        kind: Kind::Runtime {
            binary: binary.to_path_buf(),
            flags: flags.iter().map(|f| f.to_string()).collect(),
        },
        counts: false,
        operations: name != "crun",
        image: None,
    };
    let mut places = vec![
        Place { name: "native", kind: Kind::Native, counts: false, operations: true, image: None },
        own("kvm", "kvm"),
        own("systrap", "systrap"),
        peer("runc", Path::new("runc"), &[]),
        // Operations cost what they cost under runc.
        peer("crun", Path::new("crun"), &[]),
    ];
    if let Some(image) = image {
        let on_image = |place: Place| Place { operations: false, image: Some(image.to_path_buf()), ..place };
        places.insert(2, on_image(own("kvm-image", "kvm")));
        places.insert(4, on_image(own("systrap-image", "systrap")));
    }
    if let Some(gvisor) = gvisor {
        places.push(peer("gvisor", gvisor, &["--platform=systrap", "--network=none", "--ignore-cgroups"]));
    }
    places
}

impl Place {
    /// Whether it can be measured here: the program is there, and the platform works.
    pub fn usable(&self) -> bool {
        let Kind::Runtime { binary, .. } = &self.kind else { return true };
        let mut command = Command::new(binary);
        command.arg(if self.counts { "platforms" } else { "--version" });
        let Ok(output) = command.stdin(Stdio::null()).output() else { return false };
        if !self.counts {
            return output.status.success();
        }
        let usable = |line: &str| {
            let mut words = line.split_whitespace();
            words.next() == self.name.split('-').next() && words.next() == Some("usable:")
        };
        String::from_utf8_lossy(&output.stdout).lines().any(usable)
    }

    /// Makes and returns the directory of the runtime's state.
    pub fn state(&self, work: &Work) -> Result<PathBuf, Failure> {
        let dir = work.path().join(format!("state-{}", self.name));
        fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// The runtime with its flags, without a command; `None` natively.
    pub fn control(&self, work: &Work) -> Option<Command> {
        let Kind::Runtime { binary, flags } = &self.kind else { return None };
        let mut command = Command::new(binary);
        command.arg("--root").arg(self.state(work).ok()?).args(flags);
        Some(command)
    }

    /// A command that runs the bundle's program: `args` natively, else the bundle as container `id`.
    pub fn command(&self, work: &Work, bundle: &Path, id: &str, args: &[&str]) -> Result<Command, Failure> {
        match (&self.kind, args.split_first()) {
            (Kind::Native, Some((program, rest))) => {
                let mut command = Command::new(program);
                command.args(rest);
                Ok(command)
            }
            (Kind::Native, None) => Err("no program".into()),
            (Kind::Runtime { .. }, _) => {
                let mut command = self.control(work).ok_or("no directory for the runtime's state")?;
                command.arg("run").arg("--bundle").arg(bundle).arg(id);
                if let Some(image) = self.image.as_ref().filter(|_| work.is_of_host(bundle)) {
                    command.arg("--rootfs-image").arg(image);
                }
                Ok(command)
            }
        }
    }
}
