//! The command line: words and exit codes that callers rely on, and bad input.

use std::fs;

use serde_json::{Value, json};

use crate::support::Place;

/// Spoils a configuration.
type Change = fn(&mut Value);

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_version_has_three_lines() {
    let output = Place::new().runsc(&["--version"]);
    let lines: Vec<_> = text(&output.stdout).lines().map(String::from).collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    for (line, start) in lines.iter().zip(["runsc version ", "commit: ", "spec: "]) {
        assert!(line.starts_with(start), "{line}");
    }
}

#[test]
fn help_is_no_failure() {
    let place = Place::new();
    for command in ["run", "create", "start", "state", "kill", "delete", "list", "do", "spec", "platforms"] {
        assert_eq!(place.runsc(&[command, "--help"]).status.code(), Some(0), "{command}");
    }
    assert_eq!(place.runsc(&["nosuch"]).status.code(), Some(1));
}

#[test]
fn unknown_containers() {
    let place = Place::new();
    for command in ["start", "state", "kill", "delete"] {
        place.fails(&[command, "c1"], "container does not exist");
    }
    assert_eq!(place.runsc(&["delete", "--force", "c1"]).status.code(), Some(0));
    place.fails(&["state", "a/b"], "invalid container ID format");
    let list = place.runsc(&["list", "--format", "json"]);
    assert_eq!(text(&list.stdout), "null\n");
    place.fails(&["kill", "c1", "NOSUCH"], "unknown signal");
}

#[test]
fn bad_bundles_leave_nothing() {
    let place = Place::new();
    place.fails(&["run", "c1"], "config.json not found");
    let config = place.bundle().join("config.json");
    for (content, message) in [
        ("", "EOF"),
        ("{\"ociVersion\": ", "EOF"),
        ("{\"ociVersion\": \"7.0.0\"}", "not supported"),
        ("{\"ociVersion\": \"1.0.0\"}", "process: property is missing"),
    ] {
        fs::write(&config, content).expect("write");
        place.fails(&["create", "c1"], message);
        place.fails(&["run", "c1"], message);
    }
    fs::remove_file(&config).expect("remove");
    let changes: [(Change, &str); 6] = [
        (|c| c["root"]["path"] = "nosuch".into(), "nosuch"),
        (|c| c["root"]["path"] = "config.json".into(), "not an EROFS image"),
        (|c| c["process"]["args"] = json!([]), "process.args"),
        (|c| c["process"]["cwd"] = "tmp".into(), "process.cwd"),
        (|c| c["mounts"][0]["type"] = "nosuch".into(), "file system type"),
        (|c| c["mounts"][0] = json!({"destination": "/x", "source": "/nosuch", "type": "bind"}), "/nosuch"),
    ];
    for (change, message) in changes {
        place.configure(&["/bin/true"], change);
        place.fails(&["run", "c1"], message);
        fs::remove_file(&config).expect("remove");
    }
    assert!(place.empty());
}

#[test]
fn errors_are_logged_as_callers_read_them() {
    let place = Place::new();
    let log = place.bundle().join("log.json");
    let path = log.to_string_lossy().into_owned();
    place.fails(&["--log", &path, "--log-format", "json", "state", "c1"], "container does not exist");
    let last = fs::read_to_string(&log).expect("read");
    let entry: Value = serde_json::from_str(last.lines().last().expect("line")).expect("JSON");
    assert_eq!(
        (entry["level"].as_str(), entry["msg"].as_str()),
        (Some("error"), Some("container does not exist"))
    );
}

#[test]
fn a_template_is_not_overwritten() {
    let place = Place::new();
    assert!(place.runsc(&["spec"]).status.success());
    place.fails(&["spec"], "exists");
}
