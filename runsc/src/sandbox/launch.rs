//! Making a sandbox: from a bundle to a process that runs it, and back to nothing where that fails.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use abi::spec::LaunchSpec;
use checkpoint::Snapshot;
use oci::bundle::Bundle;
use oci::cgroup::Cgroup;
use oci::hooks;
use oci::limits::Limits;
use oci::mounts::Donation;
use oci::state::{Container, State, Status, Store, start_time, timestamp};
use platform::host::files::Directory;
use platform::memory::images::Images;
use platform::{process, terminal};

use super::child::{self, Sandbox};
use super::streams::{self, Console};
use super::sync::{self, Message};
use super::{choose, control, limits, tracing};
use crate::cli::Global;
use crate::error::Error;
use crate::log;

/// What is asked for.
pub struct Request<'a> {
    /// Options of the command line.
    pub global: &'a Global,
    /// Name of the command.
    pub command: &'static str,
    /// Identifier of the container.
    pub id: &'a str,
    /// Its bundle.
    pub bundle: Bundle,
    /// Whether its program runs at once.
    pub start: bool,
    /// Whether the command returns before the container ends.
    pub detached: bool,
    /// Console socket.
    pub console_socket: Option<&'a Path>,
    /// Number of preserved descriptors.
    pub preserve_fds: u32,
    /// Where the process id is written.
    pub pid_file: Option<&'a Path>,
    /// Whether the container is that of one command (`do`), with which it ends.
    pub ephemeral: bool,
    /// A snapshot that the container goes on from.
    pub snapshot: Option<&'a Path>,
}

/// A sandbox whose container is made.
pub struct Launched {
    /// Process id of the sandbox.
    pub pid: i32,
    /// Messages from it.
    pub sync: UnixStream,
    /// Directory of the container.
    pub dir: PathBuf,
    /// The terminal of this command, which was set raw, and its settings before.
    pub terminal: Option<(OwnedFd, terminal::Saved)>,
}

/// The directory of all containers that the options name.
pub fn store(global: &Global) -> Result<Store, Error> {
    let root = match &global.root {
        Some(root) if root == Path::new("/") => {
            return Err(Error::Usage("--root: the state directory must not be /".into()));
        }
        Some(root) => root.clone(),
        None => match std::env::var_os("XDG_RUNTIME_DIR") {
            Some(dir) if !nix::unistd::geteuid().is_root() => PathBuf::from(dir).join("runsc"),
            _ => "/run/runsc".into(),
        },
    };
    Ok(Store::open(&root)?)
}

/// Makes the sandbox and waits until its container is made. Where anything fails, nothing is left.
pub fn launch(request: Request<'_>) -> Result<Launched, Error> {
    let store = store(request.global)?;
    let container = store.create(request.id)?;
    let mut made = Made { container: Some(container), ..Made::default() };
    match make(&request, &mut made) {
        Ok(launched) => Ok(launched),
        Err(error) => {
            made.undo(&request);
            Err(error)
        }
    }
}

/// What was made so far.
#[derive(Default)]
struct Made {
    container: Option<Container>,
    cgroup: Cgroup,
    pid: Option<i32>,
    state: Option<State>,
    terminal: Option<(OwnedFd, terminal::Saved)>,
}

impl Made {
    fn undo(self, request: &Request<'_>) {
        if let Some(pid) = self.pid {
            process::kill_child(pid);
        }
        if let Some((fd, saved)) = &self.terminal {
            terminal::restore(fd.as_fd(), saved);
        }
        self.cgroup.remove();
        if let Some(mut state) = self.state {
            (state.pid, state.status) = (0, Status::Stopped);
            let list = request.bundle.spec.hooks().as_ref().and_then(|hooks| hooks.poststop().as_ref());
            if let Err(error) = hooks::run("poststop", list, &state) {
                log::warn(&error.to_string());
            }
        }
        if let Some(Err(error)) = self.container.map(Container::remove) {
            log::warn(&error.to_string());
        }
        if let Some(path) = request.pid_file {
            let _ = fs::remove_file(path);
        }
    }
}

