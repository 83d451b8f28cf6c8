//! Root file systems that hold one static program and nothing else: busybox, and a program of Rust's standard library.

use runsc_tests::{Bundle, finish, native, platforms, same};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);

fn root() -> TempDir {
    let root = tempfile::tempdir().expect("a directory");
    for dir in ["bin", "tmp", "proc", "dev", "sys"] {
        fs::create_dir(root.path().join(dir)).expect("a directory");
    }
    root
}

/// A root with busybox and a link for each of its applets.
fn busybox() -> TempDir {
    let root = root();
    let bin = root.path().join("bin");
    fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox-static is installed");
    let list = Command::new("/bin/busybox").arg("--list").output().expect("busybox");
    for applet in String::from_utf8_lossy(&list.stdout).lines().filter(|name| *name != "busybox") {
        std::os::unix::fs::symlink("busybox", bin.join(applet)).expect("a link");
    }
    root
}

/// Runs a script by busybox's shell, natively with busybox's applets before all else, and in the sandbox.
fn applets(script: &str) {
    let root = busybox();
    let work = tempfile::tempdir().expect("a directory");
    let bin = root.path().join("bin");
    let mut command = native(&[&bin.join("sh").to_string_lossy(), "-c", script]);
    command.env("PATH", &bin).current_dir(work.path());
    let native = finish(command, b"", LIMIT).expect("the native run");
    for platform in platforms() {
        let bundle = Bundle::new(root.path(), &["/bin/sh", "-c", script]).expect("a bundle");
        let sandboxed = bundle.run(platform, b"", LIMIT).expect("the run in the sandbox");
        same(&format!("{script} on {platform}"), &native, &sandboxed);
    }
}

#[test]
fn busybox_reads_and_writes_files() {
    applets(
        "mkdir -p d/e; for i in 3 1 2; do echo \"$i $((i * 7)) line\" > d/f$i; done; ls d; ls -l d | awk '/^-/ {print $1, $5}'; \
         cat d/f? | sort -n; cat d/f? | awk '{sum += $2} END {print sum, NR}'; sed -n 's/line/LINE/p' d/f1; \
         sed -i 's/^1/one/' d/f1; cat d/f1; wc d/f1 d/f2; md5sum d/f3; sha256sum < d/f2; find d -type f -name 'f[12]' | sort; \
         find d -type f -print0 | xargs -0 -n 1 cat | sort | tail -1; grep -rl 14 d; cut -d ' ' -f 2 d/f3 | tr 0-9 a-j; \
         tar cf t.tar d; tar tf t.tar | sort; rm -r d; tar xf t.tar; cat d/f2; gzip t.tar; gunzip -c t.tar.gz | md5sum | wc -c; \
         ln -s d/f1 s; readlink s; test -L s && echo link; ln d/f2 h; stat -c '%h %s' h; mv h moved; cp -a d copy; \
         diff -r d copy && echo same; chmod 640 moved; stat -c %a moved; truncate -s 1M moved; stat -c %s moved; du -k d | tail -1 | cut -f 2; \
         dd if=moved bs=1k skip=1023 2>/dev/null | wc -c; cmp d/f1 copy/f1; echo $?; touch -d @1000 s2; \
         stat -c %Y s2; cat missing; echo $?; rmdir d; echo $?; exit 12",
    );
}

#[test]
fn busybox_runs_processes() {
    applets(
        "seq 1 20000 | sort -rn | head -n 3; seq 100 | xargs -n 7 echo | wc -l; for i in 1 2 3 4 5; do (sleep 0.0$i; exit $i) & done; \
         wait; echo $?; sleep 10 & kill $!; wait $!; echo $?; trap 'echo got' USR1; kill -USR1 $$; echo after; \
         yes | head -n 2; (yes; echo $? >&2) 2>status | head -n 1; cat status; timeout 0.1 sleep 10; echo $?; \
         echo $(seq 3) | while read a b c; do echo $c$b$a; done; mkfifo p; (echo through > p) & cat p; wait; \
         cat <<X | rev\nhere $((6 * 7))\nX\nset -- a 'b c' d; for w in \"$@\"; do echo \"<$w>\"; done; \
         sh -c 'kill -9 $$'; echo $?; env -i A=1 env; nice -n 3 nice; expr 6 \\* 7; printf '%05d|%-4s|%x\\n' 42 ab 255; \
         test -e /proc/self/exe && echo proc; usleep 1000; sh -c 'exit 300'; exit $?",
    );
}

#[test]
fn busybox_sees_the_sandbox() {
    // What only the sandbox has: nothing to compare with.
    let root = busybox();
    for platform in platforms() {
        let script = "hostname; id -u; pwd; ls /; cat /proc/sys/kernel/hostname; readlink /proc/self/exe; echo $$; \
                      ps -o pid,comm | tail -n +2; mount | grep -c '^'; df -k /tmp | tail -n 1 | awk '{print $6}'; dmesg; uname -sm";
        let bundle = Bundle::new(root.path(), &["/bin/sh", "-c", script]).expect("a bundle");
        let output = bundle.run(platform, b"", LIMIT).expect("the run in the sandbox");
        let text = String::from_utf8_lossy(&output.stdout);
        let lines: Vec<_> = text.lines().collect();
        let begin =
            ["sandbox", "0", "/tmp", "bin", "dev", "proc", "sys", "tmp", "sandbox", "/bin/busybox", "1"];
        assert!(lines.starts_with(&begin), "{platform}: {lines:#?}");
        assert!(lines.iter().any(|line| line.trim() == "1 sh"), "{platform}: {lines:#?}");
        assert!(lines.contains(&"/tmp") && lines.ends_with(&["Linux x86_64"]), "{platform}: {lines:#?}");
    }
}

#[test]
fn a_static_rust_program() {
    let root = root();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/everyday.rs");
    let binary = root.path().join("everyday");
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc
        .args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-o"])
        .arg(&binary)
        .arg(source);
    let output = rustc.output().expect("rustc");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let work = tempfile::tempdir().expect("a directory");
    let mut command = native(&[&binary.to_string_lossy()]);
    command.current_dir(work.path());
    let native = finish(command, b"", LIMIT).expect("the native run");
    assert_eq!(native.status.code(), Some(42), "{}", String::from_utf8_lossy(&native.stderr));
    for platform in platforms() {
        let bundle = Bundle::new(root.path(), &["/everyday"]).expect("a bundle");
        let sandboxed = bundle.run(platform, b"", LIMIT).expect("the run in the sandbox");
        same(&format!("everyday on {platform}"), &native, &sandboxed);
    }
}
