//! What the tests of the whole product share: the binary, the platforms that work here, bundles, terminals, and running
//! a program natively and in the sandbox.

pub mod terminal;

use serde_json::{Value, json};
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The `runsc` binary: `RUNSC`, or the one beside the tests in the target directory.
///
/// # Panics
/// Where there is none: the tests cannot run.
pub fn runsc() -> PathBuf {
    if let Some(path) = std::env::var_os("RUNSC") {
        return PathBuf::from(path);
    }
    let own = std::env::current_exe().unwrap_or_default();
    let path = own.ancestors().nth(2).map(|dir| dir.join("runsc")).unwrap_or_default();
    assert!(path.exists(), "no runsc at {}: cargo build -p runsc", path.display());
    path
}

/// Platforms that `runsc platforms` calls usable here. What is not usable is printed, so that a run shows it.
pub fn platforms() -> &'static [String] {
    static PLATFORMS: OnceLock<Vec<String>> = OnceLock::new();
    PLATFORMS.get_or_init(|| {
        let output = Command::new(runsc()).arg("platforms").output();
        let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
        let mut usable = Vec::new();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some(name @ ("kvm" | "systrap")), Some("usable:")) => usable.push(name.to_string()),
                (Some("kvm" | "systrap"), _) => eprintln!("not tested here: {line}"),
                _ => {}
            }
        }
        assert!(!usable.is_empty(), "no platform is usable here:\n{text}");
        usable
    })
}

/// Capabilities of the tests' processes: what root has without those that no container gets.
const CAPABILITIES: [&str; 16] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_SYS_NICE",
    "CAP_MKNOD",
    "CAP_SETFCAP",
    "CAP_SYS_ADMIN",
    "CAP_IPC_LOCK",
];

/// A bundle in a directory of its own.
pub struct Bundle {
    dir: TempDir,
    config: Value,
}

impl Bundle {
    /// A bundle whose root is `root`, with the usual mounts, that runs `args`.
    ///
    /// # Errors
    /// Of the file system.
    pub fn new(root: &Path, args: &[&str]) -> io::Result<Self> {
        let mount = |destination: &str, kind: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": kind, "options": options});
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": args,
                "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/tmp", "LANG=C"],
                "cwd": "/tmp",
                "capabilities": {
                    "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES,
                },
            },
            "root": {"path": root},
            "hostname": "sandbox",
            "mounts": [
                mount("/proc", "proc", &[]),
                mount("/dev", "tmpfs", &["nosuid", "mode=755", "size=65536k"]),
                mount("/dev/pts", "devpts", &[]),
                mount("/dev/shm", "tmpfs", &[]),
                mount("/sys", "sysfs", &[]),
                mount("/tmp", "tmpfs", &["mode=1777"]),
            ],
            "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "network"}]},
        });
        Ok(Self { dir: tempfile::tempdir()?, config })
    }

    /// The configuration, to change it.
    pub fn config(&mut self) -> &mut Value {
        &mut self.config
    }

    /// The directory of the bundle.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// `runsc` on the state directory of this bundle, with these arguments.
    pub fn runsc(&self, args: &[&str]) -> Command {
        let mut command = Command::new(runsc());
        command.arg("--root").arg(self.dir.path().join("state")).args(args);
        command
    }

    /// Writes config.json and gives the command that makes the container: `run`, `create` and their options. Whatever
    /// is left of the container ends with the bundle.
    ///
    /// # Errors
    /// Of the file system.
    pub fn launch(&self, platform: &str, command: &[&str]) -> io::Result<Launch> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let id = format!("test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        self.write()?;
        let mut made = self.runsc(&["--platform", platform]);
        made.args(command).arg("--bundle").arg(self.dir.path()).arg(&id);
        Ok(Launch { command: made, id })
    }

    fn write(&self) -> io::Result<()> {
        std::fs::write(self.dir.path().join("config.json"), serde_json::to_vec_pretty(&self.config)?)
    }

    /// Writes config.json and gives the command that runs the container in the foreground under the name `id`.
    ///
    /// # Errors
    /// Of the file system.
    pub fn command(&self, platform: &str, id: &str) -> io::Result<Command> {
        self.write()?;
        let mut made = self.runsc(&["--platform", platform, "run", "--bundle"]);
        made.arg(self.dir.path()).arg(id);
        Ok(made)
    }

    /// Runs it in the foreground. The sandbox is killed after `limit`.
    ///
    /// # Errors
    /// Of starting the command; a time-out is one too.
    pub fn run(&self, platform: &str, stdin: &[u8], limit: Duration) -> io::Result<Output> {
        finish(self.launch(platform, &["run"])?.command, stdin, limit)
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        // What a test that failed has left: a killed `runsc run` leaves its container running.
        for entry in std::fs::read_dir(self.dir.path().join("state")).into_iter().flatten().flatten() {
            let id = entry.file_name().to_string_lossy().into_owned();
            let _ = self.runsc(&["delete", "--force", &id]).stdin(Stdio::null()).status();
        }
    }
}

