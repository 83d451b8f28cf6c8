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
    /// CAP_LEASE
    pub const LEASE: u32 = 28;
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

/// What a program's file asks for by its set-user-id and set-group-id bits, and what stands against it.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExecRights {
    /// Owner of a set-user-id file whose bit counts.
    pub set_uid: Option<u32>,
    /// Group of a set-group-id file whose bit counts.
    pub set_gid: Option<u32>,
    /// The sandbox lets nobody gain capabilities by execve(2) (it runs without `--allow-suid`).
    pub no_gain: bool,
    /// Another process shares the root and working directory: it could change them under a privileged program.
    pub shared: bool,
}

/// Credentials after execve(2), and whether the program must distrust its environment (AT_SECURE): capabilities(7),
/// "Transformation of capabilities during execve". Files have no capabilities of their own.
pub fn after_exec(old: &Cred, rights: &ExecRights) -> (Cred, bool) {
    let mut new = old.clone();
    new.euid = rights.set_uid.unwrap_or(old.euid);
    new.egid = rights.set_gid.unwrap_or(old.egid);
    new.permitted = 0;
    let mut effective = false;
    // SECBIT_NOROOT
    if old.securebits & 1 == 0 && (new.euid == 0 || old.uid == 0) {
        new.permitted = old.inheritable | old.bounding;
        effective = new.euid == 0;
    }
    let set_id = new.euid != old.uid || new.egid != old.gid;
    let gains = new.permitted & !old.permitted != 0;
    let distrusted = old.no_new_privs || rights.shared;
    if distrusted && (set_id || gains) && (old.no_new_privs || !old.has(cap::SETUID)) {
        new.euid = old.uid;
        new.egid = old.gid;
    }
    if gains && (distrusted || rights.no_gain) {
        new.permitted &= old.permitted;
    }
    if set_id {
        new.ambient = 0;
    }
    let grown = new.permitted & !new.ambient != 0;
    new.permitted |= new.ambient;
    new.effective = if effective { new.permitted } else { new.ambient };
    (new.suid, new.fsuid) = (new.euid, new.euid);
    (new.sgid, new.fsgid) = (new.egid, new.egid);
    // SECBIT_KEEP_CAPS
    new.securebits &= !(1 << 4);
    let secure = set_id || (new.uid != 0 && (effective || grown));
    (new, secure)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32) -> Cred {
        let root = Cred::root();
        Cred { uid, euid: uid, suid: uid, fsuid: uid, effective: 0, permitted: 0, ..root }
    }

    #[test]
    fn a_set_user_id_program_of_root_gets_all_and_distrusts_its_environment() {
        let rights = ExecRights { set_uid: Some(0), ..ExecRights::default() };
        let (new, secure) = after_exec(&user(1000), &rights);
        assert_eq!((new.uid, new.euid, new.suid, new.fsuid, secure), (1000, 0, 0, 0, true));
        assert_eq!((new.permitted, new.effective), (new.bounding, new.bounding));
    }

    #[test]
    fn of_another_user_it_gets_no_capabilities() {
        let rights = ExecRights { set_uid: Some(7), ..ExecRights::default() };
        let (new, secure) = after_exec(&user(1000), &rights);
        assert_eq!((new.uid, new.euid, new.suid, new.permitted, secure), (1000, 7, 7, 0, true));
    }

    #[test]
    fn no_new_privs_and_shared_directories_take_it_back() {
        for old in [Cred { no_new_privs: true, ..user(1000) }, user(1000)] {
            let rights = ExecRights { set_uid: Some(0), shared: !old.no_new_privs, ..ExecRights::default() };
            let (new, secure) = after_exec(&old, &rights);
            assert_eq!((new.uid, new.euid, new.permitted, new.effective), (1000, 1000, 0, 0));
            // The program is still told that more was asked for.
            assert!(secure);
        }
    }

    #[test]
    fn root_regains_what_it_dropped_only_where_the_sandbox_lets_it() {
        let old = Cred { permitted: 5, effective: 5, ..Cred::root() };
        let (new, secure) = after_exec(&old, &ExecRights::default());
        assert_eq!((new.permitted, secure), (old.bounding, false));
        let (new, _) = after_exec(&old, &ExecRights { no_gain: true, ..ExecRights::default() });
        assert_eq!((new.permitted, new.effective), (5, 5));
    }

    #[test]
    fn ambient_capabilities_stay_but_for_set_id_programs() {
        let old = Cred { ambient: 4, permitted: 4, inheritable: 4, ..user(1000) };
        let (new, secure) = after_exec(&old, &ExecRights::default());
        assert_eq!((new.ambient, new.permitted, new.effective, secure), (4, 4, 4, false));
        let rights = ExecRights { set_gid: Some(9), ..ExecRights::default() };
        let (new, secure) = after_exec(&old, &rights);
        assert_eq!((new.egid, new.ambient, new.permitted, secure), (9, 0, 0, true));
    }
}
