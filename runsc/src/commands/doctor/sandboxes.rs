//! The state directory and what lies in it.

use std::fs;

use nix::sys::statvfs::statvfs;
use oci::state::Status;

use super::Finding;
use crate::cli::Global;
use crate::sandbox::launch::store;

/// Space below which nothing can be kept, and below which it is short, bytes.
const LEAST: u64 = 1 << 20;
const SHORT: u64 = 64 << 20;

/// Free space of the state directory.
pub fn space(global: &Global) -> Finding {
    const NAME: &str = "state directory";
    let dir = match store(global) {
        Ok(store) => store.dir("."),
        Err(error) => {
            return Finding::fail(NAME, error.to_string(), "name one that can be written with --root DIR");
        }
    };
    match statvfs(&dir) {
        Ok(figures) => {
            let free = figures.blocks_available().saturating_mul(figures.fragment_size());
            let detail = format!(
                "{}: {} MiB free",
                dir.canonicalize().unwrap_or_else(|_| dir.clone()).display(),
                free >> 20
            );
            match free {
                free if free < LEAST => {
                    Finding::fail(NAME, detail, "free some, or name another with --root DIR")
                }
                free if free < SHORT => {
                    Finding::warn(NAME, detail, "free some, or name another with --root DIR")
                }
                _ => Finding::pass(NAME, detail),
            }
        }
        Err(e) => Finding::warn(NAME, format!("{}: {e}", dir.display()), "look at the file system"),
    }
}

/// Containers that nobody deleted.
pub fn stale(global: &Global) -> Finding {
    const NAME: &str = "containers";
    let Ok(store) = store(global) else {
        return Finding::warn(NAME, "the state directory cannot be read", "see above");
    };
    let (mut alive, mut stale) = (0, Vec::new());
    for entry in fs::read_dir(store.dir(".")).into_iter().flatten().flatten() {
        let id = entry.file_name().to_string_lossy().into_owned();
        match store.state(&id) {
            Ok(state) if state.status != Status::Stopped => alive += 1,
            // Stopped, or without a state that can be read: one that was killed while it was made.
            _ => stale.push(id),
        }
    }
    if stale.is_empty() {
        return Finding::pass(NAME, format!("{alive} alive, none left behind"));
    }
    stale.sort();
    let remedy = format!("runsc delete --force {}", stale[0]);
    Finding::warn(NAME, format!("{alive} alive; stopped and not deleted: {}", stale.join(", ")), remedy)
}
