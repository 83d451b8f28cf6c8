//! `linux.devices` of config.json: nodes as runc makes them, and what stands behind them.

use runsc_tests::{Bundle, code, finish, platforms};
use serde_json::{Value, json};
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);

/// A root with the programs of busybox that the scripts call.
fn root() -> TempDir {
    let root = tempfile::tempdir().expect("a directory");
    for dir in ["bin", "tmp", "proc", "dev", "sys", "etc"] {
        std::fs::create_dir(root.path().join(dir)).expect("a directory");
    }
    let bin = root.path().join("bin");
    std::fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox-static is installed");
    for applet in ["sh", "stat", "cat", "head", "od", "echo", "wc", "sort", "dd", "timeout"] {
        symlink("busybox", bin.join(applet)).expect("a link");
    }
    root
}

fn bundle(root: &TempDir, devices: Value, script: &str) -> Bundle {
    let mut bundle = Bundle::new(root.path(), &["/bin/sh", "-c", script]).expect("a bundle");
    bundle.config()["linux"]["devices"] = devices;
    bundle.config()["linux"]["namespaces"] =
        ["pid", "mount", "network", "ipc", "uts"].map(|kind| json!({"type": kind})).as_slice().into();
    // Whatever the host would permit: what differs is what the nodes are.
    bundle.config()["linux"]["resources"] = json!({"devices": [{"allow": true, "access": "rwm"}]});
    bundle
}

/// What a container of runc prints, and its exit code. Nodes beside the mounts stay in the root: each run has its own.
fn runc(devices: &Value, script: &str) -> (String, String, Option<i32>) {
    let root = root();
    let bundle = bundle(&root, devices.clone(), script);
    let launch = bundle.launch("auto", &["run"]).expect("a bundle");
    let mut command = Command::new("runc");
    command.arg("--root").arg(bundle.path().join("runc")).args(["run", "--bundle"]);
    command.arg(bundle.path()).arg(&launch.id);
    let output = finish(command, b"", LIMIT).expect("runc is installed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), code(output.status))
}

fn runsc(platform: &str, devices: &Value, script: &str) -> (String, String, Option<i32>) {
    let root = root();
    let output = bundle(&root, devices.clone(), script).run(platform, b"", LIMIT).expect("a run");
    assert!(!root.path().join("dev/null").exists() && !root.path().join("x").exists());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), code(output.status))
}

fn device(path: &str, kind: &str, major: i64, minor: i64) -> Value {
    json!({"path": path, "type": kind, "major": major, "minor": minor})
}

fn with(mut device: Value, mode: u32, uid: u32, gid: u32) -> Value {
    device["fileMode"] = json!(mode);
    device["uid"] = json!(uid);
    device["gid"] = json!(gid);
    device
}

#[test]
fn nodes_are_those_of_runc() {
    let devices = json!([
        device("/dev/null2", "c", 1, 3),
        // What there is stays.
        with(device("/dev/null2", "c", 1, 5), 0o700, 1, 1),
        with(device("/bin/busybox", "c", 1, 5), 0o700, 1, 1),
        // A standard device as it is asked for, by its plain name only.
        with(device("/dev/zero", "c", 1, 5), 0o600, 7, 8),
        with(device("/dev/./full", "c", 1, 7), 0o600, 7, 8),
        with(device("/dev/fuse", "c", 10, 229), 0o7640, 5, 6),
        with(device("/x/y/disk", "b", 8, 700), 0o60_640, 0, 6),
        with(device("relative", "u", 1, 8), 0o1777, 1000, 0),
        with(json!({"path": "/etc/fifo", "type": "p"}), 0o604, 1, 2),
        device("/../../dev/above", "c", -5, 1 << 21),
        json!({"path": "/dev/nothing", "type": "c"}),
        device("/dev/ptmx", "c", 5, 2),
        device("/dev/fd", "c", 1, 3),
        device("/dev", "c", 1, 3),
        device("/", "c", 1, 3),
        device("", "c", 1, 3),
    ]);
    let script = "stat -c '%n %t %T %a %u %g %F' /dev/[!cmr]* /dev/random /x /x/y /x/y/* /relative /etc/* / /dev /bin/busybox";
    let expected = runc(&devices, script);
    assert_eq!(expected.2, Some(0), "{}", expected.1);
    assert!(expected.0.contains("/x/y/disk 8 2bc 640 0 6 block special file"), "{}", expected.0);
    for platform in platforms() {
        let got = runsc(platform, &devices, script);
        assert_eq!((&got.0, got.2), (&expected.0, expected.2), "on {platform}: {}", got.1);
    }
}

#[test]
fn devices_work_through_them() {
    let mut devices = vec![
        device("/x/null", "c", 1, 3),
        device("/x/zero", "u", 1, 5),
        device("/x/full", "c", 1, 7),
        device("/x/random", "c", 1, 8),
        device("/x/urandom", "c", 1, 9),
        device("/x/tty", "c", 5, 0),
        device("/dev/ptmx2", "c", 5, 2),
        device("/x/nobody", "c", 240, 77),
        device("/x/disk", "b", 240, 77),
        json!({"path": "/x/pipe", "type": "p"}),
    ];
    devices.push(with(device("/x/closed", "c", 1, 3), 0, 0, 0));
    let script = "cd /x; echo gone > null; echo $?; wc -c < null; head -c 4 zero | od -An -tx1; head -c 3 full | od -An -tx1; \
                  echo x > full; echo $?; head -c 500 random | wc -c; head -c 500 urandom | wc -c; true < tty; echo $?; \
                  true < /dev/ptmx2; echo $?; true < nobody; echo $?; true < disk; echo $?; (echo through > pipe) & cat pipe; true > closed; echo $?";
    let expected = runc(&json!(devices), script);
    assert!(expected.0.contains("through"), "{} {}", expected.0, expected.1);
    for platform in platforms() {
        let got = runsc(platform, &json!(devices), script);
        assert_eq!((&got.0, &got.1), (&expected.0, &expected.1), "on {platform}");
    }
}

#[test]
fn wrong_entries_are_refused_as_by_runc() {
    for (wrong, words) in [
        (device("/dev/x", "a", 1, 3), "invalid device type \"a\""),
        (device("/dev/x", "x", 1, 3), "invalid device type \"x\""),
        (device("/dev/x", "c", -1, 3), "error creating device nodes: cannot mkdev() device with wildcards"),
        (device("/dev/x", "p", 1, -1), "error creating device nodes: cannot mkdev() device with wildcards"),
        (device("/bin/busybox/x", "c", 1, 3), "busybox: not a directory"),
        (device("/proc/x", "c", 1, 3), "error creating device nodes: mknod "),
    ] {
        let list = json!([wrong]);
        let expected = runc(&list, "echo never");
        assert!(expected.2 == Some(1) && expected.1.replace('\\', "").contains(words), "{}", expected.1);
        for platform in platforms() {
            let got = runsc(platform, &list, "echo never");
            assert_eq!((got.0.as_str(), got.2), ("", Some(1)), "{words} on {platform}");
            assert!(got.1.contains(words), "{words} on {platform}: {}", got.1);
        }
    }
}
