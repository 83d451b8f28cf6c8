//! Sandboxes and commands that are killed at random moments of a container's life: `delete --force` leaves nothing.
//!
//! `RUNSC_TEST_ROUNDS` is how often each stage is gone through on each platform, `RUNSC_TEST_SEED` repeats the moments
//! of a run that failed, as far as the machine does.

use runsc_tests::{Bundle, finish, platforms, runsc};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

const LIMIT: Duration = Duration::from_secs(60);
/// Rounds of each stage where the environment names no other number.
const ROUNDS: u32 = 2;

/// A moment is chosen from this time where no command runs.
const QUIET: Duration = Duration::from_millis(20);

/// A moment of the life: what runs while it is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Run,
    Create,
    Created,
    Start,
    Running,
    Exec,
    Pause,
    Paused,
    Resume,
    Update,
    Kill,
    Delete,
}

const STAGES: [Stage; 12] = [
    Stage::Run,
    Stage::Create,
    Stage::Created,
    Stage::Start,
    Stage::Running,
    Stage::Exec,
    Stage::Pause,
    Stage::Paused,
    Stage::Resume,
    Stage::Update,
    Stage::Kill,
    Stage::Delete,
];

/// Random numbers (xorshift64*): from the seed on always the same.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % bound
    }
}

/// What a container may not leave behind, as found before it is made.
struct Before {
    processes: BTreeSet<u32>,
    shared: BTreeSet<String>,
}

impl Before {
    fn now() -> Self {
        Self { processes: processes(), shared: shared() }
    }
}

/// Processes of this test's `runsc`, sandboxes and their helpers among them. Zombies have no program.
fn processes() -> BTreeSet<u32> {
    let own = runsc().canonicalize().expect("runsc");
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == own)).collect()
}

/// Segments of System V shared memory, and what of this runtime is in the shared directories.
fn shared() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for dir in ["/tmp", "/run", "/dev/shm", "/var/tmp"] {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.path().to_string_lossy().into_owned());
        found.extend(names.filter(|name| name.contains("runsc") || name.contains("sentry")));
    }
    let segments = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    found
        .extend(segments.lines().filter_map(|line| Some(format!("shm {}", line.split_whitespace().nth(1)?))));
    found
}

/// Control groups of this name.
fn groups(name: &str) -> Vec<PathBuf> {
    let base = Path::new("/sys/fs/cgroup");
    let mut parents = vec![base.to_path_buf()];
    parents.extend(fs::read_dir(base).into_iter().flatten().flatten().map(|entry| entry.path()));
    parents.iter().map(|parent| parent.join(name)).filter(|path| path.exists()).collect()
}

/// A container on its way.
struct Life {
    bundle: Bundle,
    platform: &'static str,
    group: String,
    own_dirs: PathBuf,
}

const ID: &str = "killed";

impl Life {
    fn new(platform: &'static str, number: u32) -> Self {
        let mut bundle = Bundle::new(Path::new("/"), &["/bin/sleep", "600"]).expect("a bundle");
        let group = format!("runsc-kills-{}-{number}", std::process::id());
        bundle.config()["linux"]["cgroupsPath"] = json!(format!("/{group}"));
        bundle.config()["linux"]["resources"] = json!({"memory": {"limit": 512 << 20}});
        let own_dirs = bundle.path().join("own");
        for dir in ["tmp", "run"] {
            fs::create_dir_all(own_dirs.join(dir)).expect("a directory");
        }
        // It writes config.json.
        drop(bundle.launch(platform, &["create"]).expect("a bundle"));
        Self { bundle, platform, group, own_dirs }
    }

