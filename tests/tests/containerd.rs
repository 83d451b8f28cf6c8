//! containerd drives the runtime as it drives runc: `ctr run --runc-binary`, on each platform.

use runsc_tests::{finish, platforms, runsc};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);

/// A containerd of its own, with a root file system of busybox. Ends with all its shims when dropped.
struct Containerd {
    dir: TempDir,
    daemon: Child,
    runtime: PathBuf,
}

impl Containerd {
    fn start(platform: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path();
        let bin = path.join("rootfs/bin");
        for dir in ["bin", "proc", "sys", "dev", "etc", "tmp", "run"] {
            std::fs::create_dir_all(path.join("rootfs").join(dir)).expect("a directory");
        }
        std::fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox");
        for name in ["sh", "echo", "sleep", "cat", "tty", "stty", "seq"] {
            symlink("busybox", bin.join(name)).expect("a link");
        }
        let runtime = path.join("runtime");
        let script = format!("#!/bin/sh\nexec {} --platform {platform} \"$@\"\n", runsc().display());
        std::fs::write(&runtime, script).expect("a script");
        std::fs::set_permissions(&runtime, PermissionsExt::from_mode(0o755)).expect("a mode");
        let config = path.join("config.toml");
        let shown = path.display();
        std::fs::write(
            &config,
            format!(
                "version = 2\nroot = \"{shown}/root\"\nstate = \"{shown}/state\"\n\
                 disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{shown}/socket\"\n"
            ),
        )
        .expect("a configuration");
        let log = std::fs::File::create(path.join("log")).expect("a log");
        let daemon = Command::new("containerd")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("containerd: scripts/setup installs it");
        let this = Self { runtime, daemon, dir };
        let start = Instant::now();
        while !this.ctr(&["version"]).status.success() {
            assert!(start.elapsed() < LIMIT, "containerd does not answer: {}", this.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        this
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("log")).unwrap_or_default()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.path().join("socket")).args(args);
        command
    }

    fn ctr(&self, args: &[&str]) -> Output {
        finish(self.command(args), b"", LIMIT).expect("ctr")
    }

    /// `ctr run OPTIONS --rootfs ROOT ID COMMAND`.
    fn run(&self, options: &[&str], id: &str, command: &[&str]) -> Command {
        let mut run = self.command(&["run"]);
        run.args(options).arg("--runc-binary").arg(&self.runtime);
        run.arg("--runc-root").arg(self.path().join("runsc")).arg("--rootfs");
        run.arg(self.path().join("rootfs")).arg(id).args(command);
        run
    }

    /// Runs it and wants this output and exit code.
    #[track_caller]
    fn expect(&self, command: Command, code: i32, out: &str) {
        let output = finish(command, b"", LIMIT).expect("ctr");
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(String::from_utf8_lossy(&output.stdout), out, "{err}{}", self.log());
        assert_eq!(output.status.code(), Some(code), "{err}{}", self.log());
    }

    /// Status of a task, as `ctr task ls` names it.
    fn status(&self, id: &str) -> String {
        let list = String::from_utf8_lossy(&self.ctr(&["task", "ls"]).stdout).into_owned();
        let line = list.lines().find(|line| line.split_whitespace().next() == Some(id));
        line.and_then(|line| line.split_whitespace().nth(2)).unwrap_or("none").to_string()
    }

