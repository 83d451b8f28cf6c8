//! The state directory: `<root>/<id>/state.json`, written whole and renamed, under a lock.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::cgroup::Leaf;
use crate::limits::Limits;

/// What the identifiers of containers of `do` begin with; the process id of the command follows.
pub const EPHEMERAL: &str = "do-";

/// Life of a container, as the runtime specification names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is being made.
    Creating,
    /// It is made; its program has not begun.
    Created,
    /// Its program runs.
    Running,
    /// It is frozen.
    Paused,
    /// Its program has ended.
    Stopped,
}

impl Status {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// What is kept of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Version of the runtime specification of its config.json.
    pub oci_version: String,
    /// Identifier.
    pub id: String,
    /// Process id of its sandbox; 0 before there is one and when stopped.
    pub pid: i32,
    /// Last known status.
    pub status: Status,
    /// Absolute path of its bundle.
    pub bundle: PathBuf,
    /// Absolute path of its root file system.
    pub rootfs: PathBuf,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Name of the user who made it.
    pub owner: String,
    /// Annotations of config.json.
    #[serde(default)]
    pub annotations: HashMap<String, String>,
    /// Start time of the sandbox process in clock ticks since boot, which tells it from a later one of the same id.
    #[serde(default)]
    pub pid_start: u64,
    /// Control group directories that were made for it.
    #[serde(default)]
    pub cgroups: Vec<PathBuf>,
    /// Control groups that it is in.
    #[serde(default)]
    pub groups: Vec<Leaf>,
    /// Path of its control groups beneath the mount of each controller.
    #[serde(default)]
    pub group_path: PathBuf,
    /// What it may use.
    #[serde(default)]
    pub limits: Limits,
    /// Whether it is the container of one command (`do`), and nobody's once that is gone.
    #[serde(default)]
    pub ephemeral: bool,
}

impl State {
    /// The state as of now: a container whose process is gone is stopped.
    pub fn refreshed(mut self) -> Self {
        if !(self.pid > 0 && start_time(self.pid) == Some(self.pid_start)) {
            self.status = Status::Stopped;
            self.pid = 0;
        }
        self
    }

    /// The state as the runtime specification words it: what hooks get and `state` prints.
    pub fn to_oci_json(&self, pretty: bool) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Public<'a> {
            oci_version: &'a str,
            id: &'a str,
            pid: i32,
            status: Status,
            bundle: &'a Path,
            rootfs: &'a Path,
            created: &'a str,
            owner: &'a str,
            #[serde(skip_serializing_if = "HashMap::is_empty")]
            annotations: &'a HashMap<String, String>,
        }
        let public = Public {
            oci_version: &self.oci_version,
            id: &self.id,
            pid: self.pid,
            status: self.status,
            bundle: &self.bundle,
            rootfs: &self.rootfs,
            created: &self.created,
            owner: &self.owner,
            annotations: &self.annotations,
        };
        let text =
            if pretty { serde_json::to_string_pretty(&public) } else { serde_json::to_string(&public) };
        // Strings, numbers and a map of strings always serialise.
        text.unwrap_or_default()
    }
}

/// Start time of a process that is alive (field 22 of /proc/PID/stat), `None` if it ended.
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after_name = &stat[stat.rfind(')')? + 2..];
    let mut fields = after_name.split(' ');
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Checks an identifier: letters, digits, `_`, `+`, `-`, `.`; neither `.` nor `..`.
pub fn check_id(id: &str) -> Result<(), Error> {
    let good = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    if id.is_empty() || id.len() > 1024 || matches!(id, "." | "..") || !id.chars().all(good) {
        return Err(Error::InvalidId { id: id.to_string() });
    }
    Ok(())
}

/// The directory of all containers.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Containers beneath `root`, which is made if need be.
    pub fn open(root: &Path) -> Result<Self, Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(root)
            .map_err(|e| Error::io("making the state directory", root, e))?;
        let root = root.canonicalize().map_err(|e| Error::io("resolving the state directory", root, e))?;
        Ok(Self { root })
    }

    /// Takes an identifier: makes its directory and locks it.
    pub fn create(&self, id: &str) -> Result<Container, Error> {
        check_id(id)?;
        let dir = self.root.join(id);
        DirBuilder::new().mode(0o700).create(&dir).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => Error::Exists,
            _ => Error::io("making", &dir, e),
        })?;
        Container::lock(dir, id)
    }

    /// An existing container, locked.
    pub fn get(&self, id: &str) -> Result<Container, Error> {
        check_id(id)?;
        let dir = self.root.join(id);
        if !dir.is_dir() {
            return Err(Error::NotFound);
        }
        Container::lock(dir, id)
    }

    /// An existing container, without its lock: for commands that do not change it, and that must not wait for those
    /// which do.
    pub fn find(&self, id: &str) -> Result<Found, Error> {
        check_id(id)?;
        let dir = self.root.join(id);
        if !dir.is_dir() {
            return Err(Error::NotFound);
        }
        Ok(Found { dir, id: id.to_string() })
    }

    /// The containers of `do` that nobody is left to delete, locked: their command and their sandbox are gone.
    pub fn abandoned(&self) -> Result<Vec<Container>, Error> {
        let entries = fs::read_dir(&self.root).map_err(|e| Error::io("reading", &self.root, e))?;
        let ids = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(ids.filter_map(|id| self.abandoned_one(&id)).collect())
    }

    fn abandoned_one(&self, id: &str) -> Option<Container> {
        let command = id.strip_prefix(EPHEMERAL)?.parse().ok()?;
        // Its command deletes it as long as there is one, and may not have come to lock it yet.
        if start_time(command).is_some() {
            return None;
        }
        let dir = self.root.join(id);
        let lock = File::open(dir.join("lock")).ok();
        let container = match lock.map(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock)) {
            Some(Ok(lock)) => Container { dir, id: id.to_string(), _lock: lock },
            Some(Err(_)) => return None,
            None => Container::lock(dir, id).ok()?,
        };
        match container.state() {
            Ok(state) => (state.ephemeral && state.status == Status::Stopped).then_some(container),
            // Its command was killed before there was a state.
            Err(Error::NotFound) => Some(container),
            Err(_) => None,
        }
    }

    /// State of a container, without its lock: it is never written in place.
    pub fn state(&self, id: &str) -> Result<State, Error> {
        check_id(id)?;
        read_state(&self.root.join(id), id).map(State::refreshed)
    }

    /// Directory of a container.
    pub fn dir(&self, id: &str) -> PathBuf {
        self.root.join(id)
    }

    /// States of all containers by identifier; those that cannot be read are left out.
    pub fn list(&self) -> Result<Vec<State>, Error> {
        let entries = fs::read_dir(&self.root).map_err(|e| Error::io("reading", &self.root, e))?;
        let mut states: Vec<_> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|id| self.state(&id).ok())
            .collect();
        states.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(states)
    }
}