fn make(request: &Request<'_>, made: &mut Made) -> Result<Launched, Error> {
    let bundle = &request.bundle;
    let linux = bundle.spec.linux().as_ref();
    let Some(container) = &made.container else { return Err(oci::Error::NotFound.into()) };
    let dir = container.dir().to_path_buf();
    let snapshot = request.snapshot.map(Snapshot::open).transpose()?;
    let platform = match &snapshot {
        Some(saved) => choose::open_for(request.global.platform, &saved.manifest.machine)?,
        None => choose::open(request.global.platform)?,
    };
    let mut launch = oci::launch::convert(bundle, request.id, request.start)?;
    launch.warnings.iter().for_each(|warning| log::warn(warning));

    let process = &mut launch.container.process;
    let console = Console::new(process.terminal, request.console_socket, request.detached)?;
    let streams = streams::collect(process, &console, request.preserve_fds)?;
    let directories = launch.donations.iter().map(donate).collect::<Result<_, _>>()?;
    let images = launch.images.iter().map(|path| open_image(path)).collect::<Result<_, _>>()?;
    let images = Images::new(images)?;
    let limited = Limits::of(linux);
    launch.container.resources = limits::at_start(launch.container.resources);
    let (cgroup, wanted) = Cgroup::plan(linux, &limited, request.id)?;
    made.cgroup = cgroup;
    let mut state = State {
        oci_version: bundle.spec.version().clone(),
        id: request.id.to_string(),
        pid: 0,
        status: Status::Creating,
        bundle: bundle.path.clone(),
        rootfs: bundle.rootfs.clone(),
        created: timestamp(),
        owner: owner(),
        annotations: bundle.spec.annotations().clone().unwrap_or_default(),
        pid_start: 0,
        cgroups: Vec::new(),
        groups: Vec::new(),
        group_path: made.cgroup.path.clone(),
        limits: limited.clone(),
        ephemeral: request.ephemeral,
    };
    if wanted {
        state.cgroups = made.cgroup.missing(&limited);
        container.save(&state)?;
        made.cgroup.create(&limited)?;
    }
    made.cgroup.warnings.iter().for_each(|warning| log::warn(warning));

    let debug_log = log::open_debug(request.global, request.command, request.id)?;
    let spec = LaunchSpec {
        container: launch.container,
        images: images.specs(),
        strace: tracing::at_start(request.global),
        watchdog: tracing::watchdog(request.global),
        allow_suid: request.global.allow_suid,
        log_level: if request.global.debug { 3 } else { 2 },
    };
    let spec = postcard::to_allocvec(&spec)
        .map_err(|e| Error::Sandbox(format!("serialising the launch specification: {e}")))?;
    let hooks = bundle.spec.hooks().as_ref();
    let (ours, theirs) = UnixStream::pair().map_err(|e| Error::os("making a socket pair", e))?;
    if let Console::Own(fd) = &console {
        let copy = fd.try_clone().map_err(|e| Error::os("copying the console", e))?;
        let saved = terminal::make_raw(fd.as_fd())?;
        made.terminal = Some((copy, saved));
    }
    let sandbox = Sandbox {
        platform,
        spec,
        snapshot,
        ephemeral: request.ephemeral,
        cpus: limits::cpus(request.global),
        memory: limits::memory(request.global, &limited)?,
        most_memory: limits::most_memory(),
        directories,
        images,
        streams,
        console,
        listener: control::listen(&dir)?,
        sync: Arc::new(theirs),
        debug_log,
        mount_point: dir.clone(),
        null: File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .map_err(|e| Error::os("opening /dev/null", e))?,
    };
    let own_pids = nix::unistd::geteuid().is_root();
    let pid = fork(own_pids, sandbox)?;
    made.pid = Some(pid);
    (state.pid, state.pid_start) = (pid, start_time(pid).unwrap_or(0));
    (state.cgroups, state.groups) = (made.cgroup.dirs.clone(), made.cgroup.leaves.clone());
    container.save(&state)?;
    made.cgroup.enter(pid)?;
    if let Some(hooks) = hooks {
        made.state = Some(state.clone());
        run_early_hooks(hooks, &state)?;
    }
    if (&ours).write_all(&[1]).is_err() {
        return Err(killed(request.id, pid));
    }
    match sync::receive(&ours).map_err(|e| Error::os("waiting for the sandbox", e))? {
        Some(Message::Created) => {}
        Some(Message::Refused(reason)) => return Err(Error::Start(reason)),
        Some(Message::Failed(reason)) => return Err(Error::Sandbox(reason)),
        // A container that ended before it said that it was made.
        Some(Message::Ended(code)) => {
            return Err(Error::Sandbox(format!("it ended with status {code} too early")));
        }
        None => return Err(killed(request.id, pid)),
    }
    made.state = Some(state.clone());
    state.status = if request.start { Status::Running } else { Status::Created };
    container.save(&state)?;
    if let Some(path) = request.pid_file {
        write_pid(path, pid)?;
    }
    if request.start {
        let list = hooks.and_then(|hooks| hooks.poststart().as_ref());
        hooks::run("poststart", list, &state)?;
    }
    Ok(Launched { pid, sync: ours, dir, terminal: made.terminal.take() })
}

