//! Programs that use up memory in every way: they are refused or killed; the sentry and the host are not harmed.

use runsc_tests::{Bundle, compile, finish, platforms};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);

/// Runs a mode of `tests/programs/exhaust.c` in a small sandbox: it ends with one of these exit codes, and says one of
/// these words where that is 0.
fn exhaust(mode: &str, codes: &[i32], words: &str) {
    let root = tempfile::tempdir().expect("a directory");
    for dir in ["tmp", "proc", "dev", "sys"] {
        std::fs::create_dir(root.path().join(dir)).expect("a directory");
    }
    compile("exhaust", root.path());
    for platform in platforms() {
        let bundle = Bundle::new(root.path(), &["/exhaust", mode]).expect("a bundle");
        let mut command = bundle.command(platform, mode).expect("a command");
        command.args(["--memory", "160M"]);
        let output = finish(command, b"", LIMIT).expect("a run");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let code = output.status.code().unwrap_or(-1);
        assert!(codes.contains(&code), "{mode} on {platform}: exit code {code}: {out}{err}");
        assert!(code != 0 || out.contains(words), "{mode} on {platform}: {out}{err}");
    }
}

#[test]
fn a_child_that_takes_all_memory_is_killed() {
    exhaust("memory", &[0], "the child was killed by 9");
}

#[test]
fn pipes_are_refused() {
    exhaust("pipes", &[0, 137], "refused");
}

#[test]
fn files_are_refused() {
    exhaust("files", &[0], "refused");
}

#[test]
fn space_is_refused() {
    exhaust("space", &[0], "refused: ENOSPC");
}

#[test]
fn tables_are_refused() {
    exhaust("tables", &[0], "areas refused: ENOMEM");
}

#[test]
fn a_child_that_takes_all_memory_for_page_tables_is_killed() {
    exhaust("sparse", &[0], "the child was killed by 9");
}

#[test]
fn processes_are_refused() {
    exhaust("processes", &[0, 137], "refused");
}

#[test]
fn signals_do_not_keep_the_dying_from_dying() {
    exhaust("alarms", &[0], " children were killed");
}

#[test]
fn sockets_in_flight_are_refused() {
    exhaust("flights", &[0], "refused, and ");
}

/// What a program has freed goes back to the host after a while.
#[test]
fn freed_memory_goes_back_to_the_host() {
    let script = "import mmap, time\nm = mmap.mmap(-1, 200 << 20)\nfor i in range(0, 200 << 20, 4096): m[i] = 1\nm.close()\ntime.sleep(3)\nprint('done')";
    for platform in platforms() {
        let bundle =
            Bundle::new(std::path::Path::new("/"), &["/usr/bin/python3", "-c", script]).expect("a bundle");
        let log = bundle.path().join("log");
        let mut command = bundle.command(platform, "back").expect("a command");
        command.arg("--debug").arg("--debug-log").arg(&log);
        let output = finish(command, b"", LIMIT).expect("a run");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "done\n", "on {platform}");
        let text = std::fs::read_to_string(&log).expect("the log");
        let back: u64 = text
            .lines()
            .filter_map(|line| {
                line.strip_prefix("D ")?.strip_suffix(" MiB went back to the host")?.parse::<u64>().ok()
            })
            .sum();
        assert!(back >= 150, "on {platform}: {back} MiB went back to the host\n{text}");
    }
}
