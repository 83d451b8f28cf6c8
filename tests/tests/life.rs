//! The life of a container after its start: further processes, pauses, lists of processes. On each platform.

use runsc_tests::{Bundle, code, finish, native, platforms, same, wait_for};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// A detached container of this machine's root that sleeps.
fn detached(platform: &str) -> Bundle {
    let bundle = Bundle::new(Path::new("/"), &["/bin/sleep", "600"]).expect("a bundle");
    let mut command = bundle.command(platform, "life").expect("a command");
    command.arg("--detach").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(command.status().expect("runsc").success(), "on {platform}");
    bundle
}

fn runsc(bundle: &Bundle, args: &[&str], stdin: &[u8]) -> Output {
    finish(bundle.runsc(args), stdin, LIMIT).expect("runsc")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn exec(bundle: &Bundle, options: &[&str], command: &[&str], stdin: &[u8]) -> (Option<i32>, String, String) {
    let args: Vec<&str> = [&["exec"], options, &["life"], command].concat();
    let output = runsc(bundle, &args, stdin);
    (code(output.status), text(&output.stdout), text(&output.stderr))
}

#[test]
fn exec_has_streams_status_and_changes() {
    for platform in platforms() {
        let bundle = detached(platform);
        let (code, out, err) = exec(&bundle, &[], &["tr", "a-z", "A-Z"], b"some input\n");
        assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "SOME INPUT\n", ""), "on {platform}");
        let (code, out, err) = exec(&bundle, &[], &["sh", "-c", "echo out; echo err >&2; exit 7"], b"");
        assert_eq!((code, out.as_str(), err.as_str()), (Some(7), "out\n", "err\n"), "on {platform}");
        assert_eq!(exec(&bundle, &[], &["sh", "-c", "kill -9 $$"], b"").0, Some(137), "on {platform}");
        let options = ["--env", "FOO=bar", "--cwd", "/etc", "--user", "1000:1001", "-g", "1002"];
        let script = "id -u; id -G; pwd; echo $FOO; ps -o ppid= -p $$ | tr -d ' '; [ $(ps -o sid= -p $$) = $$ ]; echo $?";
        let (code, out, _) = exec(&bundle, &options, &["sh", "-c", script], b"");
        assert_eq!((code, out.as_str()), (Some(0), "1000\n1001 1002\n/etc\nbar\n0\n0\n"), "on {platform}");
        // One that runs keeps no other command waiting.
        let mut long = bundle.runsc(&["exec", "life", "sleep", "600"]);
        let mut long =
            long.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("runsc");
        wait_for("it does not run", LIMIT, || {
            exec(&bundle, &[], &["sh", "-c", "ps -ef | grep -c '[s]leep 600'"], b"").1 == "2\n"
        });
        let kill = runsc(&bundle, &["kill", "life", "USR1"], b"");
        assert!(kill.status.success(), "on {platform}: {}", text(&kill.stderr));
        assert!(
            Command::new("kill").args(["-TERM", &long.id().to_string()]).status().expect("kill").success()
        );
        assert_eq!(runsc_tests::code(long.wait().expect("runsc")), Some(143), "on {platform}");
        // What one writes another sees: they share the container's files.
        assert_eq!(exec(&bundle, &[], &["sh", "-c", "echo kept > /tmp/f"], b"").0, Some(0));
        assert_eq!(exec(&bundle, &[], &["cat", "/tmp/f"], b"").1, "kept\n", "on {platform}");
        // A reader sees the end of a pipe although the process lives on.
        let (code, out, _) =
            exec(&bundle, &[], &["sh", "-c", "echo first; exec >&- 2>&-; sleep 0.05; exit 5"], b"");
        assert_eq!((code, out.as_str()), (Some(5), "first\n"), "on {platform}");
    }
}

#[test]
fn exec_that_cannot_start_ends_with_255() {
    for platform in platforms() {
        let bundle = detached(platform);
        for (args, words) in [
            (&["life", "/nosuch"][..], "exec: \"/nosuch\": stat /nosuch: no such file or directory"),
            (&["life", "nosuch"], "executable file not found in $PATH"),
            (&["life", "/etc/passwd"], "permission denied"),
            (&["--cwd", "/nosuch", "life", "true"], "chdir to cwd"),
            (&["--user", "x", "life", "true"], "is not UID or UID:GID"),
            (&["--env", "FOO", "life", "true"], "is not NAME=value"),
            (&["--cap", "NOSUCH", "life", "true"], "unknown capability"),
            (&["--process", "/nosuch", "life"], "/nosuch"),
            (&["absent", "true"], "container does not exist"),
        ] {
            let output = runsc(&bundle, &[&["exec"], args].concat(), b"");
            let err = text(&output.stderr);
            assert_eq!(output.status.code(), Some(255), "{args:?} on {platform}: {err}");
            assert!(err.contains(words), "{args:?} on {platform}: {err}");
        }
        // The container is none the worse.
        assert_eq!(exec(&bundle, &[], &["echo", "well"], b"").1, "well\n", "on {platform}");
    }
}

