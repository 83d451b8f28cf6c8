//! The same program natively and in the sandbox, on each platform: output and exit status must agree. Each program of
//! `tests/programs` exercises one family of system calls and prints results and errnos.

use runsc_tests::{Bundle, compile, finish, platforms};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

fn compare(name: &str) {
    let root = tempfile::tempdir().expect("a directory");
    for dir in ["tmp", "proc", "dev", "sys"] {
        std::fs::create_dir(root.path().join(dir)).expect("a directory");
    }
    let binary = compile(name, root.path());
    let work = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(&binary);
    command.current_dir(work.path()).env_clear().env("HOME", "/tmp");
    let native = finish(command, b"", LIMIT).expect("the native run");
    let native_code = native.status.code().or(native.status.signal().map(|s| 128 + s));
    for platform in platforms() {
        let bundle = Bundle::new(root.path(), &[&format!("/{name}")]).expect("a bundle");
        let sandboxed = bundle.run(platform, b"", LIMIT).expect("the run in the sandbox");
        let expected = String::from_utf8_lossy(&native.stdout);
        let got = String::from_utf8_lossy(&sandboxed.stdout);
        let differences: Vec<_> = expected
            .lines()
            .map(Some)
            .chain(std::iter::repeat(None))
            .zip(got.lines().map(Some).chain(std::iter::repeat(None)))
            .take(expected.lines().count().max(got.lines().count()))
            .filter(|(a, b)| a != b)
            .collect();
        assert!(
            differences.is_empty() && sandboxed.status.code() == native_code,
            "{name} on {platform}: native then sandboxed lines that differ: {differences:#?}\nexit {native_code:?} \
             and {:?}\n{}",
            sandboxed.status.code(),
            String::from_utf8_lossy(&sandboxed.stderr)
        );
    }
}

macro_rules! programs {
    ($($name:ident)*) => { $(#[test] fn $name() { compare(stringify!($name)); })* };
}

programs!(
    processes signals memory threads files pipes times ids sparse sockets_unix sockets_tcp sockets_udp netlink sysv_shm sysv_sem sysv_msg mqueue cputime filters sigio
);