    #[track_caller]
    fn wait_for(&self, id: &str, status: &str) {
        let start = Instant::now();
        while self.status(id) != status {
            assert!(start.elapsed() < LIMIT, "{id} is {}, not {status}", self.status(id));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        for id in String::from_utf8_lossy(&self.ctr(&["task", "ls", "-q"]).stdout).lines() {
            let _ = self.ctr(&["task", "kill", "-s", "KILL", id]);
            let _ = self.ctr(&["task", "rm", "--force", id]);
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        // Shims outlive the daemon; each names its socket.
        let address = self.path().join("socket");
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            if line.contains("containerd-shim") && line.contains(&*address.to_string_lossy()) {
                let pid = entry.file_name().to_string_lossy().into_owned();
                let _ = Command::new("kill").args(["-KILL", &pid]).status();
            }
        }
    }
}

#[test]
fn containers_run_and_end_with_their_status() {
    for platform in platforms() {
        let ctd = Containerd::start(platform);
        ctd.expect(
            ctd.run(&["--rm"], "one", &["/bin/echo", "hello", platform]),
            0,
            &format!("hello {platform}\n"),
        );
        ctd.expect(ctd.run(&["--rm"], "two", &["/bin/sh", "-c", "echo out; exit 5"]), 5, "out\n");
        ctd.expect(ctd.run(&["--rm"], "three", &["/bin/nosuch"]), 1, "");
        assert_eq!(ctd.status("one"), "none");
    }
}

#[test]
fn exec_pause_resume_kill_and_delete() {
    for platform in platforms() {
        let ctd = Containerd::start(platform);
        let ok = |args: &[&str]| {
            let output = ctd.ctr(args);
            let err = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{args:?} on {platform}: {err}{}", ctd.log());
        };
        ctd.expect(ctd.run(&["-d"], "life", &["/bin/sleep", "600"]), 0, "");
        ctd.wait_for("life", "RUNNING");
        let exec = |id: &str, script: &str| {
            ctd.command(&["task", "exec", "--exec-id", id, "life", "/bin/sh", "-c", script])
        };
        ctd.expect(exec("e1", "echo from exec"), 0, "from exec\n");
        ctd.expect(exec("e2", "echo failing; exit 9"), 9, "failing\n");
        ok(&["task", "pause", "life"]);
        assert_eq!(ctd.status("life"), "PAUSED");
        ok(&["task", "resume", "life"]);
        assert_eq!(ctd.status("life"), "RUNNING");
        ok(&["task", "ps", "life"]);
        ctd.expect(exec("e3", "seq 3"), 0, "1\n2\n3\n");
        ok(&["task", "kill", "-s", "KILL", "life"]);
        ctd.wait_for("life", "STOPPED");
        // `task rm` tells the task's status.
        let removed = ctd.ctr(&["task", "rm", "life"]);
        let told = String::from_utf8_lossy(&removed.stderr).into_owned();
        assert!(removed.status.success() && told.contains("exit code 137"), "on {platform}: {told}");
        ok(&["container", "rm", "life"]);
        assert!(std::fs::read_dir(ctd.path().join("runsc/default")).is_ok_and(|mut d| d.next().is_none()));
    }
}

#[test]
fn twenty_at_once() {
    for platform in platforms() {
        let ctd = Containerd::start(platform);
        let children: Vec<(usize, Child)> = (0..20)
            .map(|n| {
                let number = n.to_string();
                let mut run = ctd.run(&["--rm"], &format!("many-{n}"), &["/bin/echo", &number]);
                run.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
                (n, run.spawn().expect("ctr"))
            })
            .collect();
        for (n, child) in children {
            let output = child.wait_with_output().expect("ctr");
            let err = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{n}\n"), "{err}");
            assert!(output.status.success(), "{err}");
        }
    }
}

#[test]
fn a_container_has_a_terminal() {
    for platform in platforms() {
        let ctd = Containerd::start(platform);
        // script(1) gives ctr a terminal of its own.
        let run = ctd.run(&["--rm", "-t"], "tty", &["/bin/sh", "-c", "'tty; echo $TERM; exit 4'"]);
        let line: Vec<String> = std::iter::once(run.get_program())
            .chain(run.get_args())
            .map(|part| part.to_string_lossy().into_owned())
            .collect();
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &line.join(" "), "/dev/null"]);
        let output = finish(script, b"", LIMIT).expect("script");
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(out.contains("/dev/pts/0") && out.contains("xterm"), "on {platform}: {out}{}", ctd.log());
        assert_eq!(output.status.code(), Some(4), "on {platform}: {out}");
    }
}
