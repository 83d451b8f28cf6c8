//! Containers from their making to their end, on the platform that is taken here.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::{EXIT, Place, WAIT};

/// write(1, "hello\n", 6), exit(0)
const HELLO: &[u8] = &[
    0xb8, 1, 0, 0, 0, 0xbf, 1, 0, 0, 0, 0x48, 0x8d, 0x35, 19, 0, 0, 0, 0xba, 6, 0, 0, 0, 0x0f, 0x05, 0xb8,
    60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05, 0x90, 0x90, 0x90, b'h', b'e', b'l', b'l', b'o', b'\n',
];

fn place(program: &[u8]) -> Place {
    let place = Place::new();
    place.program("program", program);
    place.configure(&["/bin/program"], |_| {});
    place
}

fn status(place: &Place, id: &str) -> String {
    let output = place.runsc(&["state", id]);
    let state: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    state["status"].as_str().unwrap_or("none").to_string()
}

fn wait_for(place: &Place, id: &str, wanted: &str) {
    let begin = Instant::now();
    while status(place, id) != wanted {
        assert!(begin.elapsed() < Duration::from_secs(10), "{id} is {} and not {wanted}", status(place, id));
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn run_ends_with_the_status_of_the_program() {
    let place = place(EXIT);
    let output = place.runsc(&["run", "c1"]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(place.empty());
}

#[test]
fn standard_output_is_the_callers() {
    let output = place(HELLO).runsc(&["run", "c1"]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "hello\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_container_lives_through_its_states() {
    let place = place(WAIT);
    assert!(place.command(&["create", "c1"]).status().expect("spawn").success());
    assert_eq!(status(&place, "c1"), "created");
    place.fails(&["create", "c1"], "container with given ID already exists");
    place.fails(&["delete", "c1"], "is not stopped");
    assert!(place.runsc(&["start", "c1"]).status.success());
    assert_eq!(status(&place, "c1"), "running");
    place.fails(&["start", "c1"], "cannot start an already running container");
    assert!(place.runsc(&["kill", "c1", "KILL"]).status.success());
    wait_for(&place, "c1", "stopped");
    place.fails(&["kill", "c1"], "container not running");
    place.fails(&["start", "c1"], "cannot start a container that has stopped");
    assert!(place.runsc(&["delete", "c1"]).status.success());
    assert!(place.empty());
}

#[test]
fn a_missing_program_is_told_of_as_callers_expect() {
    let place = place(EXIT);
    fs::remove_file(place.bundle().join("config.json")).expect("remove");
    place.configure(&["/nosuch"], |_| {});
    let sentence =
        "unable to start container process: exec: \"/nosuch\": stat /nosuch: no such file or directory";
    place.fails(&["run", "c1"], sentence);
    place.fails(&["create", "c1"], sentence);
    assert!(place.empty());
}

#[test]
fn a_killed_sandbox_leaves_nothing() {
    let place = place(WAIT);
    let file = place.bundle().join("pid");
    let path = file.to_string_lossy().into_owned();
    let child =
        place.command(&["run", "--pid-file", &path, "c1"]).stderr(std::process::Stdio::piped()).spawn();
    let child = child.expect("spawn");
    let begin = Instant::now();
    while !file.exists() {
        assert!(begin.elapsed() < Duration::from_secs(10), "no pid file");
        sleep(Duration::from_millis(5));
    }
    let pid: i32 = fs::read_to_string(&file).expect("read").parse().expect("number");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("kill");
    let output = child.wait_with_output().expect("wait");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("killed by SIGKILL"));
    assert!(place.empty());
}
