//! What can be seen of a sandbox: the trace of system calls, the last calls before a crash, what tasks are in, the
//! watchdog, the table of system calls, the state of the host. On each platform where a sandbox is needed.

use runsc_tests::{Bundle, compile, finish, platforms, runsc, wait_for};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn read(path: &Path) -> String {
    std::fs::read(path).map(|bytes| text(&bytes)).unwrap_or_default()
}

/// Runs a script with options of `runsc` in front; returns its output and the debug log.
fn traced(platform: &str, options: &[&str], script: &str) -> (Output, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let log = dir.path().join("log");
    let mut command = Command::new(runsc());
    command
        .arg("--root")
        .arg(dir.path().join("state"))
        .args(["--platform", platform, "--debug-log"])
        .arg(&log);
    command.args(options).args(["do", "--", "/bin/sh", "-c", script]);
    let output = finish(command, b"", LIMIT).expect("a run");
    (output, read(&log))
}

/// A detached container that sleeps.
fn detached(platform: &str) -> Bundle {
    let bundle = Bundle::new(Path::new("/"), &["/bin/sleep", "600"]).expect("a bundle");
    let mut command = bundle.command(platform, "seen").expect("a command");
    command.arg("--detach").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(command.status().expect("runsc").success(), "on {platform}");
    bundle
}

#[test]
fn the_trace_decodes_arguments_and_results() {
    for platform in platforms() {
        let script = "cat /nosuch; printf '%s' abcdefghijklmnop > /dev/null; (exit 3); kill -WINCH $$";
        let (_, log) = traced(platform, &["--strace", "--strace-log-size", "8"], script);
        for part in [
            "] cat E openat(AT_FDCWD, \"/nosuch\", O_RDONLY)\n",
            "] cat X openat(AT_FDCWD, \"/nosuch\", O_RDONLY) = -1 ENOENT (",
            "S [1:1] sh X openat(AT_FDCWD, \"/dev/null\", O_WRONLY|O_CREAT|O_TRUNC, 0666) = ",
            "S [1:1] sh X write(1, \"abcdefgh\"..., 16) = 16 (",
            "X wait4(-1, [exited 3], 0, NULL) = ",
            "S [1:1] sh X kill(1, SIGWINCH) = 0 (",
            " E execve(\"/usr/bin/cat\", [\"cat\", \"/nosuch\"], 0x",
            "mmap(NULL, ",
            "PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x",
            "{mode=S_IFREG|0",
        ] {
            assert!(log.contains(part), "on {platform}: no {part:?} in\n{log}");
        }
    }
}

#[test]
fn the_trace_can_be_of_some_calls() {
    let platform = &platforms()[0];
    let (_, log) = traced(platform, &["--strace", "--strace-syscalls", "openat,close"], "cat /dev/null");
    let names: std::collections::BTreeSet<&str> = log
        .lines()
        .filter_map(|line| line.strip_prefix("S ")?.split_once(['E', 'X'])?.1.trim_start().split_once('('))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["close", "openat"], "{log}");
}

