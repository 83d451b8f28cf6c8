//! Configurations and arguments that are wrong: a message that names the object, exit code 1, and nothing left.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use serde_json::{Value, json};

use crate::left::{listing, nothing_but};
use crate::support::{EXIT, Place, platforms};

/// Spoils a configuration.
type Change = fn(&mut Value);

fn place() -> Place {
    let place = Place::new();
    place.program("program", EXIT);
    place
}

/// Runs and creates a container of a configuration that `change` has spoilt; each must fail with `message`.
fn refused(place: &Place, change: impl Fn(&mut Value), message: &str) {
    let name = place.name();
    for platform in platforms() {
        for command in ["run", "create"] {
            let _ = fs::remove_file(place.bundle().join("config.json"));
            place.configure(&["/bin/program"], |config| {
                // With control groups, so that these are cleaned away too.
                config["linux"]["cgroupsPath"] = format!("/{name}/c1").into();
                change(config);
            });
            let before = listing(place);
            let pid_file = place.bundle().join("pid").to_string_lossy().into_owned();
            place.fails(&["--platform", platform, command, "--pid-file", &pid_file, "c1"], message);
            nothing_but(&before, place, message);
            place.fails(&["state", "c1"], "container does not exist");
        }
    }
}

#[test]
fn configurations() {
    let place = place();
    let changes: [(Change, &str); 24] = [
        (|c| c["ociVersion"] = json!("2.0.0"), "ociVersion: \"2.0.0\" is not supported"),
        (|c| c["ociVersion"] = json!(1), "config.json: invalid type: integer `1`"),
        (|c| c["process"]["args"] = json!("sh"), "config.json: invalid type: string \"sh\""),
        (|c| c["process"]["user"]["uid"] = json!(-1), "config.json: invalid value: integer `-1`"),
        (|c| c["process"]["cwd"] = json!(7), "config.json: invalid type: integer `7`"),
        (|c| c["process"]["env"] = json!(["NOVALUE"]), "invalid environment variable: \"NOVALUE\""),
        (|c| c["process"]["args"] = json!([""]), "exec: \"\": executable file not found in $PATH"),
        (|c| c["process"]["capabilities"]["bounding"] = json!(["CAP_NOSUCH"]), "CAP_NOSUCH"),
        (
            |c| c["process"]["rlimits"] = json!([{"type": "RLIMIT_NOSUCH", "hard": 1, "soft": 1}]),
            "RLIMIT_NOSUCH",
        ),
        (
            |c| c["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "hard": 1, "soft": 2}]),
            "RLIMIT_NOFILE",
        ),
        (|c| c["mounts"] = json!({}), "config.json: invalid type: map"),
        (|c| c["root"] = json!(null), "root: property is missing"),
        (|c| c["root"]["path"] = json!("missing"), "/missing: No such file or directory"),
        (|c| c["root"]["path"] = json!("rootfs/bin/program"), "rootfs/bin/program: not an EROFS image"),
        (
            |c| c["linux"]["cgroupsPath"] = json!("/a/../../b"),
            "linux.cgroupsPath: \"/a/../../b\" contains `..`",
        ),
        (
            |c| c["linux"]["sysctl"] = json!({"kernel.nosuch": "1"}),
            "setting sysctl \"kernel.nosuch\" to \"1\"",
        ),
        (|c| c["process"]["cwd"] = json!("/bin/program"), "chdir to cwd (\"/bin/program\")"),
        (
            |c| c["mounts"][0] = json!({"destination": "/x", "type": "nosuch"}),
            "/x: file system type \"nosuch\"",
        ),
        (
            |c| c["mounts"][0] = json!({"destination": "/x", "type": "bind", "source": "/nosuch"}),
            "/x: source /nosuch",
        ),
        (|c| c["mounts"][0] = json!({"destination": "/x", "type": "bind"}), "/x: has no source"),
        (
            |c| c["mounts"][0] = json!({"destination": "/x", "type": "bind", "source": "/dev/null"}),
            "source /dev/null",
        ),
        (
            |c| c["mounts"][0] = json!({"destination": "/x", "type": "tmpfs", "options": ["nosuch=1"]}),
            "error mounting \"tmpfs\" to rootfs at \"/x\": invalid argument",
        ),
        (
            |c| c["mounts"][0] = json!({"destination": "/x", "type": "tmpfs", "options": ["size=abc"]}),
            "error mounting \"tmpfs\" to rootfs at \"/x\": invalid argument",
        ),
        (
            |c| c["mounts"][0] = json!({"destination": "/bin/program/x", "type": "tmpfs"}),
            "error mounting \"tmpfs\" to rootfs at \"/bin/program/x\": not a directory",
        ),
    ];
    for (change, message) in changes {
        refused(&place, change, message);
    }
}

#[test]
fn files_of_the_bundle() {
    let place = Place::new();
    let config = place.bundle().join("config.json");
    let before = listing(&place);
    place.fails(&["run", "c1"], "config.json not found");
    place.fails(&["run", "--bundle", "/nosuch", "c1"], "opening the bundle /nosuch");
    for (content, message) in
        [("", "EOF"), ("{", "EOF"), ("[]", "config.json"), ("{\"ociVersion\"}", "column"), ("\0", "column")]
    {
        fs::write(&config, content).expect("write");
        place.fails(&["run", "c1"], message);
        place.fails(&["create", "c1"], message);
        fs::remove_file(&config).expect("remove");
    }
    fs::create_dir(&config).expect("mkdir");
    place.fails(&["run", "c1"], "config.json: Is a directory");
    fs::remove_dir(&config).expect("rmdir");
    nothing_but(&before, &place, "a bad bundle");
}

#[test]
fn arguments() {
    let place = place();
    place.configure(&["/bin/program"], |_| {});
    let before = listing(&place);
    for id in ["", ".", "..", "a/b", "a b", "../c1", "\u{e9}"] {
        for command in ["run", "create", "start", "state", "kill", "delete"] {
            place.fails(&[command, id], "invalid container ID format");
        }
    }
    for (arguments, message) in [
        (&["--platform", "nosuch", "run", "c1"][..], "nosuch"),
        (&["--cpus", "0", "run", "c1"], "--cpus"),
        (&["--cpus", "33", "run", "c1"], "--cpus"),
        (&["--cpus", "two", "run", "c1"], "--cpus"),
        (&["--memory", "lots", "run", "c1"], "--memory"),
        (&["--memory", "1M", "run", "c1"], "--memory: a sandbox needs at least 64 MiB"),
        (&["--memory", "-1", "run", "c1"], "-1"),
        (&["--log", "/nosuch/log", "run", "c1"], "/nosuch/log"),
        (&["--debug-log", "/nosuch/log", "run", "c1"], "/nosuch/log"),
        (&["run", "--pid-file", "/nosuch/pid", "c1"], "/nosuch/pid"),
        (&["run", "--console-socket", "/nosuch", "c1"], "process.terminal"),
        (&["run", "--preserve-fds", "5000", "c1"], "descriptor "),
        (&["kill", "c1", "SIGNOSUCH"], "unknown signal \"SIGNOSUCH\""),
        (&["run"], "CONTAINER-ID"),
        (&["run", "c1", "extra"], "extra"),
    ] {
        place.fails(arguments, message);
    }
    for (root, message) in [
        ("/", "--root: the state directory must not be /"),
        ("/dev/null/x", "the state directory /dev/null/x"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runsc"));
        let output =
            command.args(["--root", root, "run", "c1"]).current_dir(place.bundle()).output().expect("spawn");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && text.contains(message), "{root}: {text}");
    }
    nothing_but(&before, &place, "bad arguments");
}

#[test]
fn paths_do_not_leave_the_root() {
    for platform in platforms() {
        let place = place();
        let rootfs = place.bundle().join("rootfs");
        let outside = place.bundle().join("outside");
        fs::create_dir(&outside).expect("mkdir");
        symlink(&outside, rootfs.join("absolute")).expect("symlink");
        symlink("../outside", rootfs.join("relative")).expect("symlink");
        symlink("../../../../../../../../../tmp", rootfs.join("far")).expect("symlink");
        let escapes = ["/../outside/x", "/../../../../tmp/x", "/absolute/x", "/relative/x", "/far/x"];
        place.configure(&["/bin/program"], |config| {
            let mounts = config["mounts"].as_array_mut().expect("array");
            for escape in escapes {
                mounts.push(json!({"destination": escape, "type": "tmpfs", "source": "tmpfs"}));
            }
        });
        let before = listing(&place);
        // Each is a place within the container, as in a system whose root it is; what is missing is made in memory.
        let output = place.runsc(&["--platform", platform, "run", "c1"]);
        let message = String::from_utf8_lossy(&output.stderr);
        let mended = output.status.code() == Some(3) || message.contains("to rootfs at");
        assert!(mended, "{platform}: {:?} {message}", output.status);
        nothing_but(&before, &place, "mounts beyond the root");
        for cwd in ["/../outside", "/absolute", "/relative", "/far/../outside"] {
            let _ = fs::remove_file(place.bundle().join("config.json"));
            place.configure(&["/bin/program"], |config| config["process"]["cwd"] = json!(cwd));
            let before = listing(&place);
            let output = place.runsc(&["--platform", platform, "run", "c1"]);
            let message = String::from_utf8_lossy(&output.stderr);
            let refused = output.status.code() == Some(1) && message.contains(&format!("cwd ({cwd:?})"));
            assert!(refused || output.status.code() == Some(3), "{cwd}: {:?} {message}", output.status);
            nothing_but(&before, &place, cwd);
            assert!(fs::read_dir(&outside).expect("read").next().is_none(), "{cwd}");
        }
    }
}

#[test]
fn programs() {
    let place = place();
    let bin = place.bundle().join("rootfs/bin");
    let file = |name: &str, mode: u32, content: &[u8]| {
        fs::write(bin.join(name), content).expect("write");
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(mode)).expect("chmod");
    };
    file("plain", 0o644, EXIT);
    file("empty", 0o755, b"");
    file("text", 0o755, b"just text\n");
    file("lost", 0o755, b"#!/nosuch/interpreter\n");
    file("loop", 0o755, b"#!/bin/loop\n");
    file("blank", 0o755, b"#!  \n");
    symlink("circle", bin.join("circle")).expect("symlink");
    for (program, message) in [
        ("/bin/nosuch", "exec: \"/bin/nosuch\": stat /bin/nosuch: no such file or directory"),
        ("nosuch", "exec: \"nosuch\": executable file not found in $PATH"),
        ("/bin/program/x", "exec: \"/bin/program/x\": not a directory"),
        ("/bin", "exec: \"/bin\": permission denied"),
        ("/bin/plain", "exec: \"/bin/plain\": permission denied"),
        ("/bin/circle", "exec: \"/bin/circle\": too many symbolic links"),
        ("/bin/empty", "exec /bin/empty: exec format error"),
        ("/bin/text", "exec /bin/text: exec format error"),
        ("/bin/blank", "exec /bin/blank: exec format error"),
        ("/bin/lost", "exec /bin/lost: no such file or directory"),
        ("/bin/loop", "exec /bin/loop: too many"),
    ] {
        refused(&place, |c| c["process"]["args"] = json!([program]), message);
    }
}
