//! Stressors of stress-ng that check what they do (`--verify`): a few rounds of each, all in one sandbox, on each
//! platform. Those that are left out need devices, take long, or want what a container has not.

use runsc_tests::{Bundle, finish, platforms};
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(600);

/// Names of stressors.
const STRESSORS: &str = "@LIST@";

/// Runs each, and prints those that fail, with what they say. `--verify` makes a wrong result a failure; some report one
/// and end with 0 all the same.
const SCRIPT: &str = "cd /tmp; for name in $STRESSORS; do \
    stress-ng --$name 1 --$name-ops 3 --timeout 30 --verify --oomable --temp-path /tmp >/tmp/out 2>&1; code=$?; \
    if [ $code -ne 0 ] || grep -q 'fail:' /tmp/out; then echo \"$name: $code\"; grep -E 'fail:|error:' /tmp/out; fi; \
    done; echo done";

#[test]
fn stressors_find_nothing_wrong() {
    for platform in platforms() {
        let script = format!("STRESSORS='{STRESSORS}'; {SCRIPT}");
        let mut bundle = Bundle::new(Path::new("/"), &["/bin/bash", "-c", &script]).expect("a bundle");
        bundle.config()["process"]["env"] =
            serde_json::json!(["PATH=/usr/bin:/bin:/usr/sbin:/sbin", "HOME=/tmp"]);
        let output = bundle.run(platform, b"", LIMIT).expect("the run in the sandbox");
        let text = String::from_utf8_lossy(&output.stdout);
        let more = String::from_utf8_lossy(&output.stderr);
        assert_eq!(text, "done\n", "on {platform}: {more}");
        assert!(output.status.success(), "on {platform}: {more}");
    }
}
