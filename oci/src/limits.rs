//! What a container may use: from config.json and `runsc update`, for the control groups and for the sentry.

use std::collections::BTreeMap;

use abi::resources::{DEFAULT_PERIOD, Resources};
use oci_spec::runtime::{Linux, LinuxResources};
use serde::{Deserialize, Serialize};

/// Limits that are set; what is not leaves the host's default. As in config.json a negative number means no limit; a
/// number that is 0 there counts as not set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Limits {
    /// Memory, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<i64>,
    /// Soft limit of memory, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation: Option<i64>,
    /// Memory and swap together, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<i64>,
    /// CPU shares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shares: Option<u64>,
    /// CPU time in each period, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<i64>,
    /// The period, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<u64>,
    /// Quota that may be carried over, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// 1: runs only when nothing else does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<i64>,
    /// CPU time of realtime tasks in each period, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realtime_runtime: Option<i64>,
    /// Their period, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realtime_period: Option<u64>,
    /// CPUs, as a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<String>,
    /// Memory nodes, as a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mems: Option<String>,
    /// Tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<i64>,
    /// Weight of block input and output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blkio_weight: Option<u16>,
    /// Files of version 2 by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unified: BTreeMap<String, String>,
}

/// Value of `idle` for a group that runs only when nothing else does.
const IDLE: i64 = 1;

impl Limits {
    /// The limits of config.json.
    pub fn of(linux: Option<&Linux>) -> Self {
        linux.and_then(|linux| linux.resources().as_ref()).map(Self::new).unwrap_or_default()
    }