    /// A command on the container, with directories of its own for what is temporary.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.bundle.runsc(&[&["--platform", self.platform], args].concat());
        command.env("TMPDIR", self.own_dirs.join("tmp")).env("XDG_RUNTIME_DIR", self.own_dirs.join("run"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn make(&self, what: &str) -> Command {
        let mut command = self.command(&[what, "--bundle"]);
        command.arg(self.bundle.path()).arg(ID);
        command
    }

    fn must(&self, mut command: Command) {
        let status = command.status().expect("runsc");
        assert!(status.success(), "{command:?}: {status}");
    }

    /// The sandbox process, where there is one.
    fn sandbox(&self) -> Option<u32> {
        let state = finish(self.bundle.runsc(&["state", ID]), b"", LIMIT).expect("runsc");
        let state: Value = serde_json::from_slice(&state.stdout).ok()?;
        u32::try_from(state["pid"].as_u64()?).ok().filter(|pid| *pid != 0)
    }

    /// Brings the container to where `stage` begins, and gives the command that it is about.
    fn before(&self, stage: Stage, random: &mut Random) -> Option<Command> {
        if matches!(stage, Stage::Run | Stage::Create) {
            return Some(self.make(if stage == Stage::Run { "run" } else { "create" }));
        }
        self.must(self.make("create"));
        if !matches!(stage, Stage::Created | Stage::Start) {
            self.must(self.command(&["start", ID]));
        }
        if matches!(stage, Stage::Paused | Stage::Resume) {
            self.must(self.command(&["pause", ID]));
        }
        let signal = if random.below(2) == 0 { "TERM" } else { "KILL" };
        Some(match stage {
            Stage::Start => self.command(&["start", ID]),
            Stage::Exec if random.below(2) == 0 => self.command(&["exec", "--detach", ID, "sleep", "0.02"]),
            Stage::Exec => self.command(&["exec", ID, "sh", "-c", "echo x; sleep 0.02 & wait"]),
            Stage::Pause => self.command(&["pause", ID]),
            Stage::Resume => self.command(&["resume", ID]),
            Stage::Update => self.command(&["update", "--memory", "300M", "--cpuset-cpus", "0", ID]),
            Stage::Kill => self.command(&["kill", ID, signal]),
            Stage::Delete => self.command(&["delete", "--force", ID]),
            _ => return None,
        })
    }

    /// What is still there, but should not be.
    fn left(&self, before: &Before) -> Vec<String> {
        let mut left: Vec<String> = Vec::new();
        let new: Vec<_> = processes().difference(&before.processes).copied().collect();
        left.extend(new.iter().map(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            format!("process {pid}: {}", status.lines().take(9).collect::<Vec<_>>().join(", "))
        }));
        left.extend(shared().difference(&before.shared).cloned());
        left.extend(groups(&self.group).iter().map(|path| path.display().to_string()));
        let own = self.bundle.path().to_string_lossy().into_owned();
        for dir in [self.bundle.path().join("state"), self.own_dirs.join("tmp"), self.own_dirs.join("run")] {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            left.extend(entries.map(|entry| entry.path().display().to_string()));
        }
        for table in ["/proc/self/mountinfo", "/proc/net/unix"] {
            let table = fs::read_to_string(table).expect("a table of /proc");
            left.extend(table.lines().filter(|line| line.contains(&own)).map(String::from));
        }
        left
    }
}

fn kill(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // One that has ended is as good as killed.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// The children of a process.
fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Waits for a command whose sandbox is gone: it may not hang.
fn end(child: &mut Child, what: &str) {
    let start = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        assert!(start.elapsed() < LIMIT, "{what}: the command hangs");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Goes through `stage` once and kills at a moment of the first `span` of it. Returns a better span, where the moment
/// was too late.
fn round(life: &Life, stage: Stage, span: Duration, random: &mut Random) -> Option<Duration> {
    let what = format!("{stage:?} on {}", life.platform);
    let before = Before::now();
    let command = life.before(stage, random);
    let moment = Duration::from_micros(random.below(span.as_micros().max(1) as u64));
    let victim_is_command = random.below(2) == 0;
    let made = matches!(stage, Stage::Run | Stage::Create);
    let known = if made { None } else { life.sandbox() };
    let started = Instant::now();
    let mut child = command.map(|mut command| command.spawn().expect("runsc"));
    std::thread::sleep(moment);
    let mut whole = None;
    if let Some(child) = &mut child {
        if child.try_wait().expect("a child").is_some() {
            whole = Some(started.elapsed());
        }
        if victim_is_command {
            let _ = child.kill();
        } else {
            known.into_iter().chain(made.then(|| children(child.id())).into_iter().flatten()).for_each(kill);
            // Where there was no sandbox yet: the command goes on and would wait for its end.
            if stage == Stage::Run {
                let _ = child.kill();
            }
        }
        end(child, &what);
    } else {
        known.into_iter().for_each(kill);
        whole = Some(QUIET);
    }
    // Other commands bear with what is there.
    assert!(life.command(&["list"]).status().expect("runsc").success(), "{what}: list");
    let deleted = finish(life.command(&["delete", "--force", ID]), b"", LIMIT).expect("runsc");
    assert!(deleted.status.success(), "{what}: {}", String::from_utf8_lossy(&deleted.stderr));
    let start = Instant::now();
    loop {
        let left = life.left(&before);
        if left.is_empty() {
            return whole;
        }
        let target = if victim_is_command { "command" } else { "sandbox" };
        assert!(start.elapsed() < LIMIT / 6, "{what}, {target} killed after {moment:?}: {left:#?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn whatever_is_killed_nothing_is_left() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let clock = SystemTime::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_nanos() as u64);
    let seed = number("RUNSC_TEST_SEED").unwrap_or(clock) | 1;
    let rounds = number("RUNSC_TEST_ROUNDS").map_or(ROUNDS, |rounds| rounds as u32);
    println!("RUNSC_TEST_SEED={seed}");
    let mut random = Random(seed);
    let mut made = 0;
    for platform in platforms() {
        for stage in STAGES {
            // Becomes about what the stage takes.
            let mut span = Duration::from_millis(60);
            for _ in 0..rounds {
                made += 1;
                let life = Life::new(platform, made);
                match round(&life, stage, span, &mut random) {
                    Some(whole) => span = whole.max(Duration::from_millis(2)),
                    None => span = (span * 21 / 20).min(Duration::from_millis(500)),
                }
            }
        }
    }
}
