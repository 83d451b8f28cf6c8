//! The arrows between crates, and where `unsafe` may stand: docs/architecture.md.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the workspace")
}

/// What each crate of the workspace may depend on.
fn allowed() -> BTreeMap<&'static str, &'static [&'static str]> {
    BTreeMap::from([
        ("abi", &[][..]),
        ("sentry", &["abi", "rofs"][..]),
        ("sentry-image", &["sentry", "abi"][..]),
        ("platform", &["abi"][..]),
        ("checkpoint", &["abi"][..]),
        ("oci", &["abi"][..]),
        ("rofs", &[][..]),
        ("runsc", &["abi", "oci", "platform", "checkpoint", "rofs", "sentry-image"][..]),
        ("bench", &["abi"][..]),
        ("runsc-tests", &["rofs"][..]),
    ])
}

#[test]
fn crates_depend_only_along_the_arrows() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(workspace())
        .output()
        .expect("cargo metadata");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let names: BTreeSet<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    let allowed = allowed();
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        let may = allowed.get(name).unwrap_or_else(|| panic!("crate {name} is not in docs/architecture.md"));
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let on = dependency["name"].as_str().expect("a name");
            assert!(!names.contains(on) || may.contains(&on), "{name} must not depend on {on}");
        }
    }
}

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

#[test]
fn unsafe_code_stands_in_its_places_only() {
    let root = workspace();
    // The last is a stand-in for the VMM in unit tests.
    let places = [
        "sentry/src/arch",
        "sentry/src/mm/frames",
        "sentry/src/sync",
        "sentry-image",
        "platform",
        "sentry/src/host/mock.rs",
    ];
    for member in ["abi", "sentry", "sentry-image", "platform", "oci", "rofs", "runsc"] {
        let mut files = Vec::new();
        sources(&root.join(member).join("src"), &mut files);
        for file in files {
            let relative = file.strip_prefix(&root).expect("below the root").to_string_lossy().into_owned();
            if places.iter().any(|p| relative.starts_with(p)) {
                continue;
            }
            let text = std::fs::read_to_string(&file).expect("a source");
            for (number, line) in text.lines().enumerate() {
                let code = line.split("//").next().unwrap_or("");
                let found = ["unsafe {", "unsafe fn", "unsafe impl"].iter().any(|u| code.contains(u));
                assert!(!found, "{relative}:{}: unsafe code outside its places", number + 1);
            }
        }
    }
}