#[test]
fn a_sandbox_that_runs_can_be_looked_into() {
    for platform in platforms() {
        let bundle = detached(platform);
        let debug = |options: &[&str]| {
            let args: Vec<&str> = [&["debug"], options, &["seen"]].concat();
            finish(bundle.runsc(&args), b"", LIMIT).expect("runsc debug")
        };
        let mut stacks = String::new();
        wait_for("it does not sleep", LIMIT, || {
            stacks = text(&debug(&["--stacks"]).stdout);
            stacks.starts_with("[1:1] sleep S cpu ")
        });
        let call = "waits in clock_nanosleep(CLOCK_REALTIME, 0, {sec=600, nsec=0}, ";
        assert!(stacks.contains(call) && stacks.contains(", rip 0x"), "on {platform}: {stacks}");
        assert!(text(&debug(&["--ps"]).stdout).contains(" sleep\n"), "on {platform}");
        // There is no log that a trace could go to, then one is named.
        let refused = debug(&["--strace", "all"]);
        assert_eq!(refused.status.code(), Some(1), "on {platform}");
        assert!(text(&refused.stderr).contains("no debug log"), "on {platform}: {}", text(&refused.stderr));
        let log = bundle.path().join("live");
        let named = ["--debug-log", log.to_str().unwrap_or_default(), "--strace", "write,nosuch"];
        let refused = debug(&named);
        assert!(text(&refused.stderr).contains("there is no system call \"nosuch\""), "on {platform}");
        let done = debug(&[named[0], named[1], named[2], "write", "--log-level", "debug"]);
        assert!(done.status.success(), "on {platform}: {}", text(&done.stderr));
        let exec = |word: &str| {
            let command = bundle.runsc(&["exec", "seen", "sh", "-c", &format!("echo {word}")]);
            assert_eq!(text(&finish(command, b"", LIMIT).expect("exec").stdout), format!("{word}\n"));
        };
        exec("first");
        wait_for("no trace", LIMIT, || read(&log).contains("sh X write(1, \"first\\n\", 6) = 6 ("));
        assert!(!read(&log).contains("openat"), "on {platform}");
        assert!(debug(&["--strace", "off"]).status.success(), "on {platform}");
        exec("second");
        assert!(!read(&log).contains("second"), "on {platform}");
        assert_eq!(debug(&[]).status.code(), Some(1), "on {platform}");
    }
}

#[test]
fn a_crash_shows_the_last_calls() {
    for platform in platforms() {
        let script = "cat /proc/version > /dev/null; sh -c 'kill -SEGV $$'; true";
        let (_, log) = traced(platform, &["--debug"], script);
        let (before, after) = log.split_once("the last system calls").unwrap_or_default();
        assert!(before.contains("ends by signal 11"), "on {platform}: {log}");
        let lines: Vec<&str> = after.lines().filter(|line| line.starts_with("D -")).collect();
        assert!(lines.len() >= 50 && lines.len() <= 100, "on {platform}: {}", lines.len());
        assert!(after.contains("] kill(") && after.contains(", SIGSEGV) = "), "on {platform}: {after}");
        assert!(lines.iter().any(|line| line.contains("openat(AT_FDCWD, 0x")), "on {platform}: {after}");
        // Without the option nothing is told.
        let (_, log) = traced(platform, &[], script);
        assert!(!log.contains("the last system calls"), "on {platform}: {log}");
    }
}

