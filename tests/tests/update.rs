//! What a container may use: limits of config.json, `runsc update`, and what programs see of both. On each platform.

use runsc_tests::{Bundle, finish, platforms};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
/// What a program sees: CPUs by affinity, in /proc and in /sys; memory in MiB; limits of version 1 of control groups.
const SHOW: &str = "nproc; grep -c ^processor /proc/cpuinfo; cat /sys/devices/system/cpu/online; \
    free -m | awk '/Mem:/ {print $2}'; cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us \
    cpu/cpu.cfs_period_us cpu/cpu.shares pids/pids.max";

/// A detached container with these resources, under the name `name`; `None` where this host has no control groups of
/// version 1 that can be written.
fn detached(platform: &str, name: &str, resources: serde_json::Value) -> Bundle {
    let mut bundle = Bundle::new(Path::new("/"), &["/bin/sleep", "600"]).expect("a bundle");
    let config = bundle.config();
    config["linux"]["resources"] = resources;
    let group =
        json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]});
    config["mounts"].as_array_mut().expect("mounts").push(group);
    let mut command = bundle.command(platform, name).expect("a command");
    command.arg("--detach").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(command.status().expect("runsc").success(), "on {platform}");
    bundle
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn update(bundle: &Bundle, options: &[&str], name: &str, stdin: &[u8]) -> Output {
    let args: Vec<&str> = [&["update"], options, &[name]].concat();
    finish(bundle.runsc(&args), stdin, LIMIT).expect("runsc update")
}

fn inside(bundle: &Bundle, name: &str, script: &str) -> String {
    let output = finish(bundle.runsc(&["exec", name, "sh", "-c", script]), b"", LIMIT).expect("runsc exec");
    text(&output.stdout)
}

/// A file of the container's control group on the host.
fn host(controller: &str, name: &str, file: &str) -> String {
    let path = PathBuf::from("/sys/fs/cgroup").join(controller).join("runsc").join(name).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|e| format!("{}: {e}", path.display())).trim().to_string()
}

fn version_1() -> bool {
    let there = ["memory", "cpu", "pids", "cpuset"]
        .iter()
        .all(|name| Path::new("/sys/fs/cgroup").join(name).join("cgroup.procs").exists());
    if !there {
        eprintln!("not tested here: no control groups of version 1");
    }
    there
}

#[test]
fn limits_are_seen_changed_and_kept_when_an_update_fails() {
    if !version_1() {
        return;
    }
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get());
    for platform in platforms() {
        let name = &format!("limits-{platform}-{}", std::process::id());
        let bundle = detached(
            platform,
            name,
            json!({"memory": {"limit": 512 << 20}, "cpu": {"quota": 50_000, "period": 50_000}, "pids": {"limit": 20}}),
        );
        let show = || inside(&bundle, name, SHOW);
        assert_eq!(show(), "1\n1\n0\n512\n536870912\n50000\n50000\n1024\n20\n", "on {platform}");

        let options =
            ["--memory", "1g", "--cpu-quota", "200000", "--cpu-period", "100000", "--cpu-share", "512"];
        let done = update(&bundle, &options, name, b"");
        assert!(done.status.success(), "on {platform}: {}", text(&done.stderr));
        let n = cpus.min(2);
        let list = if n == 1 { "0" } else { "0-1" };
        let expected = format!("{n}\n{n}\n{list}\n1024\n1073741824\n200000\n100000\n512\n20\n");
        assert_eq!(show(), expected, "on {platform}");
        assert_eq!(host("memory", name, "memory.limit_in_bytes"), "1073741824");
        assert_eq!(host("cpu", name, "cpu.cfs_quota_us"), "200000");

        // One value that the kernel refuses: nothing changes, on neither side.
        let failed =
            update(&bundle, &["--memory", "256m", "--cpu-period", "5", "--cpu-share", "99"], name, b"");
        assert_eq!(failed.status.code(), Some(1), "on {platform}");
        let words = "cpu.cfs_period_us: invalid argument";
        assert!(text(&failed.stderr).contains(words), "on {platform}: {}", text(&failed.stderr));
        assert!(text(&failed.stderr).contains("failed to write \"5\": write /sys/fs/cgroup/cpu/"));
        assert_eq!(show(), expected, "on {platform}");
        assert_eq!(host("memory", name, "memory.limit_in_bytes"), "1073741824");
        assert_eq!(host("cpu", name, "cpu.shares"), "512");

        // A cpuset, for which there was no group: every process of the sandbox enters it.
        let done = update(&bundle, &["--memory", "256m", "--cpuset-cpus", "0"], name, b"");
        assert!(done.status.success(), "on {platform}: {}", text(&done.stderr));
        assert!(show().starts_with("1\n1\n0\n256\n268435456\n"), "on {platform}: {}", show());
        let (set, whole) = (host("cpuset", name, "cgroup.procs"), host("memory", name, "cgroup.procs"));
        assert!(!set.is_empty());
        assert_eq!(set.lines().count(), whole.lines().count(), "on {platform}");

        let json = br#"{"memory": {"limit": -1}, "cpu": {"quota": -1, "cpus": ""}, "pids": {"limit": 9}}"#;
        let done = update(&bundle, &["--resources=-"], name, json);
        assert!(done.status.success(), "on {platform}: {}", text(&done.stderr));
        assert!(show().ends_with("9223372036854771712\n-1\n100000\n512\n9\n"), "on {platform}: {}", show());
    }
}

