//! The command itself: natively and in our sandbox, one operation.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

fn bench(arguments: &[&str]) -> std::process::Output {
    let bench = PathBuf::from(env!("CARGO_BIN_EXE_bench"));
    let runsc = std::env::var_os("RUNSC").map(PathBuf::from).unwrap_or_else(|| bench.with_file_name("runsc"));
    assert!(runsc.exists(), "no runsc at {}: cargo build -p runsc", runsc.display());
    Command::new(bench).arg("--runsc").arg(runsc).args(arguments).output().expect("bench")
}

#[test]
fn one_operation_is_measured_natively_and_in_the_sandbox() {
    // Peers that this machine may have are left out: runc needs rights that tests have not got everywhere.
    let places: Vec<&str> = ["kvm", "systrap"]
        .into_iter()
        .filter(|place| bench(&["--quick", "--only", "getpid", "--places", place]).status.success())
        .collect();
    assert!(!places.is_empty(), "no platform is usable here");
    let list = format!("native,{}", places.join(","));
    let output = bench(&["--quick", "--json", "--only", "getpid", "--places", &list]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let operations = report["operations"].as_array().expect("operations");
    assert_eq!(operations.len(), 1);
    assert_eq!(operations[0]["name"], "getpid");
    for place in list.split(',') {
        let figure = &operations[0]["places"][place];
        assert!(figure["median_ns"].as_f64().is_some_and(|ns| ns > 0.0), "{place}: {figure}");
        if place != "native" {
            let exits = figure["exits"].as_array().expect("exits");
            assert!(exits.iter().all(|e| e.as_f64().is_some_and(|e| e < 100.0)), "getpid left it: {figure}");
        }
    }
}

#[test]
fn unknown_names_are_refused() {
    for arguments in [["--only", "nosuch"], ["--places", "nosuch"]] {
        let output = bench(&arguments);
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains("nosuch"), "{output:?}");
    }
}
