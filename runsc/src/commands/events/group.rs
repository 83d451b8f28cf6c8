//! Memory that runs out in a control group of the host: the kernel kills a process of the sandbox then.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::poll::PollFlags;
use nix::sys::eventfd::{EfdFlags, EventFd};
use oci::cgroup::Leaf;

/// How long a kill that was told may take to be counted: steps, and the length of one.
const LATEST: usize = 200;
const STEP: Duration = Duration::from_millis(5);

enum Source {
    /// Version 1: an eventfd that the kernel counts up, and the file that it was told of.
    Counter(EventFd, #[expect(dead_code, reason = "kept open for the kernel")] File),
    /// Version 2: a file that is polled.
    File(File),
}

/// The group that a sandbox's memory is counted in.
pub struct MemoryGroup {
    source: Source,
    counts: PathBuf,
    seen: u64,
}

impl MemoryGroup {
    /// Asks the kernel to tell of processes that it kills in one of these groups; `None` where none is for memory.
    pub fn watch(groups: &[Leaf]) -> Option<Self> {
        let leaf = groups.iter().find(|leaf| matches!(leaf.controller.as_str(), "memory" | ""))?;
        let (source, counts) = if leaf.controller.is_empty() {
            let path = leaf.dir.join("memory.events");
            (Source::File(File::open(&path).ok()?), path)
        } else {
            let path = leaf.dir.join("memory.oom_control");
            let file = File::open(&path).ok()?;
            let counter = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).ok()?;
            let line = format!("{} {}", counter.as_fd().as_raw_fd(), file.as_raw_fd());
            fs::write(leaf.dir.join("cgroup.event_control"), line).ok()?;
            (Source::Counter(counter, file), path)
        };
        let seen = kills(&counts).unwrap_or(0);
        Some(Self { source, counts, seen })
    }

    /// What to poll for.
    pub fn events(&self) -> (BorrowedFd<'_>, PollFlags) {
        match &self.source {
            Source::Counter(counter, _) => (counter.as_fd(), PollFlags::POLLIN),
            Source::File(file) => (file.as_fd(), PollFlags::POLLPRI),
        }
    }

    /// Processes that were killed since this was last asked. The removal of the group is told like a kill, but counts none.
    pub fn kills(&mut self) -> u64 {
        // Version 1 tells before it kills, and counts afterwards.
        let told = matches!(&self.source, Source::Counter(counter, _) if counter.read().is_ok());
        for _ in 0..if told { LATEST } else { 1 } {
            let Some(now) = kills(&self.counts) else { return 0 };
            if now != self.seen {
                return now - std::mem::replace(&mut self.seen, now);
            }
            if told {
                std::thread::sleep(STEP);
            }
        }
        0
    }
}

/// The count of a file of lines `name number`.
fn kills(path: &Path) -> Option<u64> {
    super::stats::field(&fs::read_to_string(path).ok()?, "oom_kill")
}
