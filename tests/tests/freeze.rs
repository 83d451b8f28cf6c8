//! Freezing at random moments under load, and going on from a file, on each platform. The load checks itself.

use runsc_tests::{Bundle, compile, platforms};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(120);

fn root() -> TempDir {
    let root = tempfile::tempdir().expect("a directory");
    for dir in ["tmp", "proc", "dev", "sys"] {
        std::fs::create_dir(root.path().join(dir)).expect("a directory");
    }
    compile("stress", root.path());
    compile("ticks", root.path());
    root
}

/// A container that runs meanwhile; killed when dropped.
struct Running<'a> {
    bundle: &'a Bundle,
    id: String,
    child: Child,
    out: PathBuf,
}

impl<'a> Running<'a> {
    fn start(bundle: &'a Bundle, mut command: Command, id: &str) -> Self {
        let out = bundle.path().join(format!("{id}.out"));
        let file = File::create(&out).expect("a file");
        let both = file.try_clone().expect("a file");
        let child = command.stdin(Stdio::null()).stdout(file).stderr(both).spawn().expect("runsc");
        Self { bundle, id: id.into(), child, out }
    }

    fn output(&self) -> String {
        std::fs::read_to_string(&self.out).expect("output")
    }

    /// Waits until the output has this many lines.
    fn wait_for_lines(&self, lines: usize) {
        let start = Instant::now();
        while self.output().lines().count() < lines {
            assert!(start.elapsed() < LIMIT, "{}", self.output());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(start.elapsed() < LIMIT, "the container hangs: {}", self.output());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Runs `runsc debug ...` on it and returns what it prints.
    fn debug(&self, args: &[&str]) -> String {
        let output = self.bundle.runsc(&[]).arg("debug").args(args).arg(&self.id).output().expect("runsc");
        assert!(
            output.status.success(),
            "{args:?}: {}{}",
            String::from_utf8_lossy(&output.stderr),
            self.output()
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.bundle.runsc(&[]).args(["delete", "--force", &self.id]).output();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Freezes and thaws, hundreds of times on a machine that does nothing else, while a mode of the stress program runs.
fn churn(mode: &str, cpus: &str) {
    let root = root();
    for platform in platforms() {
        let bundle = Bundle::new(root.path(), &["/stress", mode, "4"]).expect("a bundle");
        let id = format!("churn-{mode}");
        let mut command = bundle.command(platform, &id).expect("a command");
        command.args(["--cpus", cpus]);
        let mut running = Running::start(&bundle, command, &id);
        let start = Instant::now();
        // The state is there once the container runs.
        while !bundle.runsc(&[]).args(["state", &id]).output().is_ok_and(|o| o.status.success()) {
            assert!(start.elapsed() < LIMIT, "{}", running.output());
        }
        let told = running.debug(&["churn", "--count", "0", "--pause", "3000", "--seed", cpus]);
        let times: usize = told.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        assert!(times > 1, "on {platform}: {told}");
        let status = running.wait();
        assert_eq!(running.output(), format!("{mode}: ok\n"), "on {platform}");
        assert!(status.success(), "on {platform}");
    }
}

#[test]
fn memory_survives_freezes() {
    churn("words", "2");
}

#[test]
fn forks_survive_freezes() {
    churn("forks", "2");
}

#[test]
fn programs_are_executed_between_freezes() {
    churn("execs", "4");
}

#[test]
fn signals_and_timers_survive_freezes() {
    churn("signals", "3");
}

/// A program of several processes and threads goes on from a file: more than once, and with another number of vCPUs.
#[test]
fn a_sandbox_goes_on_from_a_file() {
    let root = root();
    for platform in platforms() {
        let bundle = Bundle::new(root.path(), &["/ticks", "30"]).expect("a bundle");
        let command = bundle.command(platform, "first").expect("a command");
        let mut first = Running::start(&bundle, command, "first");
        first.wait_for_lines(5);
        let image = bundle.path().join("image");
        first.debug(&["save", "--image-path", &image.to_string_lossy()]);
        assert!(first.wait().success(), "{}", first.output());
        let whole = first.output();
        assert!(whole.ends_with("ok\n") && whole.lines().count() == 31, "{whole}");
        let mut boot_ids = vec![whole.lines().next().and_then(|l| l.split(' ').nth(1)).map(String::from)];
        for (id, cpus) in [("second", "2"), ("third", "1"), ("fourth", "4")] {
            let mut command = bundle.runsc(&[]);
            command.args(["--platform", platform, "--cpus", cpus, "debug", "restore", "--bundle"]);
            command.arg(bundle.path()).arg("--image-path").arg(&image).arg(id);
            let mut restored = Running::start(&bundle, command, id);
            assert!(restored.wait().success(), "on {platform}: {}", restored.output());
            let text = restored.output();
            let numbers = |t: &str| -> Vec<usize> {
                t.lines().filter_map(|l| l.split(' ').next()?.parse().ok()).collect()
            };
            let mine = numbers(&text);
            // It goes on with the line after those that stood there at the freeze, and ends as the first did.
            assert!(text.ends_with("ok\n") && mine.len() > 1, "on {platform}: {text}");
            assert_eq!(mine, numbers(&whole)[30 - mine.len()..], "on {platform}: {text}");
            boot_ids.push(text.lines().next().and_then(|l| l.split(' ').nth(1)).map(String::from));
        }
        let distinct: std::collections::BTreeSet<_> = boot_ids.iter().collect();
        assert_eq!(distinct.len(), 4, "each has its own boot_id: {boot_ids:?}");
    }
}

#[test]
fn what_is_no_snapshot_is_refused_and_leaves_nothing() {
    let root = root();
    let bundle = Bundle::new(root.path(), &["/ticks", "1"]).expect("a bundle");
    let _ = bundle.command("auto", "x").expect("a configuration");
    let refuse = |image: &Path, words: &str| {
        let mut command = bundle.runsc(&[]);
        command.args(["debug", "restore", "--bundle"]).arg(bundle.path());
        let output = command.arg("--image-path").arg(image).arg("bad").output().expect("runsc");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(words), "{text}");
        let list = bundle.runsc(&[]).args(["list", "-q"]).output().expect("runsc");
        assert!(list.stdout.is_empty(), "{}", String::from_utf8_lossy(&list.stdout));
    };
    let image = bundle.path().join("image");
    refuse(&image, "No such file or directory");
    std::fs::create_dir(&image).expect("a directory");
    std::fs::write(image.join("manifest.json"), "{}").expect("a file");
    refuse(&image, "is no manifest of a snapshot");
    let platform = if platforms().iter().any(|p| p == "kvm") { 1 } else { 3 };
    let machine = serde_json::json!({"platform": platform, "xcr0": 7, "xsave_size": 832, "cpus": 1, "sentry": "", "extents": [[0, 4 << 20, 0]]});
    let manifest =
        serde_json::json!({"format": 9, "host_interface": 77, "container": "x", "machine": machine});
    std::fs::write(image.join("manifest.json"), manifest.to_string()).expect("a file");
    std::fs::write(image.join("pages"), "short").expect("a file");
    refuse(&image, "its format is 9");
    refuse(&image, "version 77 of the host interface");
    refuse(&image, "has 5 bytes");
}