/// The process that stands for a detached one ends with its status, and is its life.
#[test]
fn exec_detached_has_a_stand_in() {
    for platform in platforms() {
        let bundle = detached(platform);
        let pid_file = bundle.path().join("pid");
        let start = |script: &str| -> i32 {
            let mut command = bundle.runsc(&["exec", "--detach", "--pid-file"]);
            command.arg(&pid_file).args(["life", "sh", "-c", script]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            assert!(command.status().expect("runsc").success(), "on {platform}");
            std::fs::read_to_string(&pid_file).expect("a pid file").parse().expect("a number")
        };
        let alive = |pid: i32| Path::new(&format!("/proc/{pid}/exe")).exists();
        let pid = start("echo done > /tmp/done");
        wait_for("the stand-in does not end", LIMIT, || !alive(pid));
        assert_eq!(exec(&bundle, &[], &["cat", "/tmp/done"], b"").1, "done\n", "on {platform}");
        // A signal to it is one to the process; what kills it kills the process.
        let pid =
            start("trap 'echo term > /tmp/term; exit' TERM; : > /tmp/set; while :; do sleep 0.01; done");
        wait_for("the trap is not set", LIMIT, || {
            exec(&bundle, &[], &["test", "-e", "/tmp/set"], b"").0 == Some(0)
        });
        assert!(Command::new("kill").args(["-TERM", &pid.to_string()]).status().expect("kill").success());
        wait_for("the process does not end", LIMIT, || !alive(pid));
        assert_eq!(exec(&bundle, &[], &["cat", "/tmp/term"], b"").1, "term\n", "on {platform}");
        let pid = start("exec sleep 4321");
        let count = || exec(&bundle, &[], &["sh", "-c", "ps -ef | grep -c '[4]321'"], b"").1;
        wait_for("the process does not run", LIMIT, || count() == "1\n");
        assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().expect("kill").success());
        wait_for("the process outlives its stand-in", LIMIT, || count() == "0\n");
    }
}

#[test]
fn exec_takes_a_process_from_a_file() {
    for platform in platforms() {
        let bundle = detached(platform);
        let file = bundle.path().join("process.json");
        let process = serde_json::json!({
            "user": {"uid": 5, "gid": 6}, "args": ["/bin/sh", "-c", "id -u; id -g; echo $X; pwd"],
            "env": ["PATH=/usr/bin:/bin", "X=y"], "cwd": "/usr",
        });
        std::fs::write(&file, process.to_string()).expect("a file");
        let (code, out, err) = exec(&bundle, &["--process", &file.to_string_lossy()], &[], b"");
        assert_eq!((code, out.as_str()), (Some(0), "5\n6\ny\n/usr\n"), "on {platform}: {err}");
    }
}

