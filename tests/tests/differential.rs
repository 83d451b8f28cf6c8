//! The same program natively and in the sandbox, on each platform: output and exit status must agree. Each program of
//! `tests/programs` exercises one family of system calls and prints results and errnos.

use runsc_tests::{Bundle, compile, finish, platforms};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

fn compare(name: &str) {
    compare_with(name, &[]);
}

fn compare_with(name: &str, options: &[&str]) {
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
        let launch = bundle.launch(platform, &[options, &["run"]].concat()).expect("a command");
        let sandboxed = finish(launch.command, b"", LIMIT).expect("the run in the sandbox");
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

#[test]
fn suid() {
    compare_with("suid", &["--allow-suid"]);
}

#[test]
fn set_user_id_bits_are_ignored_unless_the_sandbox_allows_them() {
    let root = tempfile::tempdir().expect("a directory");
    for dir in ["tmp", "proc", "dev", "sys"] {
        std::fs::create_dir(root.path().join(dir)).expect("a directory");
    }
    compile("suid", root.path());
    for platform in platforms() {
        let bundle = Bundle::new(root.path(), &["/suid"]).expect("a bundle");
        let output = bundle.run(platform, b"", LIMIT).expect("the run in the sandbox");
        let text = String::from_utf8_lossy(&output.stdout);
        let after = text.split("-- root's as user\n").nth(1).expect("what the program of root shows");
        assert!(after.starts_with("uid 2000 2000 2000 gid 2000 2000 2000 secure 0"), "{platform}: {text}");
    }
}

/// Lines of maps that `vma_names` prints. The kernel of this machine may be built without names.
const NAMES: &str = "\
    2 pages r--s [anon_shmem:ring]\n2 pages rw-p [anon:my heap]\n\
    2 pages r--s [anon_shmem:ring]\n1 pages rw-p [anon:my heap]\n\
    2 pages r--s [anon_shmem:ring]\n2 pages rw-p [anon:rest]\n\
    2 pages r--s [anon_shmem:ring]\n2 pages rw-p [anon:rest]\n";

#[test]
fn maps_shows_the_names_of_memory() {
    let root = tempfile::tempdir().expect("a directory");
    for dir in ["tmp", "proc", "dev", "sys"] {
        std::fs::create_dir(root.path().join(dir)).expect("a directory");
    }
    compile("vma_names", root.path());
    for platform in platforms() {
        let bundle = Bundle::new(root.path(), &["/vma_names"]).expect("a bundle");
        let output = bundle.run(platform, b"", LIMIT).expect("the run in the sandbox");
        let text = String::from_utf8_lossy(&output.stdout);
        let shown: String =
            text.lines().filter(|l| l.contains(" pages ")).map(|l| format!("{l}\n")).collect();
        assert_eq!(shown, NAMES, "{platform}: {text}");
        let refused: Vec<_> = text.lines().filter_map(|l| l.split("): ").nth(1)).collect();
        let expected =
            ["ok", "ok", "ok", "EINVAL", "EINVAL", "EINVAL", "EINVAL", "ok", "EFAULT", "ENOMEM", "EBADF"];
        assert_eq!(refused, expected, "{platform}: {text}");
    }
}

macro_rules! programs {
    ($($name:ident)*) => { $(#[test] fn $name() { compare(stringify!($name)); })* };
}

programs!(
    processes signals memory threads files pipes times ids sparse sockets_unix sockets_tcp sockets_udp netlink
    sysv_shm sysv_sem sysv_msg mqueue mremaps cputime filters ptrace sigio prctls listeners leases odds aio
);
