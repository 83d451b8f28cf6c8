//! Resources of a container, as the sentry gets to know them: at the start, and with `runsc update`.

use serde::{Deserialize, Serialize};

/// Period of a CPU quota that names none, microseconds.
pub const DEFAULT_PERIOD: u64 = 100_000;
/// CPU shares where none are set.
pub const DEFAULT_SHARES: u64 = 1024;

/// What a container may use. The host's control groups enforce it on the sandbox; the sentry shows it to programs, and
/// enforces what the host cannot see: the memory and the number of tasks inside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Memory limit, bytes; `None` for none.
    pub memory: Option<u64>,
    /// Most guest memory, bytes: what a memory limit leaves after what the sandbox process itself needs. `None` leaves it
    /// as it is.
    pub machine_memory: Option<u64>,
    /// Soft limit of memory, bytes.
    pub memory_reservation: Option<u64>,
    /// Limit of memory and swap together, bytes.
    pub memory_swap: Option<u64>,
    /// CPU time in each period, microseconds; `None` for no limit.
    pub cpu_quota: Option<u64>,
    /// Period of the quota, microseconds; `None`: [`DEFAULT_PERIOD`].
    pub cpu_period: Option<u64>,
    /// Unused quota that may be carried over, microseconds.
    pub cpu_burst: Option<u64>,
    /// Relative weight as version 1 has it; `None`: [`DEFAULT_SHARES`].
    pub cpu_shares: Option<u64>,
    /// Whether it runs only when nothing else does.
    pub cpu_idle: bool,
    /// Number of CPUs that programs see; `None` for all of the machine's.
    pub cpus: Option<u32>,
    /// Most tasks; `None` for no limit.
    pub pids: Option<u64>,
    /// Weight of block input and output; `None` where none is set.
    pub blkio_weight: Option<u16>,
}

impl Resources {
    /// Period of the CPU quota, microseconds.
    pub fn period(&self) -> u64 {
        self.cpu_period.unwrap_or(DEFAULT_PERIOD)
    }

    /// CPU weight on the range 1 to 10,000 of version 2.
    pub fn weight(&self) -> u64 {
        shares_to_weight(self.cpu_shares.unwrap_or(DEFAULT_SHARES))
    }
}

/// Converts CPU shares (2 to 262,144) to a CPU weight (1 to 10,000), each on its whole range.
pub fn shares_to_weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}
