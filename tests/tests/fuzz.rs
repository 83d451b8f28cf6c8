//! System calls at random: `tests/programs/fuzz.c` in a small sandbox, on each platform. Whatever programs ask for, the
//! sandbox answers, ends when it is told to, keeps to its memory, and leaves nothing behind.
//!
//! `RUNSC_FUZZ_SECONDS` sets how long each run takes, `RUNSC_FUZZ_SEED` repeats one, `RUNSC_FUZZ_CPUS` sets the number of
//! vCPUs.

use runsc_tests::{Bundle, compile, finish, platforms};
use serde_json::json;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Memory of the container: the sandbox process and the programs.
const MEMORY: u64 = 256 << 20;
const LIMIT: Duration = Duration::from_secs(120);

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn root() -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a directory");
    for dir in ["tmp", "proc", "dev", "sys"] {
        std::fs::create_dir(root.path().join(dir)).expect("a directory");
    }
    compile("fuzz", root.path());
    root
}

fn bundle(root: &Path, args: &[&str]) -> Bundle {
    let mut bundle = Bundle::new(root, args).expect("a bundle");
    let config = bundle.config();
    config["linux"]["resources"] = json!({"memory": {"limit": MEMORY}, "pids": {"limit": 200}});
    // The program that watches the others stays when memory runs out.
    config["process"]["oomScoreAdj"] = json!(-1000);
    // For those who ask: the program itself may lose its rights to calls at random.
    let answer = json!({"destination": "/answer", "type": "bind", "source": root.join("fuzz"), "options": ["bind", "ro"]});
    let mounts = config["mounts"].as_array_mut().expect("mounts");
    mounts.push(answer);
    for mount in mounts {
        if mount["destination"] == "/tmp" {
            mount["options"] = json!(["mode=1777", "size=64m"]);
        }
    }
    bundle
}

/// What the log has that must not be there.
fn complaints(log: &Path) -> Vec<String> {
    let text = String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned();
    text.lines().filter(|l| l.starts_with("E ") || l.contains("panic")).map(str::to_string).collect()
}