/// A command that makes a container.
pub struct Launch {
    /// The command.
    pub command: Command,
    /// Identifier of the container.
    pub id: String,
}

/// Time that a program gets in [`compare`].
/// How long a script of servers or compilers may take, on a busy machine.
const SCRIPT_LIMIT: Duration = Duration::from_secs(300);
const LIMIT: Duration = Duration::from_secs(120);

/// The environment of programs that run natively, as that of [`Bundle`] is.
pub fn native(args: &[&str]) -> Command {
    let mut command = Command::new(args[0]);
    command.args(&args[1..]).env_clear().env("LANG", "C").env("HOME", "/tmp");
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

/// Exit code of a command as a shell gives it: 128 + n for signal n.
pub fn code(status: ExitStatus) -> Option<i32> {
    status.code().or(status.signal().map(|signal| 128 + signal))
}

/// Runs a program of this machine natively and, on each platform, in a sandbox whose lower layer is the root of this
/// machine: standard output and exit code must agree.
///
/// # Panics
/// Where they do not, or one of the two does not end.
pub fn compare(args: &[&str], stdin: &[u8]) {
    let work = tempfile::tempdir().expect("a directory");
    let mut command = native(args);
    command.current_dir(work.path());
    let native = finish(command, stdin, LIMIT).expect("the native run");
    for platform in platforms() {
        let bundle = Bundle::new(Path::new("/"), args).expect("a bundle");
        let sandboxed = bundle.run(platform, stdin, LIMIT).expect("the run in the sandbox");
        same(&format!("{args:?} on {platform}"), &native, &sandboxed);
    }
}

/// Runs a script of bash natively, in a network namespace of its own, and in the sandbox on each platform: they must
/// print the same.
///
/// # Panics
/// Where they do not, or one does not end.
pub fn compare_script(script: &str) {
    let work = tempfile::tempdir().expect("a directory");
    let begin = "/bin/busybox ip link set lo up && exec /bin/bash -c \"$0\"";
    let mut command = native(&["/usr/bin/unshare", "--net", "/bin/bash", "-c", begin, script]);
    command.current_dir(work.path());
    let native = finish(command, b"", SCRIPT_LIMIT).expect("the native run");
    for platform in platforms() {
        let bundle = Bundle::new(Path::new("/"), &["/bin/bash", "-c", script]).expect("a bundle");
        let sandboxed = bundle.run(platform, b"", SCRIPT_LIMIT).expect("the run in the sandbox");
        same(&format!("on {platform}"), &native, &sandboxed);
    }
}

/// Compares the outputs and exit codes of a native run and one in the sandbox.
///
/// # Panics
/// Where they differ.
pub fn same(what: &str, native: &Output, sandboxed: &Output) {
    let (expected, got) =
        (String::from_utf8_lossy(&native.stdout), String::from_utf8_lossy(&sandboxed.stdout));
    assert_eq!(expected, got, "{what}: {}", String::from_utf8_lossy(&sandboxed.stderr));
    assert_eq!(code(native.status), code(sandboxed.status), "{what}");
}

/// Runs a command with this standard input to its end, at most for `limit`.
///
/// # Errors
/// Of starting it; [`io::ErrorKind::TimedOut`].
pub fn finish(mut command: Command, stdin: &[u8], limit: Duration) -> io::Result<Output> {
    let out = tempfile::NamedTempFile::new()?;
    let err = tempfile::NamedTempFile::new()?;
    let mut child = command.stdin(Stdio::piped()).stdout(out.reopen()?).stderr(err.reopen()?).spawn()?;
    if let Some(mut pipe) = child.stdin.take() {
        // A program that does not read its input closes the pipe.
        let _ = pipe.write_all(stdin);
    }
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if start.elapsed() > limit {
            let _ = child.kill();
            let _ = child.wait();
            let text = String::from_utf8_lossy(&std::fs::read(out.path())?).into_owned()
                + &String::from_utf8_lossy(&std::fs::read(err.path())?);
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("{command:?} took too long:\n{text}"),
            ));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Ok(Output { status, stdout: std::fs::read(out.path())?, stderr: std::fs::read(err.path())? })
}

/// Waits until a condition holds, which is asked every few milliseconds, at most for `limit`.
///
/// # Panics
/// With `what` where it does not.
pub fn wait_for(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Compiles a program of `tests/programs` statically and returns where it is.
///
/// # Panics
/// Where it does not compile.
pub fn compile(name: &str, into: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs").join(format!("{name}.c"));
    let binary = into.join(name);
    let output = Command::new("gcc")
        .args(["-O1", "-w", "-static", "-pthread", "-o"])
        .args([&binary, &source])
        .output()
        .unwrap_or_else(|e| panic!("gcc: {e}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    binary
}
