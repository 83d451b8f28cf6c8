//! What the host's kernel and settings are like.

use std::fs;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit};

use super::Finding;
use crate::cli::{Global, Platform};
use crate::sandbox::choose::{Verdict, kvm_verdict, systrap_verdict};

/// Oldest kernel that has every system call which the jail and the host calls use (close_range, openat2).
const OLDEST: (u32, u32) = (5, 9);
/// Oldest kernel that the tests run on.
const TESTED: (u32, u32) = (6, 1);
/// Descriptors that a sandbox with a few mounts and streams works with comfortably.
const FILES: u64 = 1024;
/// CAP_SYS_RESOURCE of capabilities(7).
const SYS_RESOURCE: u32 = 24;

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_string())
}

/// The kernel's version.
pub fn kernel() -> Finding {
    const NAME: &str = "kernel";
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let detail = format!("Linux {release} {}", std::env::consts::ARCH);
    if version < OLDEST {
        Finding::fail(NAME, detail, format!("use Linux {}.{} or later", OLDEST.0, OLDEST.1))
    } else if version < TESTED {
        let remedy = format!("use Linux {}.{} or later, which is tested", TESTED.0, TESTED.1);
        Finding::warn(NAME, detail, remedy)
    } else {
        Finding::pass(NAME, detail)
    }
}

/// Both platforms, and which of them is taken.
pub fn platforms(global: &Global) -> Vec<Finding> {
    let (kvm, systrap) = (kvm_verdict(), systrap_verdict());
    let usable = |verdict: &Verdict| matches!(verdict, Verdict::Usable(_));
    let either = usable(&kvm) || usable(&systrap);
    let kvm_finding = match &kvm {
        Verdict::Usable(flavour) => Finding::pass("kvm", format!("self-test passed ({flavour} hypervisor)")),
        Verdict::Refused(reason) => {
            let remedy = if Path::new("/dev/kvm").exists() {
                "give this user read and write access to /dev/kvm, or update the hypervisor; systrap needs neither"
            } else {
                "load the module kvm_intel or kvm_amd, or switch nested virtualisation on; systrap needs neither"
            };
            if either { Finding::warn("kvm", reason, remedy) } else { Finding::fail("kvm", reason, remedy) }
        }
    };
    let systrap_finding = match &systrap {
        Verdict::Usable(_) => Finding::pass("systrap", "user notification of seccomp and FSGSBASE are there"),
        Verdict::Refused(reason) => {
            let remedy = "use a kernel with CONFIG_SECCOMP_FILTER and a CPU with FSGSBASE";
            if either {
                Finding::warn("systrap", reason, remedy)
            } else {
                Finding::fail("systrap", reason, remedy)
            }
        }
    };
    let chosen = match (global.platform, usable(&kvm), usable(&systrap)) {
        (Platform::Auto, true, _) => {
            Finding::pass("platform", "kvm: its self-test passes, and it is the faster")
        }
        (Platform::Auto, false, true) => Finding::pass("platform", "systrap: kvm cannot be used"),
        (Platform::Kvm, true, _) => Finding::pass("platform", "kvm: --platform names it"),
        (Platform::Systrap, _, true) => Finding::pass("platform", "systrap: --platform names it"),
        (Platform::Auto, false, false) => {
            Finding::fail("platform", "none can be used", "see kvm and systrap above")
        }
        (Platform::Kvm | Platform::Systrap, ..) => {
            Finding::fail("platform", "the one that --platform names cannot be used", "use --platform auto")
        }
    };
    vec![kvm_finding, systrap_finding, chosen]
}

/// Which version of control groups there is, and whether groups can be made.
pub fn cgroups() -> Finding {
    const NAME: &str = "cgroups";
    let root = Path::new("/sys/fs/cgroup");
    let (version, places): (_, Vec<_>) = if oci::cgroup::unified() {
        ("version 2", vec![root.to_path_buf()])
    } else {
        ("version 1", ["memory", "cpu", "pids"].map(|name| root.join(name)).to_vec())
    };
    let probe = format!("runsc-doctor-{}", std::process::id());
    let refused: Vec<String> = places
        .iter()
        .filter_map(|place| {
            let dir = place.join(&probe);
            let made = fs::create_dir(&dir);
            if made.is_ok() {
                let _ = fs::remove_dir(&dir);
            }
            made.err().map(|e| format!("{}: {e}", place.display()))
        })
        .collect();
    if refused.is_empty() {
        return Finding::pass(NAME, format!("{version}, groups can be made"));
    }
    let remedy =
        "run as root with /sys/fs/cgroup mounted writable; without it limits have no effect on the host";
    Finding::warn(NAME, format!("{version}, no groups can be made ({})", refused.join("; ")), remedy)
}