/// A program that is in one call for long without waiting: random bytes, 256 MiB of them.
const LONG: &str = "exec python3 -c '
import ctypes, mmap
m = mmap.mmap(-1, 1 << 28)
ctypes.CDLL(None).getrandom(ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(m))), ctypes.c_size_t(1 << 28), 0)
print(\"done\")'";

#[test]
fn the_watchdog_tells_of_a_task_that_is_stuck() {
    for platform in platforms() {
        let options = ["--cpus", "2", "--memory", "3g", "--watchdog-timeout", "50ms"];
        let (output, log) = traced(platform, &options, LONG);
        assert_eq!(text(&output.stdout), "done\n", "on {platform}: {}", text(&output.stderr));
        // A vCPU that the host holds back for so long is told of too.
        let told = |line: &str| line.starts_with("E watchdog: ") && line.contains("in getrandom(0x");
        assert!(log.lines().any(told), "on {platform}: {log}");
        assert!(log.contains("W the last system calls"), "on {platform}: {log}");
        let options = [&options[..], &["--watchdog-action", "panic"]].concat();
        let (output, log) = traced(platform, &options, LONG);
        assert_eq!(output.status.code(), Some(1), "on {platform}");
        assert!(text(&output.stderr).contains("watchdog: "), "on {platform}: {}", text(&output.stderr));
        // A panic of the sentry shows them too, as errors.
        assert!(log.contains("E the last system calls"), "on {platform}: {log}");
    }
}

fn table(format: &str) -> String {
    let output =
        Command::new(runsc()).args(["help", "syscalls", "--format", format]).output().expect("runsc");
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn the_table_of_system_calls_is_what_the_sentry_does() {
    let rows: Value = serde_json::from_str(&table("json")).expect("JSON");
    let rows = rows.as_array().expect("an array");
    let refused: Vec<(String, String)> = rows
        .iter()
        .filter(|row| row["support"] == "refused")
        .map(|row| (row["number"].to_string(), row["errno"].as_str().unwrap_or_default().to_string()))
        .collect();
    assert!(rows.len() > 350 && refused.len() > 20, "{} of {}", refused.len(), rows.len());
    assert_eq!(table("csv").lines().count(), rows.len() + 1);
    assert_eq!(table("table").lines().count(), rows.len() + 1);
    let root = tempfile::tempdir().expect("a directory");
    for dir in ["tmp", "proc", "dev", "sys"] {
        std::fs::create_dir(root.path().join(dir)).expect("a directory");
    }
    compile("syscall_probe", root.path());
    for platform in platforms() {
        let mut args: Vec<&str> = vec!["/syscall_probe"];
        args.extend(refused.iter().map(|(number, _)| number.as_str()));
        let output =
            Bundle::new(root.path(), &args).and_then(|b| b.run(platform, b"", LIMIT)).expect("a run");
        let expected: String = refused.iter().map(|(number, errno)| format!("{number} {errno}\n")).collect();
        assert_eq!(text(&output.stdout), expected, "on {platform}");
    }
}

#[test]
fn the_document_of_system_calls_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compatibility.md");
    let current = table("markdown");
    assert!(read(&path) == current, "runsc help syscalls --format markdown > docs/compatibility.md");
}

#[test]
fn help_is_there_for_every_command() {
    for (args, words) in [
        (&["help"][..], "Commands:"),
        (&["help", "update"], "--cpu-quota"),
        (&["help", "debug"], "--stacks"),
        (&["help", "debug", "save"], "--image-path"),
    ] {
        let output = Command::new(runsc()).args(args).output().expect("runsc");
        assert!(output.status.success() && text(&output.stdout).contains(words), "{args:?}");
    }
    assert_eq!(
        Command::new(runsc()).args(["help", "nosuch"]).output().expect("runsc").status.code(),
        Some(1)
    );
}

#[test]
fn the_doctor_tells_what_is_there_and_what_was_left() {
    let dir = tempfile::tempdir().expect("a directory");
    let doctor = |args: &[&str]| {
        let mut command = Command::new(runsc());
        command.arg("--root").arg(dir.path()).args(args);
        finish(command, b"", LIMIT).expect("runsc doctor")
    };
    let find = |output: &Output, name: &str| -> Value {
        let list: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        list.as_array().and_then(|list| list.iter().find(|f| f["name"] == name)).cloned().unwrap_or_default()
    };
    let sound = doctor(&["doctor", "--json"]);
    assert_eq!(sound.status.code(), Some(0), "{}", text(&sound.stdout));
    for name in ["kernel", "platform", "cgroups", "clock", "open files", "state directory", "containers"] {
        assert!(find(&sound, name)["status"].is_string(), "{name}");
    }
    assert_eq!(find(&sound, "containers")["status"], "PASS");
    // One that was killed while it was made.
    std::fs::create_dir(dir.path().join("left")).expect("a directory");
    let stale = find(&doctor(&["doctor", "--json"]), "containers");
    assert_eq!(stale["status"], "WARN");
    assert_eq!(stale["remedy"], "runsc delete --force left");
    let plain = text(&doctor(&["doctor"]).stdout);
    assert!(plain.contains("WARN containers") && plain.contains("fix: runsc delete --force left"), "{plain}");
    // A state directory that cannot be had.
    let file = dir.path().join("file");
    std::fs::write(&file, "").expect("a file");
    let failed = finish(
        {
            let mut command = Command::new(runsc());
            command.arg("--root").arg(&file).args(["doctor"]);
            command
        },
        b"",
        LIMIT,
    );
    let failed = failed.expect("runsc doctor");
    assert_eq!(failed.status.code(), Some(1));
    assert!(text(&failed.stdout).contains("FAIL state directory"), "{}", text(&failed.stdout));
}
