//! What the tests of the command line share: a state directory of their own, bundles, tiny programs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Address that the programs are loaded at.
const BASE: u64 = 0x40_0000;
/// exit(3)
pub const EXIT: &[u8] = &[0xb8, 60, 0, 0, 0, 0xbf, 3, 0, 0, 0, 0x0f, 0x05];
/// for (;;) pause()
pub const WAIT: &[u8] = &[0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7];

/// Bytes of the ELF header and one program header.
const HEADERS: usize = 64 + 56;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A bundle and a state directory that vanish with the value.
pub struct Place {
    dir: PathBuf,
}

impl Place {
    /// A bundle with an empty root file system.
    pub fn new() -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("runsc-cli-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("bundle/rootfs/bin")).expect("mkdir");
        Self { dir }
    }

    /// A name that no other place has, for what is not in its directory.
    pub fn name(&self) -> String {
        self.dir.file_name().expect("a name").to_string_lossy().into_owned()
    }

    /// The bundle.
    pub fn bundle(&self) -> PathBuf {
        self.dir.join("bundle")
    }

    /// Directory of container states.
    pub fn root(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Writes config.json: what `runsc spec` gives for `args`, changed by `change`.
    pub fn configure(&self, args: &[&str], change: impl FnOnce(&mut serde_json::Value)) {
        let mut all = vec!["spec", "--"];
        all.extend(args);
        assert!(self.runsc(&all).status.success());
        let path = self.bundle().join("config.json");
        let mut config = serde_json::from_str(&fs::read_to_string(&path).expect("read")).expect("JSON");
        change(&mut config);
        fs::write(path, config.to_string()).expect("write");
    }

    /// Puts a program into the root file system.
    pub fn program(&self, name: &str, code: &[u8]) {
        let path = self.bundle().join("rootfs/bin").join(name);
        fs::write(&path, elf(code)).expect("write");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
    }

    /// The command with these arguments, in the bundle.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runsc"));
        command.arg("--root").arg(self.root()).args(args).current_dir(self.bundle()).stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub fn runsc(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("spawn")
    }

    /// Runs it, and expects exit code 1 and a message that contains `text`.
    pub fn fails(&self, args: &[&str], text: &str) {
        let output = self.runsc(args);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {message}");
        assert!(message.contains(text), "{args:?}: {message:?} does not contain {text:?}");
    }

    /// Whether no container is left.
    pub fn empty(&self) -> bool {
        fs::read_dir(self.root()).map_or(true, |mut entries| entries.next().is_none())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let ids = fs::read_dir(self.root()).into_iter().flatten().flatten();
        for id in ids {
            self.runsc(&["delete", "--force", &id.file_name().to_string_lossy()]);
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// An executable of one segment whose entry is its first instruction.
pub fn elf(code: &[u8]) -> Vec<u8> {
    let len = (HEADERS + code.len()) as u64;
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let half = |file: &mut Vec<u8>, n: u16| file.extend(n.to_le_bytes());
    let word = |file: &mut Vec<u8>, n: u32| file.extend(n.to_le_bytes());
    let quad = |file: &mut Vec<u8>, n: u64| file.extend(n.to_le_bytes());
    half(&mut file, 2); // executable
    half(&mut file, 62); // x86-64
    word(&mut file, 1);
    quad(&mut file, BASE + HEADERS as u64);
    quad(&mut file, 64);
    quad(&mut file, 0);
    word(&mut file, 0);
    for n in [64, 56, 1, 0, 0, 0] {
        half(&mut file, n);
    }
    word(&mut file, 1); // load
    word(&mut file, 5); // read, execute
    for n in [0, BASE, BASE, len, len, 0x1000] {
        quad(&mut file, n);
    }
    file.extend_from_slice(code);
    file
}

/// Platforms that `runsc platforms` calls usable here.
pub fn platforms() -> &'static [String] {
    static PLATFORMS: OnceLock<Vec<String>> = OnceLock::new();
    PLATFORMS.get_or_init(|| {
        let output = Command::new(env!("CARGO_BIN_EXE_runsc")).arg("platforms").output().expect("spawn");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let words = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let usable = words.filter(|words| words.get(1) == Some(&"usable:"));
        let usable: Vec<_> = usable.map(|words| words[0].to_string()).collect();
        assert!(!usable.is_empty(), "no platform is usable here:\n{text}");
        usable
    })
}
