//! The files of control groups that limits are written to, and writing them all or none.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use abi::resources::{DEFAULT_PERIOD, shares_to_weight};

use super::Leaf;
use crate::Error;
use crate::limits::Limits;

/// What the host may have beyond the container's tasks: threads of the sandbox process, and helpers.
const HOST_TASKS: i64 = 128;
/// CPUs that a task may have a process of the host on, under systrap.
const MAX_CPUS: i64 = abi::boot::MAX_CPUS as i64;

/// A value for a file.
struct Setting {
    file: &'static str,
    value: String,
    /// Not every kernel has the file: a warning where it is missing.
    optional: bool,
}

fn must(file: &'static str, value: impl ToString) -> Setting {
    Setting { file, value: value.to_string(), optional: false }
}

fn may(file: &'static str, value: impl ToString) -> Setting {
    Setting { file, value: value.to_string(), optional: true }
}

fn max(value: i64) -> String {
    if value < 0 { "max".into() } else { value.to_string() }
}

/// Limit of tasks on the host for `limit` tasks in the container. The host sees other tasks than the container has: a
/// few threads of the sandbox process (kvm), or a process for each address space on each CPU (systrap). The sentry
/// keeps to the limit itself.
fn host_tasks(limit: i64) -> String {
    let cpus = std::thread::available_parallelism().map_or(MAX_CPUS, |n| (n.get() as i64).min(MAX_CPUS));
    if limit <= 0 { "max".into() } else { limit.saturating_mul(cpus).saturating_add(HOST_TASKS).to_string() }
}

/// Names of the controllers of version 1 that the limits need.
pub fn controllers(limits: &Limits) -> Vec<&'static str> {
    let mut names = vec!["memory", "cpu", "pids"];
    if limits.cpus.is_some() || limits.mems.is_some() {
        names.push("cpuset");
    }
    if limits.blkio_weight.is_some() {
        names.push("blkio");
    }
    names
}

fn memory_v1(dir: &Path, limits: &Limits) -> Vec<Setting> {
    let mut swap = limits.swap;
    // No limit of memory is none of both together either.
    if limits.memory == Some(-1) && swap.is_none() && dir.join("memory.memsw.limit_in_bytes").exists() {
        swap = Some(-1);
    }
    let memory = limits.memory.map(|n| must("memory.limit_in_bytes", n));
    let both = swap.map(|n| may("memory.memsw.limit_in_bytes", n));
    // The limit of both is never less than that of memory, at no moment.
    let now = fs::read_to_string(dir.join("memory.limit_in_bytes")).unwrap_or_default();
    let now: i64 = now.trim().parse().unwrap_or(i64::MAX);
    let raised = swap.is_some_and(|n| n < 0 || n > now);
    let (first, second) = if raised { (both, memory) } else { (memory, both) };
    let soft = limits.reservation.map(|n| must("memory.soft_limit_in_bytes", n));
    [first, second, soft].into_iter().flatten().collect()
}

fn cpu_v1(limits: &Limits) -> Vec<Setting> {
    let mut list = Vec::new();
    list.extend(limits.shares.map(|n| must("cpu.shares", n)));
    list.extend(limits.realtime_period.map(|n| may("cpu.rt_period_us", n)));
    list.extend(limits.realtime_runtime.map(|n| may("cpu.rt_runtime_us", n)));
    // No quota is in the way of another period or burst.
    if limits.quota.is_some() || limits.period.is_some() || limits.burst.is_some() {
        list.push(must("cpu.cfs_quota_us", -1));
        list.extend(limits.period.map(|n| must("cpu.cfs_period_us", n)));
        if let Some(quota) = limits.quota {
            if limits.burst.is_some() {
                list.push(may("cpu.cfs_burst_us", 0));
            }
            list.push(must("cpu.cfs_quota_us", quota.max(-1)));
        }
        list.extend(limits.burst.map(|n| may("cpu.cfs_burst_us", n)));
    }
    list.extend(limits.idle.map(|n| may("cpu.idle", n)));
    list
}

fn cpuset(limits: &Limits) -> Vec<Setting> {
    let cpus = limits.cpus.as_ref().map(|list| must("cpuset.cpus", list));
    let mems = limits.mems.as_ref().map(|list| must("cpuset.mems", list));
    cpus.into_iter().chain(mems).collect()
}

fn version_2(limits: &Limits) -> Vec<Setting> {
    let mut list = Vec::new();
    list.extend(limits.memory.map(|n| must("memory.max", max(n))));
    list.extend(limits.reservation.map(|n| must("memory.low", max(n))));
    // Swap alone: the difference. Without a limit of memory there is none to subtract.
    let swap = limits.swap.map(|n| if n < 0 { n } else { n - limits.memory.unwrap_or(0).clamp(0, n) });
    list.extend(swap.map(|n| may("memory.swap.max", max(n))));
    list.extend(limits.shares.map(|n| must("cpu.weight", shares_to_weight(n))));
    if limits.quota.is_some() || limits.period.is_some() {
        let quota = limits.quota.map_or_else(|| "max".into(), max);
        list.push(must("cpu.max", format!("{quota} {}", limits.period.unwrap_or(DEFAULT_PERIOD))));
    }
    list.extend(limits.burst.map(|n| may("cpu.max.burst", n)));
    list.extend(limits.idle.map(|n| may("cpu.idle", n)));
    list.extend(cpuset(limits));
    list.extend(limits.pids.map(|n| must("pids.max", host_tasks(n))));
    // 10 to 1000 on the range 1 to 10,000.
    let weight = limits.blkio_weight.map(|n| 1 + (u64::from(n).clamp(10, 1000) - 10) * 9999 / 990);
    list.extend(weight.map(|n| may("io.weight", n)));
    list
}