    /// The limits of `linux.resources` in config.json, or of the JSON that `update` reads.
    pub fn new(resources: &LinuxResources) -> Self {
        let mut limits = Self::default();
        if let Some(memory) = resources.memory() {
            limits.memory = memory.limit().filter(|n| *n != 0);
            limits.reservation = memory.reservation().filter(|n| *n != 0);
            limits.swap = memory.swap().filter(|n| *n != 0);
        }
        if let Some(cpu) = resources.cpu() {
            let text = |value: &Option<String>| value.clone().filter(|text| !text.is_empty());
            limits.shares = cpu.shares().filter(|n| *n != 0);
            limits.quota = cpu.quota().filter(|n| *n != 0);
            limits.period = cpu.period().filter(|n| *n != 0);
            limits.burst = cpu.burst();
            limits.idle = cpu.idle();
            limits.realtime_runtime = cpu.realtime_runtime().filter(|n| *n != 0);
            limits.realtime_period = cpu.realtime_period().filter(|n| *n != 0);
            limits.cpus = text(cpu.cpus());
            limits.mems = text(cpu.mems());
        }
        limits.pids = resources.pids().as_ref().map(|pids| pids.limit()).filter(|n| *n != 0);
        limits.blkio_weight = resources.block_io().as_ref().and_then(|io| io.weight()).filter(|n| *n != 0);
        // A name with a slash would leave the group's directory.
        let unified = resources.unified().iter().flatten().filter(|(file, _)| !file.contains('/'));
        limits.unified = unified.map(|(file, value)| (file.clone(), value.clone())).collect();
        limits
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes over what `new` sets.
    pub fn merge(&mut self, new: &Self) {
        fn take<T: Clone>(own: &mut Option<T>, new: &Option<T>) {
            if new.is_some() {
                own.clone_from(new);
            }
        }
        take(&mut self.memory, &new.memory);
        take(&mut self.reservation, &new.reservation);
        take(&mut self.swap, &new.swap);
        take(&mut self.shares, &new.shares);
        take(&mut self.quota, &new.quota);
        take(&mut self.period, &new.period);
        take(&mut self.burst, &new.burst);
        take(&mut self.idle, &new.idle);
        take(&mut self.realtime_runtime, &new.realtime_runtime);
        take(&mut self.realtime_period, &new.realtime_period);
        take(&mut self.cpus, &new.cpus);
        take(&mut self.mems, &new.mems);
        take(&mut self.pids, &new.pids);
        take(&mut self.blkio_weight, &new.blkio_weight);
        self.unified.extend(new.unified.iter().map(|(file, value)| (file.clone(), value.clone())));
    }

    /// Memory limit in bytes.
    pub fn memory_limit(&self) -> Option<u64> {
        positive(self.memory)
    }

    /// Number of CPUs that it is worth: the whole ones that the quota pays for, rounded up, and at most those of the
    /// cpuset. `None` where there is neither.
    pub fn cpu_count(&self) -> Option<u32> {
        let period = self.period.unwrap_or(DEFAULT_PERIOD);
        let paid =
            positive(self.quota).map(|quota| u32::try_from(quota.div_ceil(period)).unwrap_or(u32::MAX));
        let bound = self.cpus.as_deref().and_then(list_length);
        [paid, bound].into_iter().flatten().min().map(|n| n.max(1))
    }

    /// The same for the sentry. What of memory the machine may have is left to the caller.
    pub fn for_sentry(&self) -> Resources {
        Resources {
            memory: self.memory_limit(),
            machine_memory: None,
            memory_reservation: positive(self.reservation),
            memory_swap: positive(self.swap),
            cpu_quota: positive(self.quota),
            cpu_period: self.period,
            cpu_burst: self.burst,
            cpu_shares: self.shares,
            cpu_idle: self.idle == Some(IDLE),
            cpus: self.cpu_count(),
            pids: positive(self.pids),
            blkio_weight: self.blkio_weight,
        }
    }
}

fn positive(value: Option<i64>) -> Option<u64> {
    u64::try_from(value?).ok().filter(|n| *n > 0)
}

/// Number of entries of a list such as `0-3,7`; `None` for one that is none.
fn list_length(list: &str) -> Option<u32> {
    list.trim().split(',').try_fold(0u32, |sum, part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        sum.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

/// A size as runc takes it: a number, maybe with a fraction, and a binary unit: `512m`, `1.5 GiB`, `64kb`, `7`.
pub fn parse_size(text: &str) -> Option<i64> {
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let unit = unit.strip_suffix('i').unwrap_or(unit);
    let shift = match unit {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    if !number.starts_with(|c: char| c.is_ascii_digit()) || !number.ends_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let value =
        number.parse::<f64>().ok()? * f64::from(1u32 << (shift % 30)) * (1u64 << (shift - shift % 30)) as f64;
    (value < i64::MAX as f64).then_some(value as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_runc_takes_them() {
        for (text, bytes) in [
            ("7", 7),
            ("64k", 64 << 10),
            ("64KB", 64 << 10),
            ("1.5g", 3 << 29),
            ("2 MiB", 2 << 20),
            ("3t", 3 << 40),
            ("1p", 1 << 50),
            ("5b", 5),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "abc", "-1", "1x", ".5g", "1.", "1.2.3", "9999999p", "1  g"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn cpus_of_quota_and_list() {
        let count = |quota, period, cpus: Option<&str>| {
            Limits { quota, period, cpus: cpus.map(str::to_string), ..Limits::default() }.cpu_count()
        };
        assert_eq!(count(None, None, None), None);
        assert_eq!(count(Some(150_000), None, None), Some(2));
        assert_eq!(count(Some(10_000), Some(20_000), None), Some(1));
        assert_eq!(count(Some(-1), Some(20_000), None), None);
        assert_eq!(count(None, None, Some("0-2,7")), Some(4));
        assert_eq!(count(Some(200_000), None, Some("1")), Some(1));
        assert_eq!(count(None, None, Some("3-1")), None);
    }

    #[test]
    fn an_update_keeps_what_it_does_not_name() {
        let mut limits = Limits { memory: Some(1 << 30), quota: Some(5000), ..Limits::default() };
        limits.merge(&Limits { memory: Some(-1), pids: Some(7), ..Limits::default() });
        assert_eq!(
            limits,
            Limits { memory: Some(-1), quota: Some(5000), pids: Some(7), ..Limits::default() }
        );
        assert_eq!(limits.memory_limit(), None);
    }
}
