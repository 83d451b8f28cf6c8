//! Sandboxes and commands that are killed at any stage: what the other commands say then, and that all is cleaned away.

use std::fs;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::left::{listing, nothing_but};
use crate::support::{Place, WAIT, platforms};

fn place() -> Place {
    let place = Place::new();
    place.program("program", WAIT);
    let name = place.name();
    place.configure(&["/bin/program"], |config| {
        config["linux"]["cgroupsPath"] = format!("/{name}/c1").into();
    });
    place
}

/// Starts a command whose streams nobody waits for.
fn spawn(place: &Place, args: &[&str]) -> Child {
    let log = fs::File::create(place.bundle().join("stderr")).expect("create");
    place.command(args).stdout(Stdio::null()).stderr(log).spawn().expect("spawn")
}

fn state(place: &Place) -> Option<(String, i32)> {
    let output = place.runsc(&["state", "c1"]);
    let state: Value = serde_json::from_slice(&output.stdout).ok()?;
    Some((state["status"].as_str()?.to_string(), i32::try_from(state["pid"].as_i64()?).ok()?))
}

fn kill_process(pid: i32) {
    // It may have ended by itself.
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
}

/// What every command says of a container whose sandbox is gone.
fn is_stopped(place: &Place, stage: &str) {
    let begin = Instant::now();
    while state(place) != Some(("stopped".into(), 0)) {
        assert!(begin.elapsed() < Duration::from_secs(10), "{stage}: {:?}", state(place));
        sleep(Duration::from_millis(5));
    }
    let list = place.runsc(&["list", "--format", "json"]);
    let list: Value = serde_json::from_slice(&list.stdout).expect("JSON");
    assert_eq!(
        (list[0]["id"].as_str(), list[0]["status"].as_str()),
        (Some("c1"), Some("stopped")),
        "{stage}"
    );
    place.fails(&["kill", "c1"], "container not running");
    place.fails(&["kill", "c1", "KILL"], "container not running");
    assert!(place.runsc(&["kill", "--all", "c1", "9"]).status.success(), "{stage}");
    place.fails(&["start", "c1"], "cannot start a container that has stopped");
    place.fails(&["create", "c1"], "container with given ID already exists");
}

fn delete(place: &Place, force: bool, stage: &str) {
    let arguments: &[&str] = if force { &["delete", "--force", "c1"] } else { &["delete", "c1"] };
    let output = place.runsc(arguments);
    assert!(output.status.success(), "{stage}: {}", String::from_utf8_lossy(&output.stderr));
    place.fails(&["state", "c1"], "container does not exist");
}

#[test]
fn a_sandbox_that_is_killed_later() {
    let place = place();
    let before = listing(&place);
    for platform in platforms() {
        for (stage, start, force) in [
            ("created", false, false),
            ("created", false, true),
            ("running", true, false),
            ("running", true, true),
        ] {
            let stage = format!("{stage} on {platform}");
            assert!(
                spawn(&place, &["--platform", platform, "create", "c1"]).wait().expect("wait").success(),
                "{stage}"
            );
            if start {
                assert!(place.runsc(&["start", "c1"]).status.success(), "{stage}");
            }
            kill_process(state(&place).expect("a state").1);
            is_stopped(&place, &stage);
            delete(&place, force, &stage);
            fs::remove_file(place.bundle().join("stderr")).expect("remove");
            nothing_but(&before, &place, &stage);
        }
    }
}

/// Process ids of the place, without that of `command`.
fn sandbox_processes(place: &Place, command: u32) -> Vec<i32> {
    let all = listing(place);
    let pids = all.iter().filter_map(|line| line.strip_prefix("process ")?.split(' ').next()?.parse().ok());
    pids.filter(|pid| u32::try_from(*pid) != Ok(command)).collect()
}

#[test]
fn a_sandbox_that_is_killed_while_it_is_made() {
    let place = place();
    let before = listing(&place);
    for platform in platforms() {
        for round in 0..20u64 {
            let stage = format!("round {round} on {platform}");
            let mut command = spawn(&place, &["--platform", platform, "create", "c1"]);
            // From when there is a process on, up to beyond the time that all takes.
            let begin = Instant::now();
            let victims = loop {
                let victims = sandbox_processes(&place, command.id());
                if !victims.is_empty() || command.try_wait().expect("wait").is_some() {
                    break victims;
                }
                assert!(begin.elapsed() < Duration::from_secs(10), "{stage}: no process");
            };
            sleep(Duration::from_micros(round * 1500));
            victims.into_iter().for_each(kill_process);
            let code = command.wait().expect("wait").code();
            let message = fs::read_to_string(place.bundle().join("stderr")).expect("read");
            match code {
                Some(0) => {
                    // It was made before it was killed.
                    if let Some((_, pid @ 1..)) = state(&place) {
                        kill_process(pid);
                    }
                    is_stopped(&place, &stage);
                    delete(&place, round % 2 == 0, &stage);
                }
                _ => {
                    assert!(code == Some(1) && message.contains("SIGKILL"), "{stage}: {code:?} {message:?}");
                    place.fails(&["state", "c1"], "container does not exist");
                }
            }
            fs::remove_file(place.bundle().join("stderr")).expect("remove");
            nothing_but(&before, &place, &stage);
        }
    }
}

#[test]
fn a_command_that_is_killed() {
    let place = Place::new();
    place.program("program", WAIT);
    place.configure(&["/bin/program"], |_| {});
    let before = listing(&place);
    for platform in platforms() {
        for round in 0..20u64 {
            let stage = format!("round {round} on {platform}");
            let mut command = spawn(&place, &["--platform", platform, "create", "c1"]);
            sleep(Duration::from_micros(round * 2500));
            command.kill().expect("kill");
            command.wait().expect("wait");
            // Whatever there is of it by now, it can be asked for, and be removed.
            let known = state(&place).map(|(status, _)| status);
            let all = ["creating", "created", "stopped"];
            assert!(known.as_deref().is_none_or(|s| all.contains(&s)), "{stage}: {known:?}");
            assert!(place.runsc(&["list"]).status.success(), "{stage}");
            assert!(place.runsc(&["delete", "--force", "c1"]).status.success(), "{stage}");
            place.fails(&["state", "c1"], "container does not exist");
            fs::remove_file(place.bundle().join("stderr")).expect("remove");
            nothing_but(&before, &place, &stage);
        }
    }
}