#[test]
fn the_container_keeps_to_its_memory_and_tasks() {
    for platform in platforms() {
        let name = &format!("keeps-{platform}-{}", std::process::id());
        let bundle = detached(platform, name, json!({"pids": {"limit": 12}}));
        // The shell itself and `sleep` are two.
        let forks = "n=0; while sleep 30 & do n=$((n+1)); done 2>/dev/null; echo never";
        let out = inside(
            &bundle,
            name,
            &format!("({forks}); set -- /proc/[0-9]*; echo $#; exec pkill -f '^sleep 30'"),
        );
        let tasks: u32 = out.lines().next().and_then(|n| n.parse().ok()).unwrap_or(0);
        assert!((8..=13).contains(&tasks), "on {platform}: {out}");
        // Memory: `tail` of an endless line keeps all of it.
        // The killed ones may still count for a moment.
        let done = update(&bundle, &["--memory", "192m", "--pids-limit", "-1"], name, b"");
        assert!(done.status.success(), "on {platform}: {}", text(&done.stderr));
        let out = inside(&bundle, name, "tail /dev/zero >/dev/null; echo $?");
        assert_eq!(out, "137\n", "on {platform}");
    }
}

#[test]
fn version_2_can_be_mounted() {
    for platform in platforms() {
        let script = "mkdir /tmp/g; mount -t cgroup2 none /tmp/g && cat /tmp/g/cpu.max /tmp/g/cpu.weight /tmp/g/memory.max \
            /tmp/g/pids.max /tmp/g/cpuset.cpus.effective; stat -fc %T /tmp/g; cat /proc/self/cgroup; \
            mkdir /tmp/v; mount -t cgroup -o pids none /tmp/v; cat /tmp/v/pids.max; ls /tmp/v | grep -c memory; \
            mount -t cgroup -o nosuch none /tmp/v || echo refused";
        let mut bundle = Bundle::new(Path::new("/"), &["/bin/sh", "-c", script]).expect("a bundle");
        bundle.config()["linux"]["resources"] = json!({"cpu": {"quota": 10_000, "shares": 2}, "memory": {"limit": 256 << 20}, "pids": {"limit": 33}});
        let output = bundle.run(platform, b"", LIMIT).expect("a run");
        let expected = "10000 100000\n1\n268435456\n33\n0\ncgroup2fs\n0::/\n33\n0\nrefused\n";
        assert_eq!(text(&output.stdout), expected, "on {platform}: {}", text(&output.stderr));
    }
}

#[test]
fn wrong_uses_are_refused_with_the_words_of_runc() {
    let platform = &platforms()[0];
    let name = &format!("wrong-{}", std::process::id());
    let bundle = detached(platform, name, json!({}));
    for (options, words) in [
        (&["--memory", "abc"][..], "invalid value for memory: invalid size: 'abc'"),
        (&["--memory-swap", "1x"], "invalid value for memory-swap: invalid size: '1x'"),
        (&["--cpu-period", "x"], "invalid value for cpu-period"),
        (&["--resources", "/nosuch"], "open /nosuch: No such file or directory"),
    ] {
        let failed = update(&bundle, options, name, b"");
        assert_eq!(failed.status.code(), Some(1), "{options:?}");
        assert!(text(&failed.stderr).contains(words), "{options:?}: {}", text(&failed.stderr));
    }
    assert_eq!(update(&bundle, &["-r", "-"], name, b"{bad").status.code(), Some(1));
    let failed = update(&bundle, &["--memory", "1g"], "nosuch", b"");
    assert_eq!(
        (failed.status.code(), text(&failed.stderr).as_str()),
        (Some(1), "runsc: container does not exist\n")
    );
    assert!(update(&bundle, &[], name, b"").status.success());
    let kill = finish(bundle.runsc(&["kill", name, "KILL"]), b"", LIMIT).expect("runsc kill");
    assert!(kill.status.success());
    let start = std::time::Instant::now();
    loop {
        let failed = update(&bundle, &["--memory", "1g"], name, b"");
        if text(&failed.stderr) == "runsc: container not running\n" {
            break;
        }
        assert!(start.elapsed() < LIMIT, "{}", text(&failed.stderr));
    }
}
