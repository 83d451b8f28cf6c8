//! Memory that runs out: what is killed, and who is told. On each platform.

use runsc_tests::{Bundle, finish, platforms};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

fn detached(platform: &str, name: &str, limit: u64) -> Bundle {
    let mut bundle = Bundle::new(Path::new("/"), &["/bin/sleep", "600"]).expect("a bundle");
    bundle.config()["linux"]["resources"] = json!({"memory": {"limit": limit}});
    let mut command = bundle.command(platform, name).expect("a command");
    command.arg("--detach").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(command.status().expect("runsc").success(), "on {platform}");
    bundle
}

/// `runsc events` that has printed its first line, so that it watches.
fn events(bundle: &Bundle, name: &str) -> (Child, BufReader<ChildStdout>) {
    let mut command = bundle.runsc(&["events", "--interval", "600m", name]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("runsc events");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut first = String::new();
    lines.read_line(&mut first).expect("a line");
    assert!(first.starts_with("{\"type\":\"stats\",\"id\":"), "{first}");
    (child, lines)
}

fn line(lines: &mut impl BufRead) -> String {
    let mut line = String::new();
    lines.read_line(&mut line).expect("a line");
    line
}

fn stats(bundle: &Bundle, name: &str) -> Value {
    let output = finish(bundle.runsc(&["events", "--stats", name]), b"", LIMIT).expect("runsc events");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn the_kill_of_the_sentry_is_told() {
    for platform in platforms() {
        let name = &format!("oom-{platform}-{}", std::process::id());
        let bundle = detached(platform, name, 192 << 20);
        assert_eq!(stats(&bundle, name)["data"]["memory"]["usage"]["failcnt"], 0, "on {platform}");
        let (mut child, mut lines) = events(&bundle, name);
        let hog = bundle.runsc(&["exec", name, "sh", "-c", "tail /dev/zero >/dev/null; echo $?"]);
        let output = finish(hog, b"", LIMIT).expect("runsc exec");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "137\n", "on {platform}");
        assert_eq!(line(&mut lines), format!("{{\"type\":\"oom\",\"id\":\"{name}\"}}\n"), "on {platform}");
        let usage = stats(&bundle, name)["data"]["memory"]["usage"].clone();
        assert!(usage["failcnt"].as_u64() > Some(0), "on {platform}: {usage}");
        assert!(finish(bundle.runsc(&["kill", name, "KILL"]), b"", LIMIT).expect("kill").status.success());
        assert!(child.wait().expect("runsc events").success());
    }
}

#[test]
fn the_kill_of_the_host_is_told() {
    if !Path::new("/sys/fs/cgroup/memory/cgroup.event_control").exists() {
        eprintln!("not tested here: no memory control group of version 1");
        return;
    }
    let platform = &platforms()[0];
    let name = &format!("host-oom-{}", std::process::id());
    let bundle = detached(platform, name, 192 << 20);
    let (mut child, mut lines) = events(&bundle, name);
    // A process that is put beside the sandbox and is the largest.
    let group = format!("/sys/fs/cgroup/memory/runsc/{name}/cgroup.procs");
    let script = format!("echo $$ > {group}; exec tail /dev/zero");
    let hog = Command::new("sh").args(["-c", &script]).stdout(Stdio::null()).status().expect("sh");
    assert_eq!(runsc_tests::code(hog), Some(137));
    assert_eq!(line(&mut lines), format!("{{\"type\":\"oom\",\"id\":\"{name}\"}}\n"));
    assert!(finish(bundle.runsc(&["kill", name, "KILL"]), b"", LIMIT).expect("kill").status.success());
    assert!(child.wait().expect("runsc events").success());
    // The removal of the group looks like a kill, but is none.
    assert_eq!(line(&mut lines), "");
}