/// Forks the sandbox process, which takes everything that it works with along.
fn fork(own_pids: bool, sandbox: Sandbox) -> Result<i32, Error> {
    let mut cell = Some(sandbox);
    let pid = process::fork(own_pids, || cell.take().map_or(process::FAILED, child::run))?;
    Ok(pid)
}

fn run_early_hooks(hooks: &oci_spec::runtime::Hooks, state: &State) -> Result<(), Error> {
    hooks::run("prestart", hooks.prestart().as_ref(), state)?;
    hooks::run("createRuntime", hooks.create_runtime().as_ref(), state)?;
    hooks::run("createContainer", hooks.create_container().as_ref(), state)?;
    Ok(())
}

/// Why a sandbox process went away without a word.
pub fn killed(id: &str, pid: i32) -> Error {
    use nix::sys::wait::{WaitStatus, waitpid};
    match waitpid(nix::unistd::Pid::from_raw(pid), None) {
        Ok(WaitStatus::Signaled(_, signal, _)) => {
            Error::Killed { id: id.to_string(), signal: signal.to_string() }
        }
        Ok(status) => Error::Sandbox(format!("the process ended without a reason ({status:?})")),
        Err(_) => Error::Killed { id: id.to_string(), signal: "an unknown signal".into() },
    }
}

fn donate(donation: &Donation) -> Result<Directory, Error> {
    let Donation { path, writable, directory } = donation;
    let fd = if *directory {
        process::donate_directory(path, !writable)?
    } else {
        let file =
            OpenOptions::new().read(true).write(*writable).custom_flags(nix::libc::O_NOCTTY).open(path);
        file.map_err(|e| Error::os(format!("opening {}", path.display()), e))?.into()
    };
    Ok(Directory { fd, writable: *writable, directory: *directory })
}

/// Opens an image of a file system, and looks whether it is one: the sentry could say less of what is wrong.
fn open_image(path: &Path) -> Result<File, Error> {
    let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NOCTTY).open(path);
    let file = file.map_err(|e| Error::os(format!("opening the image {}", path.display()), e))?;
    match rofs::Image::open(&file, rofs::Verify::Checksum) {
        Ok(_) => Ok(file),
        Err(error) => Err(Error::Image { path: path.to_path_buf(), reason: error.to_string() }),
    }
}

fn owner() -> String {
    let uid = nix::unistd::geteuid();
    let user = nix::unistd::User::from_uid(uid).ok().flatten();
    user.map_or_else(|| format!("#{uid}"), |user| user.name)
}

/// Writes the process id: no newline, and the file is never seen half written.
pub fn write_pid(path: &Path, pid: i32) -> Result<(), Error> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let new = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o666).open(&new)?;
        file.write_all(pid.to_string().as_bytes())?;
        fs::rename(&new, path)
    };
    write().map_err(|e| {
        let _ = fs::remove_file(&new);
        Error::os(format!("writing the pid file {}", path.display()), e)
    })
}