#[test]
fn a_paused_container_stands_still() {
    for platform in platforms() {
        let bundle = detached(platform);
        let status = |bundle: &Bundle| {
            let state = runsc(bundle, &["state", "life"], b"");
            let json: serde_json::Value = serde_json::from_slice(&state.stdout).expect("JSON");
            json["status"].as_str().expect("a status").to_string()
        };
        let refused = |args: &[&str], code: i32, words: &str| {
            let output = runsc(&bundle, args, b"");
            let err = text(&output.stderr);
            assert!(
                output.status.code() == Some(code) && err.contains(words),
                "{args:?} on {platform}: {err}"
            );
        };
        let count = || exec(&bundle, &[], &["cat", "/tmp/n"], b"").1.trim().parse::<u64>().unwrap_or(0);
        let script =
            "n=0; while :; do n=$((n+1)); echo $n > /tmp/n.new; mv /tmp/n.new /tmp/n; sleep 0.005; done";
        let mut command = bundle.runsc(&["exec", "--detach", "life", "sh", "-c", script]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(command.status().expect("runsc").success());
        wait_for("it does not count", LIMIT, || count() > 3);
        refused(&["resume", "life"], 1, "container not paused");
        assert!(runsc(&bundle, &["pause", "life"], b"").status.success(), "on {platform}");
        assert_eq!(status(&bundle), "paused");
        refused(&["pause", "life"], 1, "container not running");
        refused(&["exec", "life", "true"], 255, "cannot exec in a paused container");
        refused(&["ps", "life"], 1, "container is paused");
        assert!(runsc(&bundle, &["resume", "life"], b"").status.success(), "on {platform}");
        assert_eq!(status(&bundle), "running");
        let before = count();
        wait_for("it does not go on", LIMIT, || count() > before + 3);
        let ps = text(&runsc(&bundle, &["ps", "life"], b"").stdout);
        assert!(
            ps.starts_with("UID") && ps.contains(" sleep\n") && ps.contains(" sh\n"),
            "on {platform}: {ps}"
        );
        let json = runsc(&bundle, &["ps", "--format", "json", "life"], b"");
        let pids: Vec<i32> = serde_json::from_slice(&json.stdout).expect("JSON");
        assert!(pids.len() == 1 && pids[0] > 0, "on {platform}: {pids:?}");
        // One that is killed while it is paused dies.
        assert!(runsc(&bundle, &["pause", "life"], b"").status.success(), "on {platform}");
        assert!(runsc(&bundle, &["kill", "life", "KILL"], b"").status.success(), "on {platform}");
        wait_for("it does not die", LIMIT, || status(&bundle) == "stopped");
        refused(&["exec", "life", "true"], 255, "cannot exec in a stopped container");
        assert!(runsc(&bundle, &["delete", "life"], b"").status.success(), "on {platform}");
    }
}

#[test]
fn events_tell_what_is_used() {
    for platform in platforms() {
        let bundle = detached(platform);
        let output = runsc(&bundle, &["events", "--stats", "life"], b"");
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(
            (json["type"].as_str(), json["id"].as_str()),
            (Some("stats"), Some("life")),
            "on {platform}"
        );
        assert_eq!(json["data"]["pids"]["current"], 1, "on {platform}: {json}");
        assert!(json["data"]["memory"]["usage"]["usage"].as_u64() > Some(1 << 20), "on {platform}: {json}");
        assert!(json["data"]["cpu"]["usage"]["total"].is_u64(), "on {platform}: {json}");
        // Without --stats: a line after each interval, until the container ends.
        let mut events = bundle.runsc(&["events", "--interval", "10ms", "life"]);
        let child = events.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("runsc");
        std::thread::sleep(Duration::from_millis(50));
        assert!(runsc(&bundle, &["kill", "life", "KILL"], b"").status.success());
        let output = child.wait_with_output().expect("runsc");
        let lines = text(&output.stdout);
        assert!(output.status.success() && !lines.is_empty(), "on {platform}: {lines}");
        assert!(lines.lines().all(|l| serde_json::from_str::<serde_json::Value>(l).is_ok()), "on {platform}");
    }
}

#[test]
fn wait_tells_what_a_container_ends_with() {
    for platform in platforms() {
        let bundle = detached(platform);
        let mut wait = bundle.runsc(&["wait", "life"]);
        let child = wait.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("runsc");
        // It waits, and keeps nobody waiting.
        std::thread::sleep(Duration::from_millis(30));
        assert!(runsc(&bundle, &["kill", "life", "KILL"], b"").status.success());
        let output = child.wait_with_output().expect("runsc");
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(json, serde_json::json!({"id": "life", "exitStatus": 137}), "on {platform}");
        let late = runsc(&bundle, &["wait", "life"], b"");
        assert!(late.status.code() == Some(1) && text(&late.stderr).contains("container not running"));
    }
}

#[test]
fn features_are_a_document() {
    let output = Command::new(runsc_tests::runsc()).arg("features").output().expect("runsc");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["ociVersionMin"], "1.0.0");
    assert!(json["mountOptions"].as_array().is_some_and(|list| list.iter().any(|o| o == "nosuid")));
    assert!(
        json["linux"]["capabilities"].as_array().is_some_and(|list| list.iter().any(|c| c == "CAP_CHOWN"))
    );
    assert_eq!(json["linux"]["cgroup"]["v1"], true);
}

#[test]
fn init_takes_no_signal_that_it_did_not_ask_for() {
    // pid_namespaces(7); blocked ones are kept for it all the same.
    let program = "import os, signal, time
for s in (signal.SIGTERM, signal.SIGALRM, signal.SIGTSTP, signal.SIGKILL, signal.SIGSTOP, signal.SIGABRT):
    os.kill(os.getpid(), s)
signal.alarm(1)
print(os.getpid(), 'slept', time.sleep(1.5))
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
os.kill(os.getpid(), signal.SIGUSR1)
print('pending', signal.sigpending() == {signal.SIGUSR1})
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
print('alive', flush=True)
if os.fork() == 0:
    os.kill(1, signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGTERM)
print(os.wait()[1], flush=True)
import ctypes
ctypes.string_at(0)";
    let args = ["/usr/bin/python3", "-c", program];
    let unshare = ["/usr/bin/unshare", "--pid", "--fork", "/bin/bash", "-c", "exec \"$0\" \"$@\""];
    let native = finish(native(&[&unshare[..], &args].concat()), b"", LIMIT).expect("the native run");
    assert!(text(&native.stdout).contains("alive"), "{}", text(&native.stderr));
    for platform in platforms() {
        let bundle = Bundle::new(Path::new("/"), &args).expect("a bundle");
        let sandboxed = bundle.run(platform, b"", LIMIT).expect("the run in the sandbox");
        same(platform, &native, &sandboxed);
    }
}
