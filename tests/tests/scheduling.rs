//! Tasks that share a vCPU. On each platform.

use runsc_tests::{finish, platforms, runsc};
use std::process::Command;
use std::time::Duration;

/// More than the programs need by far, and less than any timer of the sentry's own would take to help them.
const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn nobody_starves_while_a_timer_is_far_away() {
    // A sleep that ends long after the test, a loop that never waits, and beside it a shell that starts programs.
    let script = "sleep 600 & s=$!; (while :; do :; done) & l=$!; i=0; \
        while [ $i -lt 20 ]; do /bin/true; i=$((i+1)); done; echo $i; kill -9 $s $l";
    for platform in platforms() {
        let state = tempfile::tempdir().expect("a directory");
        let mut command = Command::new(runsc());
        command.arg("--root").arg(state.path()).args(["--platform", platform, "--cpus", "1"]);
        command.args(["do", "--", "/bin/sh", "-c", script]);
        let output = finish(command, b"", LIMIT).unwrap_or_else(|e| panic!("on {platform}: {e}"));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "20\n", "on {platform}");
    }
}
