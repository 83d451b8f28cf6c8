//! `linux.seccomp` of config.json: what processes of the container may call, those that `exec` brings in too.

use runsc_tests::{Bundle, code, finish, platforms};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Output;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// Makes calls by their numbers, and tells their errors: getppid, socket of two families, personality with three
/// values, a call that is not there.
const CALLS: &str = r#"
for my $call ([110], [41, 1, 1, 0], [41, 2, 1, 0], [135, 0xffffffff], [135, 8], [39], [1000]) {
    $! = 0; my $r = syscall($call->[0], @{$call}[1..$#$call]);
    print $call->[0], " ", $r < 0 ? 0 + $! : "ok", "\n";
}
open(my $f, "<", "/proc/self/status"); /^Seccomp/ && print while <$f>;
"#;

fn profile() -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            {"names": ["getppid", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 18},
            {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
            {"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 33, "args": [
                {"index": 0, "value": 0xffff_ffffu32, "op": "SCMP_CMP_NE"}, {"index": 0, "value": 8, "op": "SCMP_CMP_EQ"},
            ]},
            {"names": ["chroot"], "action": "SCMP_ACT_KILL_PROCESS"},
            {"names": ["acct"], "action": "SCMP_ACT_TRAP"},
        ],
    })
}

fn run(platform: &str, seccomp: Value, args: &[&str]) -> Output {
    let mut bundle = Bundle::new(Path::new("/"), args).expect("a bundle");
    bundle.config()["linux"]["seccomp"] = seccomp;
    bundle.run(platform, b"", LIMIT).expect("the run in the sandbox")
}

#[test]
fn calls_answer_as_the_profile_has_it() {
    for platform in platforms() {
        let output = run(platform, profile(), &["/usr/bin/perl", "-e", CALLS]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let expected =
            "110 18\n41 1\n41 ok\n135 ok\n135 33\n39 ok\n1000 38\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        assert_eq!(text, expected, "on {platform}: {}", String::from_utf8_lossy(&output.stderr));
        for call in ["161, 0", "163, 0"] {
            // As a child: the first process of a PID namespace takes no signal that it does not handle.
            let script = format!("if (!fork) {{ syscall({call}); exit 0 }} wait; exit($? & 127)");
            let output = run(platform, profile(), &["/usr/bin/perl", "-e", &script]);
            assert_eq!(code(output.status), Some(31), "on {platform}: {call}");
        }
    }
}

#[test]
fn newer_calls_than_the_profile_knows_are_not_there() {
    let allow = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{"names": ["read", "write", "open", "openat", "close", "fstat", "newfstatat", "mmap", "mprotect",
            "munmap", "brk", "execve", "exit_group", "access", "pread64", "arch_prctl", "set_tid_address",
            "set_robust_list", "rseq", "prlimit64", "getrandom", "rt_sigaction", "rt_sigprocmask", "ioctl", "lseek",
            "getuid", "geteuid", "getgid", "getegid", "readlink", "fcntl", "getpid", "sysinfo"],
            "action": "SCMP_ACT_ALLOW"}],
    });
    for platform in platforms() {
        let output = run(platform, allow.clone(), &["/usr/bin/perl", "-e", CALLS]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let expected = "110 1\n41 1\n41 1\n135 1\n135 1\n39 ok\n1000 38\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        assert_eq!(text, expected, "on {platform}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn processes_of_exec_have_the_filter() {
    for platform in platforms() {
        let mut bundle = Bundle::new(Path::new("/"), &["/bin/sleep", "100"]).expect("a bundle");
        bundle.config()["linux"]["seccomp"] = profile();
        let launch = bundle.launch(platform, &["run", "--detach"]).expect("a command");
        let made = finish(launch.command, b"", LIMIT).expect("runsc");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let exec = bundle.runsc(&["exec", &launch.id, "/usr/bin/perl", "-e", CALLS]);
        let output = finish(exec, b"", LIMIT).expect("runsc");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.starts_with("110 18\n41 1\n41 ok\n"), "on {platform}: {text}");
    }
}

#[test]
fn what_there_is_not_is_refused_by_name() {
    for (seccomp, message) in [
        (json!({"defaultAction": "SCMP_ACT_NOTIFY"}), "SCMP_ACT_NOTIFY is not supported"),
        (json!({"defaultAction": "SCMP_ACT_NONE"}), "SCMP_ACT_NONE"),
        (json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_ARM"]}), "x86_64"),
    ] {
        let output = run(&platforms()[0], seccomp, &["/bin/true"]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(code(output.status) == Some(1) && text.contains(message), "{text}");
    }
}