fn settings(leaf: &Leaf, limits: &Limits) -> Vec<Setting> {
    match leaf.controller.as_str() {
        "memory" => memory_v1(&leaf.dir, limits),
        "cpu" => cpu_v1(limits),
        "cpuset" => cpuset(limits),
        "pids" => limits.pids.map(|n| must("pids.max", host_tasks(n))).into_iter().collect(),
        "blkio" => {
            let bfq = leaf.dir.join("blkio.bfq.weight").exists();
            let file = if bfq { "blkio.bfq.weight" } else { "blkio.weight" };
            limits.blkio_weight.map(|n| may(file, n)).into_iter().collect()
        }
        "" => version_2(limits),
        _ => Vec::new(),
    }
}

/// Values that files had before, to be written back.
#[derive(Default)]
pub struct Undo(Vec<(PathBuf, String)>);

impl Undo {
    /// Writes the old values back, the last first. What cannot be is left: a kernel that took a value takes it again,
    /// unless what is used has grown meanwhile.
    pub fn back(self) {
        for (path, value) in self.0.into_iter().rev() {
            let _ = fs::write(path, value);
        }
    }
}

fn write(path: PathBuf, value: &str, undo: &mut Undo) -> Result<(), (PathBuf, io::Error)> {
    let old = fs::read_to_string(&path).map(|text| text.trim().to_string());
    match fs::write(&path, value) {
        Ok(()) => {
            if let Ok(old) = old {
                undo.0.push((path, old));
            }
            Ok(())
        }
        Err(e) => Err((path, e)),
    }
}

/// Writes the limits to the groups. Returns how to take that back, with warnings of what this kernel does not have.
///
/// # Errors
/// [`Error::Limit`] for a value that the kernel refuses; everything is as it was then.
pub fn set(leaves: &[Leaf], limits: &Limits) -> Result<(Undo, Vec<String>), Error> {
    let mut undo = Undo::default();
    let mut warnings = Vec::new();
    for leaf in leaves {
        let mut values: Vec<(String, String, bool)> = settings(leaf, limits)
            .into_iter()
            .map(|setting| (setting.file.to_string(), setting.value, setting.optional))
            .collect();
        if leaf.controller.is_empty() {
            values.extend(limits.unified.iter().map(|(file, value)| (file.clone(), value.clone(), false)));
        }
        for (file, value, optional) in values {
            match write(leaf.dir.join(&file), &value, &mut undo) {
                Ok(()) => {}
                Err((path, e))
                    if optional
                        && matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) =>
                {
                    warnings.push(format!("{} is not there: its value has no effect", path.display()));
                }
                Err((path, source)) => {
                    undo.back();
                    return Err(Error::Limit { value, path, source });
                }
            }
        }
    }
    Ok((undo, warnings))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(controller: &str, files: &[(&str, &str)]) -> (tempfile::TempDir, Leaf) {
        let dir = tempfile::tempdir().expect("a directory");
        for (file, value) in files {
            fs::write(dir.path().join(file), value).expect("a file");
        }
        let leaf = Leaf { controller: controller.into(), dir: dir.path().to_path_buf() };
        (dir, leaf)
    }

    #[test]
    fn what_fails_leaves_nothing_changed() {
        let (dir, cpu) = group("cpu", &[("cpu.shares", "1024\n"), ("cpu.cfs_quota_us", "-1\n")]);
        // The period cannot be written: it is a directory.
        fs::create_dir(dir.path().join("cpu.cfs_period_us")).expect("a directory");
        let limits = Limits { shares: Some(7), quota: Some(5000), period: Some(10_000), ..Limits::default() };
        let error = set(&[cpu], &limits).err().expect("an error").to_string();
        assert!(error.starts_with("failed to write \"10000\": write "), "{error}");
        let read = |file: &str| fs::read_to_string(dir.path().join(file)).expect("a file");
        assert_eq!((read("cpu.shares").as_str(), read("cpu.cfs_quota_us").as_str()), ("1024", "-1"));
    }

    #[test]
    fn version_2_has_its_own_words() {
        let (dir, leaf) = group("", &[]);
        let limits = Limits {
            memory: Some(1 << 20),
            swap: Some(3 << 20),
            quota: Some(-1),
            shares: Some(1024),
            pids: Some(-1),
            idle: Some(1),
            blkio_weight: Some(1000),
            unified: [("memory.high".to_string(), "5".to_string())].into(),
            ..Limits::default()
        };
        set(&[leaf], &limits).map(drop).expect("to be set");
        let read = |file: &str| fs::read_to_string(dir.path().join(file)).unwrap_or_default();
        for (file, value) in [
            ("memory.max", "1048576"),
            ("memory.swap.max", "2097152"),
            ("cpu.max", "max 100000"),
            ("cpu.weight", "39"),
            ("pids.max", "max"),
            ("cpu.idle", "1"),
            ("io.weight", "10000"),
            ("memory.high", "5"),
        ] {
            assert_eq!(read(file), value, "{file}");
        }
    }

    #[test]
    fn memory_and_swap_are_raised_and_lowered_in_an_order_that_the_kernel_takes() {
        let (_dir, leaf) = group("memory", &[("memory.limit_in_bytes", "1000\n")]);
        let order = |memory, swap| -> Vec<&str> {
            let limits = Limits { memory: Some(memory), swap: Some(swap), ..Limits::default() };
            memory_v1(&leaf.dir, &limits).iter().map(|s| s.file).collect()
        };
        assert_eq!(order(2000, 3000), ["memory.memsw.limit_in_bytes", "memory.limit_in_bytes"]);
        assert_eq!(order(500, 800), ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]);
    }
}
