//! How containers end: with processes that are being made, and without the command that made them.

use runsc_tests::{Bundle, code, compile, finish, platforms, wait_for};
use rustix::process::{Pid, test_kill_process};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn the_first_process_ends_while_others_fork() {
    let root = tempfile::tempdir().expect("a directory");
    for dir in ["tmp", "proc", "dev", "sys"] {
        fs::create_dir(root.path().join(dir)).expect("a directory");
    }
    compile("forks", root.path());
    for platform in platforms() {
        for round in 0..24 {
            let (processes, moment) = ((round % 6 + 1).to_string(), (round * 7919 % 20_000).to_string());
            let bundle = Bundle::new(root.path(), &["/forks", &processes, &moment]).expect("a bundle");
            let mut launch = bundle.launch(platform, &["run"]).expect("a command");
            launch.command.args(["--cpus", "2"]);
            let what = format!("{processes} processes, {moment} us, on {platform}");
            let output = finish(launch.command, b"", LIMIT).unwrap_or_else(|e| panic!("{what}: {e}"));
            let err = String::from_utf8_lossy(&output.stderr);
            assert_eq!(code(output.status), Some(3), "{what}: {err}");
        }
    }
}

#[test]
fn what_a_killed_do_leaves_is_removed() {
    let root = tempfile::tempdir().expect("a directory");
    for dir in ["bin", "tmp", "proc", "dev", "sys"] {
        fs::create_dir(root.path().join(dir)).expect("a directory");
    }
    fs::copy("/bin/busybox", root.path().join("bin/busybox")).expect("busybox-static is installed");
    // A root directory is no bundle, whatever there is in it.
    let trace = root.path().join("tmp/trace");
    let hook = json!({"path": "/bin/touch", "args": ["touch", trace]});
    let mut other = Bundle::new(root.path(), &["/bin/busybox"]).expect("a bundle");
    other.config()["hooks"] = json!({"poststop": [hook], "poststart": [hook]});
    fs::write(root.path().join("config.json"), other.config().to_string()).expect("a file");
    for platform in platforms() {
        let place = Bundle::new(root.path(), &[]).expect("a bundle");
        let list = || -> Vec<Value> {
            let output = finish(place.runsc(&["list", "--format", "json"]), b"", LIMIT).expect("runsc");
            let list: Option<Vec<Value>> = serde_json::from_slice(&output.stdout).expect("JSON");
            list.unwrap_or_default()
        };
        let mut command = place.runsc(&["--platform", platform, "do", "--rootfs"]);
        command.arg(root.path()).args(["--", "/bin/busybox", "sleep", "600"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("runsc");
        wait_for("it does not run", LIMIT, || {
            list().first().is_some_and(|state| state["status"] == "running")
        });
        let state = list().remove(0);
        child.kill().expect("kill");
        child.wait().expect("wait");
        // It ends with its command.
        let pid = state["pid"].as_i64().and_then(|pid| Pid::from_raw(pid as i32)).expect("a process");
        wait_for("it runs on", LIMIT, || test_kill_process(pid).is_err());
        wait_for("its state stays", LIMIT, || list().is_empty());
        let state_dir = place.path().join("state");
        assert_eq!(fs::read_dir(&state_dir).expect("a directory").count(), 0, "on {platform}");
        // Killed before there was more of it than its directory. The highest process id is never taken.
        for name in ["do-4194303", "do-x", "other"] {
            fs::create_dir(state_dir.join(name)).expect("a directory");
        }
        assert!(list().is_empty());
        let left = |name: &str| Path::new(&state_dir).join(name).exists();
        assert!(!left("do-4194303") && left("do-x") && left("other"), "on {platform}");
        assert!(!trace.exists(), "on {platform}");
    }
}