/// A program that is started in the container answers: one of a few, as signals at random may meet one, and memory may be
/// short for a while. What the others said.
fn answers(bundle: &Bundle, name: &str) -> Result<(), Vec<String>> {
    let mut said = Vec::new();
    for _ in 0..20 {
        match finish(bundle.runsc(&["exec", name, "/answer", "ping"]), b"", LIMIT) {
            Ok(output) if output.stdout == b"here\n" => return Ok(()),
            Ok(output) => said.push(String::from_utf8_lossy(&output.stderr).into_owned()),
            Err(error) => return Err(vec![error.to_string()]),
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    Err(said)
}

/// The end of what the sandbox has printed: of the file that is its output the programs may make as long as they like.
fn printed(bundle: &Bundle) -> String {
    const MOST: u64 = 64 << 10;
    let mut file = std::fs::File::open(bundle.path().join("out")).expect("the output");
    let length = file.metadata().expect("the output").len();
    file.seek(SeekFrom::Start(length.saturating_sub(MOST))).expect("the output");
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes).expect("the output");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Processes of this machine that name the bundle's directory.
fn left(bundle: &Bundle) -> Vec<String> {
    let mark = bundle.path().to_string_lossy().into_owned();
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let lines = processes.filter_map(|p| std::fs::read(p.path().join("cmdline")).ok());
    lines.map(|l| String::from_utf8_lossy(&l).replace('\0', " ")).filter(|l| l.contains(&mark)).collect()
}

struct Run {
    bundle: Bundle,
    name: String,
    child: Child,
    what: String,
}

fn start(root: &Path, platform: &str, seed: u64, seconds: u64) -> Run {
    let cpus = number("RUNSC_FUZZ_CPUS", 2).to_string();
    let what = format!("seed {seed} on {platform} with {cpus} vCPUs");
    eprintln!("{what}, {seconds} s");
    let bundle = bundle(root, &["/fuzz", &seed.to_string(), &seconds.to_string(), "8"]);
    let name = format!("fuzz-{platform}-{}-{seed}", std::process::id());
    let mut command = bundle.command(platform, &name).expect("a command");
    command.args(["--cpus", &cpus]).arg("--debug-log").arg(bundle.path().join("log"));
    let out =
        std::fs::File::options().create(true).append(true).open(bundle.path().join("out")).expect("a file");
    let err = out.try_clone().expect("a file");
    let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().expect("runsc");
    Run { bundle, name, child, what }
}

impl Run {
    /// After the end of the sandbox: nothing complained, nothing is left.
    fn check(&self) {
        let what = &self.what;
        assert_eq!(complaints(&self.bundle.path().join("log")), Vec::<String>::new(), "{what}");
        let list = finish(self.bundle.runsc(&["delete", "--force", &self.name]), b"", LIMIT).expect("delete");
        assert!(list.status.success(), "{what}");
        assert_eq!(left(&self.bundle), Vec::<String>::new(), "{what}");
        let states = std::fs::read_dir(self.bundle.path().join("state")).map_or(0, Iterator::count);
        assert_eq!(states, 0, "{what}: states are left");
        let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
        let mark = self.bundle.path().to_string_lossy().into_owned();
        assert!(!mounts.contains(&mark), "{what}: mounts are left: {mounts}");
        for controller in ["memory", "pids", "cpu"] {
            let group = Path::new("/sys/fs/cgroup").join(controller).join("runsc").join(&self.name);
            assert!(!group.exists(), "{what}: {} is left", group.display());
        }
    }
}

#[test]
fn system_calls_at_random_do_no_harm() {
    let root = root();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |t| t.as_secs() % 1_000_000);
    let (seed, seconds) = (number("RUNSC_FUZZ_SEED", now), number("RUNSC_FUZZ_SECONDS", 20));
    for platform in platforms() {
        let mut run = start(root.path(), platform, seed, seconds);
        let what = run.what.clone();
        std::thread::sleep(Duration::from_secs(seconds / 2));
        if let Err(said) = answers(&run.bundle, &run.name) {
            let ended = run.child.try_wait().expect("wait");
            let out = printed(&run.bundle);
            let complaints = complaints(&run.bundle.path().join("log"));
            panic!("{what}: no answer: {said:?}, ended: {ended:?}, it printed {out:?}\n{complaints:?}");
        }
        let peak = Path::new("/sys/fs/cgroup/memory/runsc").join(&run.name).join("memory.max_usage_in_bytes");
        if let Ok(text) = std::fs::read_to_string(&peak) {
            let peak: u64 = text.trim().parse().expect("a number");
            assert!(peak <= MEMORY, "{what}: {peak} bytes");
        }
        let (mut waited, step) = (Duration::ZERO, Duration::from_millis(100));
        let status = loop {
            if let Some(status) = run.child.try_wait().expect("wait") {
                break status;
            }
            assert!(waited < Duration::from_secs(seconds) + LIMIT, "{what}: does not end");
            std::thread::sleep(step);
            waited += step;
        };
        let out = printed(&run.bundle);
        assert!(status.success() && out.contains(" calls of "), "{what}: {status}: {out}");
        run.check();
    }
}

/// In the middle of it all, KILL ends the sandbox.
#[test]
fn kill_ends_a_sandbox_under_fire() {
    let root = root();
    for platform in platforms() {
        let mut run = start(root.path(), platform, 7, 600);
        std::thread::sleep(Duration::from_secs(4));
        let what = run.what.clone();
        assert!(run.child.try_wait().expect("wait").is_none(), "{what}: ended by itself");
        let killed = finish(run.bundle.runsc(&["kill", &run.name, "KILL"]), b"", LIMIT).expect("kill");
        assert!(killed.status.success(), "{what}");
        let (mut waited, step) = (Duration::ZERO, Duration::from_millis(50));
        while run.child.try_wait().expect("wait").is_none() {
            assert!(waited < LIMIT, "{what}: not ended by KILL");
            std::thread::sleep(step);
            waited += step;
        }
        run.check();
    }
}
