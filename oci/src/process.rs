//! The process of config.json as the sentry takes it.

use abi::spec::ProcessSpec;
use oci_spec::runtime::{Capabilities, PosixRlimitType, Process};

use crate::Error;

/// Names of the capabilities by number (capabilities(7)), without `CAP_`.
const CAPABILITIES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// File-mode creation mask of a container whose configuration names none.
const DEFAULT_UMASK: u32 = 0o022;

/// Names of every capability.
pub fn capability_names() -> Vec<String> {
    CAPABILITIES.iter().map(|name| format!("CAP_{name}")).collect()
}

/// A set as a bit mask.
fn mask(set: Option<&Capabilities>) -> u64 {
    set.into_iter().flatten().fold(0, |mask, capability| {
        let name = capability.to_string();
        let number = CAPABILITIES.iter().position(|known| *known == name);
        mask | number.map_or(0, |n| 1 << n)
    })
}

/// Number of a resource limit (getrlimit(2)).
fn rlimit_number(kind: PosixRlimitType) -> u32 {
    use PosixRlimitType as T;
    match kind {
        T::RlimitCpu => 0,
        T::RlimitFsize => 1,
        T::RlimitData => 2,
        T::RlimitStack => 3,
        T::RlimitCore => 4,
        T::RlimitRss => 5,
        T::RlimitNproc => 6,
        T::RlimitNofile => 7,
        T::RlimitMemlock => 8,
        T::RlimitAs => 9,
        T::RlimitLocks => 10,
        T::RlimitSigpending => 11,
        T::RlimitMsgqueue => 12,
        T::RlimitNice => 13,
        T::RlimitRtprio => 14,
        T::RlimitRttime => 15,
    }
}

/// Converts `process`; the streams are filled in by the caller.
pub fn convert(process: &Process) -> Result<ProcessSpec, Error> {
    let bytes = |strings: &Option<Vec<String>>| -> Vec<Vec<u8>> {
        strings.iter().flatten().map(|s| s.clone().into_bytes()).collect()
    };
    let mut rlimits: Vec<(u32, u64, u64)> = Vec::new();
    for limit in process.rlimits().iter().flatten() {
        let number = rlimit_number(limit.typ());
        if limit.soft() > limit.hard() {
            return Err(Error::invalid(
                "process.rlimits",
                format!("{}: soft limit exceeds the hard one", limit.typ()),
            ));
        }
        if rlimits.iter().any(|&(n, ..)| n == number) {
            return Err(Error::invalid("process.rlimits", format!("{} appears twice", limit.typ())));
        }
        rlimits.push((number, limit.soft(), limit.hard()));
    }
    let capabilities = process.capabilities().as_ref().map_or([0; 5], |caps| {
        [caps.effective(), caps.permitted(), caps.inheritable(), caps.bounding(), caps.ambient()]
            .map(|set| mask(set.as_ref()))
    });
    let user = process.user();
    let size = process.console_size().unwrap_or_default();
    let side = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
    Ok(ProcessSpec {
        args: bytes(process.args()),
        env: bytes(process.env()),
        cwd: process.cwd().as_os_str().as_encoded_bytes().to_vec(),
        uid: user.uid(),
        gid: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
        umask: user.umask().unwrap_or(DEFAULT_UMASK) & 0o777,
        capabilities,
        no_new_privs: process.no_new_privileges().unwrap_or(false),
        rlimits,
        oom_score_adj: process.oom_score_adj().unwrap_or(0),
        terminal: process.terminal().unwrap_or(false),
        console_size: (side(size.height()), side(size.width())),
        streams: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::Capability;

    #[test]
    fn capability_numbers() {
        assert_eq!(mask(Some(&[Capability::Chown].into())), 1);
        assert_eq!(mask(Some(&[Capability::SysAdmin].into())), 1 << 21);
        assert_eq!(mask(Some(&[Capability::CheckpointRestore].into())), 1 << 40);
        assert_eq!(mask(None), 0);
    }
}
