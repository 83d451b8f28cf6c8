//! What a command leaves behind: processes, mounts, control groups and files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::Place;

/// Longest time that the kernel takes to clear processes away that were killed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Everything on this host that belongs to a place: a line for each.
pub fn listing(place: &Place) -> BTreeSet<String> {
    let dir = place.bundle().parent().expect("the bundle is in a directory").to_path_buf();
    let own = dir.to_string_lossy().into_owned();
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        // Every process of a sandbox has the command line of the command that made it, which names the state directory.
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if pid.parse::<u32>().is_ok() && line.contains(&format!("{own}/")) {
            found.insert(format!("process {pid} {line}"));
        }
    }
    let mounts = fs::read_to_string("/proc/self/mounts").expect("/proc/self/mounts");
    found.extend(mounts.lines().filter(|l| l.contains(&format!("{own}/"))).map(|l| format!("mount {l}")));
    let name = place.name();
    walk(Path::new("/sys/fs/cgroup"), 3, &mut |path| {
        if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&name)) {
            found.insert(format!("control group {}", path.display()));
        }
    });
    walk(&dir, 8, &mut |path| {
        found.insert(format!("file {}", path.display()));
    });
    for entry in fs::read_dir("/run").into_iter().flatten().flatten() {
        // The verdicts on platforms are kept; what they are written to first is not. Other tests write them too.
        let file = entry.file_name().to_string_lossy().into_owned();
        if file.starts_with("runsc") && !["runsc", "runsc-selftest", "runsc-systrap"].contains(&&*file) {
            found.insert(format!("file /run/{file}"));
        }
    }
    found
}

fn walk(dir: &Path, depth: u32, see: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        see(&entry.path());
        if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), depth - 1, see);
        }
    }
}

/// Fails unless what belongs to the place becomes what it was `before`, apart from the state directory itself.
pub fn nothing_but(before: &BTreeSet<String>, place: &Place, what: &str) {
    let root = format!("file {}", place.root().display());
    let begin = Instant::now();
    loop {
        let mut now = listing(place);
        now.remove(&root);
        let left: Vec<_> = now.difference(before).collect();
        if left.is_empty() {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "{what} left behind: {left:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