fn read_state(dir: &Path, id: &str) -> Result<State, Error> {
    let path = dir.join("state.json");
    let text = fs::read_to_string(&path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Error::NotFound,
        _ => Error::io("reading", &path, e),
    })?;
    serde_json::from_str(&text)
        .map_err(|e| Error::StateMalformed { id: id.to_string(), reason: e.to_string() })
}

/// A container's directory, not locked.
#[derive(Debug)]
pub struct Found {
    dir: PathBuf,
    id: String,
}

impl Found {
    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its state as of now.
    pub fn state(&self) -> Result<State, Error> {
        read_state(&self.dir, &self.id).map(State::refreshed)
    }
}

/// A container's directory, locked against other commands.
#[derive(Debug)]
pub struct Container {
    dir: PathBuf,
    id: String,
    _lock: Flock<File>,
}

impl Container {
    fn lock(dir: PathBuf, id: &str) -> Result<Self, Error> {
        let path = dir.join("lock");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|e| if dir.is_dir() { Error::io("opening", &path, e) } else { Error::NotFound })?;
        let lock =
            Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| Error::io("locking", &path, e))?;
        // Another command may have deleted the container while this one waited.
        if !path.exists() {
            return Err(Error::NotFound);
        }
        Ok(Self { dir, id: id.to_string(), _lock: lock })
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its state as of now.
    pub fn state(&self) -> Result<State, Error> {
        read_state(&self.dir, &self.id).map(State::refreshed)
    }

    /// Writes its state.
    pub fn save(&self, state: &State) -> Result<(), Error> {
        let (path, new) = (self.dir.join("state.json"), self.dir.join("state.json.new"));
        let text = serde_json::to_vec(state)
            .map_err(|e| Error::StateMalformed { id: self.id.clone(), reason: e.to_string() })?;
        let write = || -> io::Result<()> {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(&text)?;
            fs::rename(&new, &path)
        };
        write().map_err(|e| Error::io("writing", path.clone(), e))
    }

    /// Removes the directory.
    pub fn remove(self) -> Result<(), Error> {
        match fs::remove_dir_all(&self.dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("removing", &self.dir, e)),
            _ => Ok(()),
        }
    }
}

/// Now, in RFC 3339 with nanoseconds.
pub fn timestamp() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, rest) = (since.as_secs() / 86400, since.as_secs() % 86400);
    let (year, month, day) = date(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:09}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60,
        since.subsec_nanos()
    )
}

/// Date of a day since 1970-01-01 in the Gregorian calendar, by its cycle of 400 years that begin in March.
fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(11_016), (2000, 2, 29));
        assert_eq!(date(20_778), (2026, 11, 21));
    }

    #[test]
    fn identifiers() {
        for good in ["a", "A-1_b+c.d", "..."] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä"] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_container_of_a_dead_process_is_stopped() {
        let root = std::env::temp_dir().join(format!("runsc-state-{}", std::process::id()));
        let store = Store::open(&root).expect("open");
        let container = store.create("c1").expect("create");
        assert!(matches!(store.create("c1"), Err(Error::Exists)));
        let me = std::process::id() as i32;
        let mut state = State {
            oci_version: "1.0.2".into(),
            id: "c1".into(),
            pid: me,
            status: Status::Running,
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            created: timestamp(),
            owner: "root".into(),
            annotations: HashMap::new(),
            pid_start: start_time(me).expect("alive"),
            cgroups: Vec::new(),
            groups: Vec::new(),
            group_path: PathBuf::new(),
            limits: Limits::default(),
            ephemeral: false,
        };
        container.save(&state).expect("save");
        assert_eq!(store.state("c1").expect("state").status, Status::Running);
        state.pid_start += 1;
        container.save(&state).expect("save");
        let now = store.state("c1").expect("state");
        assert_eq!((now.status, now.pid), (Status::Stopped, 0));
        // One that was killed while it was made, too.
        state.status = Status::Creating;
        container.save(&state).expect("save");
        assert_eq!(store.state("c1").expect("state").status, Status::Stopped);
        container.remove().expect("remove");
        assert!(matches!(store.state("c1"), Err(Error::NotFound)));
        let _ = fs::remove_dir_all(root);
    }
}
