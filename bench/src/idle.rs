//! Memory of idle containers: by how much MemAvailable of the machine falls.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Failure;
use crate::place::Place;
use crate::session::{finish, sweep};
use crate::work::{Root, Work};

/// Containers that are started.
const COUNT: usize = 16;
const LIMIT: Duration = Duration::from_secs(20);
/// After the last has started, for what is freed late.
const SETTLE: Duration = Duration::from_secs(4);

/// MiB by container and place; `None` where containers could not be started.
pub fn measure(work: &Work, places: &[Place]) -> Result<Vec<Option<f64>>, Failure> {
    let bundle = work.bundle("idle", Root::Small, &["/data/program", "sleep"])?;
    let mut all = Vec::new();
    for place in places {
        all.push(match place.control(work) {
            Some(_) => one(work, place, &bundle)?,
            None => None,
        });
    }
    Ok(all)
}

fn one(work: &Work, place: &Place, bundle: &std::path::Path) -> Result<Option<f64>, Failure> {
    let run = |args: &[&str]| -> Result<bool, Failure> {
        let Some(mut command) = place.control(work) else { return Ok(false) };
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(quiet(command))
    };
    let bundle = bundle.to_string_lossy();
    let id = |index: usize| format!("idle-{index}");
    // The first one fills caches and stays.
    let mut fine = run(&["run", "--detach", "--bundle", &bundle, &id(0)])?;
    std::thread::sleep(SETTLE);
    let before = available()?;
    for index in 1..=COUNT {
        fine = fine && run(&["run", "--detach", "--bundle", &bundle, &id(index)])?;
    }
    std::thread::sleep(SETTLE);
    let after = available()?;
    for index in 0..=COUNT {
        run(&["kill", &id(index), "KILL"])?;
        run(&["delete", "--force", &id(index)])?;
    }
    if !fine {
        eprintln!("bench: idle containers could not be started in {}", place.name);
        sweep(&place.state(work)?);
        return Ok(None);
    }
    Ok(Some((before - after) / COUNT as f64 / 1024.0))
}

fn quiet(mut command: Command) -> bool {
    command.spawn().and_then(|mut child| finish(&mut child, LIMIT)).unwrap_or(false)
}

/// MemAvailable of proc(5), KiB.
fn available() -> Result<f64, Failure> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap_or_default();
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