/// Namespaces of users, which a sandbox of another user than root needs.
pub fn user_namespaces() -> Finding {
    const NAME: &str = "user namespaces";
    let most = read("/proc/sys/user/max_user_namespaces");
    let forbidden = read("/proc/sys/kernel/unprivileged_userns_clone").as_deref() == Some("0")
        || read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1");
    let root = nix::unistd::geteuid().is_root();
    match most.as_deref() {
        None | Some("0") => Finding::warn(
            NAME,
            "switched off; only root can run containers",
            "sysctl -w user.max_user_namespaces=15000",
        ),
        Some(_) if forbidden && !root => Finding::fail(
            NAME,
            "forbidden to this user",
            "sysctl -w kernel.unprivileged_userns_clone=1, or kernel.apparmor_restrict_unprivileged_userns=0; or run as root",
        ),
        Some(most) => Finding::pass(NAME, format!("up to {most}")),
    }
}

/// Faults served by a process: for restores that read memory as it is touched.
pub fn userfaultfd() -> Finding {
    const NAME: &str = "userfaultfd";
    let root = nix::unistd::geteuid().is_root();
    match read("/proc/sys/vm/unprivileged_userfaultfd").as_deref() {
        Some("1") => Finding::pass(NAME, "for every user"),
        Some(_) if root => Finding::pass(NAME, "for root"),
        Some(_) if Path::new("/dev/userfaultfd").exists() => Finding::pass(NAME, "by /dev/userfaultfd"),
        Some(_) => Finding::pass(NAME, "not for this user; nothing here needs it"),
        None => Finding::pass(NAME, "not in this kernel; nothing here needs it"),
    }
}

/// Transparent huge pages.
pub fn huge_pages() -> Finding {
    const NAME: &str = "huge pages";
    let setting = read("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    let chosen = setting.split('[').nth(1).and_then(|rest| rest.split(']').next()).unwrap_or("never");
    if chosen == "never" {
        return Finding::warn(
            NAME,
            "transparent huge pages are off: large programs take more time",
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        );
    }
    Finding::pass(NAME, format!("transparent, {chosen}"))
}

fn limit(resource: Resource) -> (u64, u64) {
    getrlimit(resource).unwrap_or((0, 0))
}

fn amount(value: u64) -> String {
    if value == nix::libc::RLIM_INFINITY { "unlimited".into() } else { value.to_string() }
}

/// RLIMIT_NOFILE.
pub fn open_files() -> Finding {
    const NAME: &str = "open files";
    let (soft, hard) = limit(Resource::RLIMIT_NOFILE);
    let detail = format!("RLIMIT_NOFILE {} of {}", amount(soft), amount(hard));
    if hard < FILES {
        return Finding::warn(NAME, detail, format!("ulimit -Hn {FILES}, or LimitNOFILE= of the service"));
    }
    Finding::pass(NAME, detail)
}

/// RLIMIT_MEMLOCK.
pub fn locked_memory() -> Finding {
    let (soft, hard) = limit(Resource::RLIMIT_MEMLOCK);
    Finding::pass(
        "locked memory",
        format!("RLIMIT_MEMLOCK {} of {}; a sandbox locks none", amount(soft), amount(hard)),
    )
}

/// Whether this process may go beyond limits.
pub fn capabilities() -> Finding {
    const NAME: &str = "CAP_SYS_RESOURCE";
    let status = read("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    if effective & 1 << SYS_RESOURCE != 0 {
        return Finding::pass(NAME, "there");
    }
    Finding::warn(
        NAME,
        "missing: limits of the host cannot be raised, nor its OOM score lowered; inside a sandbox neither matters",
        "give the service CAP_SYS_RESOURCE",
    )
}

/// Whether memory may be promised that is not there: a machine's memory is mapped whole and comes as it is touched.
pub fn overcommit() -> Finding {
    const NAME: &str = "overcommit";
    match read("/proc/sys/vm/overcommit_memory").as_deref() {
        Some("2") => Finding::warn(
            NAME,
            "vm.overcommit_memory is 2: each sandbox reserves all of its memory",
            "sysctl -w vm.overcommit_memory=0, or give each sandbox less by --memory",
        ),
        value => Finding::pass(NAME, format!("vm.overcommit_memory is {}", value.unwrap_or("not there"))),
    }
}

/// The host's clock source: that of sandboxes is the time-stamp counter.
pub fn clock() -> Finding {
    const NAME: &str = "clock";
    let source = read("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    match source.as_deref() {
        Some(source @ ("tsc" | "kvm-clock" | "hyperv_clocksource_tsc_page")) => Finding::pass(NAME, source),
        Some(source) => Finding::warn(
            NAME,
            format!("{source}: the host does not trust its time-stamp counter, which sandboxes use"),
            "boot with tsc=reliable if the counter is known to be stable",
        ),
        None => Finding::pass(NAME, "unknown"),
    }
}

/// Who could call this runtime.
pub fn callers() -> Finding {
    const NAME: &str = "callers";
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<_> = std::env::split_paths(&path).collect();
    let found: Vec<&str> = ["containerd", "ctr", "dockerd", "docker", "podman", "crictl"]
        .into_iter()
        .filter(|name| dirs.iter().any(|dir| dir.join(name).is_file()))
        .collect();
    if found.is_empty() {
        return Finding::warn(
            NAME,
            "neither containerd nor docker nor podman",
            "install containerd, or use `runsc run`",
        );
    }
    Finding::pass(NAME, found.join(", "))
}
