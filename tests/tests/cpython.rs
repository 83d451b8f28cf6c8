//! CPython's own tests of what it asks an operating system for (`libpython3.N-testsuite`), in the sandbox on each
//! platform: every case must pass. Cases that docs/limits.md explains are left out by name.

use runsc_tests::{Bundle, code, finish, platforms};
use std::path::Path;
use std::time::Duration;

/// How long one module may take on a busy machine before it counts as hung.
const LIMIT: Duration = Duration::from_secs(400);

/// Runs one module of `python3 -m test`, without the cases that match a pattern.
fn passes(module: &str, without: &[&str]) {
    // Below a shell: process 1 inherits orphans, which the tests take for children left behind.
    let mut args = vec!["/bin/sh", "-c", "\"$@\"; exit $?", "sh", "/usr/bin/python3", "-m", "test", "-W"];
    args.extend(without.iter().flat_map(|pattern| ["-i", pattern]));
    args.push(module);
    for platform in platforms() {
        let bundle = Bundle::new(Path::new("/"), &args).expect("a bundle");
        let launch = bundle.launch(platform, &["run"]).expect("a command");
        let output = finish(launch.command, b"", LIMIT).expect("the run in the sandbox");
        let said = String::from_utf8_lossy(&output.stdout);
        // A module that is skipped as a whole ends with 0 too.
        assert!(
            code(output.status) == Some(0) && said.contains("\n1 test OK.\n"),
            "{module} on {platform}: exit {:?}\n{said}\n{}",
            code(output.status),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

macro_rules! modules {
    ($($name:ident $(without $($pattern:literal)+)?;)*) => {
        $(#[test] fn $name() { passes(stringify!($name), &[$($($pattern),+)?]); })*
    };
}

modules! {
    test_asyncio;
    test_epoll;
    test_fcntl without "test_fcntl_64_bit"; // F_NOTIFY
    test_mmap;
    test_os;
    test_pathlib;
    test_posix;
    test_pty;
    test_select;
    test_selectors;
    test_shutil without "test_disk_usage"; // statfs of the root
    test_signal;
    test_socket without "*UDPLITE*"; // UDP-Lite
    test_subprocess;
    test_tempfile;
    test_threading;
}
