//! Races, and the reuse of memory: `tests/programs/stress.c` on each platform with 2 and with 4 vCPUs, on this machine's
//! CPUs and so mostly overcommitted. `RUNSC_STRESS_SECONDS` sets how long each takes.

use runsc_tests::{Bundle, compile, finish, platforms};
use std::time::Duration;

fn seconds() -> u64 {
    std::env::var("RUNSC_STRESS_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

fn stress(mode: &str) {
    let root = tempfile::tempdir().expect("a directory");
    for dir in ["tmp", "proc", "dev", "sys"] {
        std::fs::create_dir(root.path().join(dir)).expect("a directory");
    }
    compile("stress", root.path());
    let seconds = seconds();
    let limit = Duration::from_secs(60 + 4 * seconds);
    for platform in platforms() {
        for cpus in ["2", "4"] {
            let bundle =
                Bundle::new(root.path(), &["/stress", mode, &seconds.to_string()]).expect("a bundle");
            let mut command = bundle.command(platform, &format!("{mode}-{cpus}")).expect("a command");
            command.args(["--cpus", cpus]);
            let output = finish(command, b"", limit).expect("a run");
            let (out, err) =
                (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert_eq!(out, format!("{mode}: ok\n"), "on {platform} with {cpus} vCPUs: {err}");
            assert!(output.status.success(), "on {platform} with {cpus} vCPUs: {err}");
        }
    }
}

macro_rules! modes {
    ($($name:ident)*) => { $(#[test] fn $name() { stress(stringify!($name)); })* };
}

modes!(words forks crowd rights execs signals stops killings tracers);

/// Sockets: `tests/programs/sockstress.c`.
#[test]
fn sockets() {
    let root = tempfile::tempdir().expect("a directory");
    for dir in ["tmp", "proc", "dev", "sys"] {
        std::fs::create_dir(root.path().join(dir)).expect("a directory");
    }
    compile("sockstress", root.path());
    for platform in platforms() {
        for cpus in ["2", "4"] {
            let bundle = Bundle::new(root.path(), &["/sockstress"]).expect("a bundle");
            let mut command = bundle.command(platform, &format!("sockets-{cpus}")).expect("a command");
            command.args(["--cpus", cpus]);
            let output = finish(command, b"", Duration::from_secs(120)).expect("a run");
            let (out, err) =
                (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert_eq!(out, "done\n", "on {platform} with {cpus} vCPUs: {err}");
        }
    }
}
