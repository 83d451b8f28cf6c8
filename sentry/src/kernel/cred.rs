//! Credentials: credentials(7), capabilities(7).

use alloc::vec::Vec;

/// Bits of the capability sets.
pub mod cap {
    /// CAP_CHOWN
    pub const CHOWN: u32 = 0;
    /// CAP_DAC_OVERRIDE
    pub const DAC_OVERRIDE: u32 = 1;
    /// CAP_DAC_READ_SEARCH
    pub const DAC_READ_SEARCH: u32 = 2;
    /// CAP_FOWNER
    pub const FOWNER: u32 = 3;
    /// CAP_FSETID
    pub const FSETID: u32 = 4;
    /// CAP_KILL
    pub const KILL: u32 = 5;
    /// CAP_SETGID
    pub const SETGID: u32 = 6;
    /// CAP_SETUID
    pub const SETUID: u32 = 7;
    /// CAP_SETPCAP
    pub const SETPCAP: u32 = 8;
    /// CAP_NET_BIND_SERVICE
    pub const NET_BIND_SERVICE: u32 = 10;
    /// CAP_NET_ADMIN
    pub const NET_ADMIN: u32 = 12;
    /// CAP_NET_RAW
    pub const NET_RAW: u32 = 13;
    /// CAP_IPC_LOCK
    pub const IPC_LOCK: u32 = 14;
    /// CAP_IPC_OWNER
    pub const IPC_OWNER: u32 = 15;
    /// CAP_SYS_CHROOT
    pub const SYS_CHROOT: u32 = 18;
    /// CAP_SYS_PTRACE
    pub const SYS_PTRACE: u32 = 19;
    /// CAP_SYS_ADMIN
    pub const SYS_ADMIN: u32 = 21;
    /// CAP_SYS_NICE
    pub const SYS_NICE: u32 = 23;
    /// CAP_SYS_RESOURCE
    pub const SYS_RESOURCE: u32 = 24;
    /// CAP_SYS_TIME
    pub const SYS_TIME: u32 = 25;
    /// CAP_MKNOD
    pub const MKNOD: u32 = 27;
    /// CAP_SETFCAP
    pub const SETFCAP: u32 = 31;
    /// Highest capability that Linux 6.x knows (CAP_CHECKPOINT_RESTORE).
    pub const LAST: u32 = 40;
}

/// What a task may do, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cred {
    /// Real user id.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Saved user id.
    pub suid: u32,
    /// User id for file-system checks.
    pub fsuid: u32,
    /// Real group id.
    pub gid: u32,
    /// Effective group id.
    pub egid: u32,
    /// Saved group id.
    pub sgid: u32,
    /// Group id for file-system checks.
    pub fsgid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Effective capabilities.
    pub effective: u64,
    /// Permitted capabilities.
    pub permitted: u64,
    /// Inheritable capabilities.
    pub inheritable: u64,
    /// Bounding set.
    pub bounding: u64,
    /// Ambient set.
    pub ambient: u64,
    /// SECBIT_* flags.
    pub securebits: u32,
    /// no_new_privs.
    pub no_new_privs: bool,
}

impl Cred {
    /// The superuser with every capability.
    pub fn root() -> Self {
        let all = (1 << (cap::LAST + 1)) - 1;
        Self {
            uid: 0,
            euid: 0,
            suid: 0,
            fsuid: 0,
            gid: 0,
            egid: 0,
            sgid: 0,
            fsgid: 0,
            groups: Vec::new(),
            effective: all,
            permitted: all,
            inheritable: 0,
            bounding: all,
            ambient: 0,
            securebits: 0,
            no_new_privs: false,
        }
    }

    /// Whether a capability is effective.
    pub fn has(&self, capability: u32) -> bool {
        self.effective & (1 << capability) != 0
    }

    /// Whether the task is in a group, for file-system checks.
    pub fn in_group(&self, gid: u32) -> bool {
        self.fsgid == gid || self.groups.contains(&gid)
    }
}

/// Credentials after execve(2) of a file without set-uid bits or file capabilities: capabilities(7), "Transformation
/// of capabilities during execve". `None`: they stay as they are.
pub fn after_exec(old: &Cred) -> Option<Cred> {
    let mut new = old.clone();
    let root = old.euid == 0 || old.uid == 0;
    // SECBIT_NOROOT
    if root && old.securebits & 1 == 0 {
        new.permitted = old.inheritable | old.bounding;
        new.effective = if old.euid == 0 { new.permitted } else { 0 };
        new.ambient = 0;
    } else {
        new.permitted = old.ambient;
        new.effective = old.ambient;
    }
    // What the task could not do before it cannot do now, whatever the bounding set says.
    new.permitted &= old.permitted | old.inheritable | old.ambient;
    new.effective &= new.permitted;
    new.suid = old.euid;
    new.sgid = old.egid;
    new.fsuid = old.euid;
    new.fsgid = old.egid;
    (new != *old).then_some(new)
}
