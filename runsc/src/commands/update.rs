//! `runsc update`: changes what a container may use.

use std::fs;
use std::io::Read;
use std::time::Duration;

use abi::control::Request;
use oci::cgroup::Cgroup;
use oci::limits::{Limits, parse_size};
use oci::state::{State, Status};
use oci_spec::runtime::LinuxResources;

use crate::cli::{Global, Update};
use crate::error::Error;
use crate::log;
use crate::sandbox::control::Client;
use crate::sandbox::launch::store;
use crate::sandbox::limits;

/// Time that a sandbox gets to take other limits: it may have memory to give back.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sets the container's control groups and tells its sentry: both or neither.
pub fn update(global: &Global, options: &Update) -> Result<u8, Error> {
    let container = store(global)?.get(&options.id)?;
    let mut state = container.state()?;
    let new = read(global, options)?;
    match state.status {
        Status::Stopped | Status::Creating => return Err(Error::Status("container not running".into())),
        // Its sentry stands still with it.
        Status::Paused => return Err(Error::Status("container paused".into())),
        Status::Created | Status::Running => {}
    }
    let old = state.limits.clone();
    let mut merged = old.clone();
    merged.merge(&new);
    let mut group = Cgroup {
        dirs: state.cgroups.clone(),
        leaves: state.groups.clone(),
        path: state.group_path.clone(),
        warnings: Vec::new(),
    };
    let (entered, made) = (group.leaves.len(), group.dirs.len());
    let missing = group.missing(&new);
    let noted = !missing.is_empty();
    if noted {
        let cgroups = [missing, state.cgroups.clone()].concat();
        container.save(&State { cgroups, ..state.clone() })?;
    }
    let result = change(&mut group, entered, state.pid, container.dir(), &new, [&old, &merged]);
    group.warnings.iter().for_each(|warning| log::warn(warning));
    if let Err(error) = result {
        // The groups that were made stay where the sandbox is in them; nothing is limited by them.
        if group.leaves.len() == entered {
            oci::cgroup::remove(&group.dirs[..group.dirs.len() - made]);
            if noted {
                container.save(&state)?;
            }
        } else {
            (state.cgroups, state.groups) = (group.dirs, group.leaves);
            container.save(&state)?;
        }
        return Err(error);
    }
    (state.cgroups, state.groups, state.limits) = (group.dirs, group.leaves, merged);
    container.save(&state)?;
    Ok(0)
}

/// Changes both sides. A limit of memory that comes down is first kept inside, where memory can be given back; one that
/// goes up is first there on the host.
fn change(
    group: &mut Cgroup,
    entered: usize,
    pid: i32,
    dir: &std::path::Path,
    new: &Limits,
    [old, merged]: [&Limits; 2],
) -> Result<(), Error> {
    group.complete(new)?;
    group.enter_all(entered, pid)?;
    let mut client = Client::connect(dir)?;
    let memory = new.memory.is_some() && merged.memory != old.memory;
    let mut tell = |limits: &Limits| {
        let resources = Box::new(limits::at_update(limits, memory));
        client.ask(Request::Update { resources }, Some(PATIENCE)).map(drop)
    };
    let size = |limits: &Limits| limits.memory_limit().unwrap_or(u64::MAX);
    if size(merged) < size(old) {
        tell(merged)?;
        group.set(new).map(drop).inspect_err(|_| {
            if let Err(error) = tell(old) {
                log::warn(&format!("the sandbox keeps the new limits: {error}"));
            }
        })?;
    } else {
        let undo = group.set(new)?;
        if let Err(error) = tell(merged) {
            undo.back();
            return Err(error);
        }
    }
    Ok(())
}

fn read(global: &Global, options: &Update) -> Result<Limits, Error> {
    match &options.resources {
        // As with runc all other options are ignored then.
        Some(file) => {
            let mut text = String::new();
            let done = if file.as_os_str() == "-" {
                std::io::stdin().read_to_string(&mut text).map(drop)
            } else {
                fs::read_to_string(file).map(|read| text = read)
            };
            done.map_err(|e| Error::os(format!("open {}", file.display()), e))?;
            let resources: LinuxResources =
                serde_json::from_str(&text).map_err(|e| Error::Usage(format!("{}: {e}", file.display())))?;
            Ok(Limits::new(&resources))
        }
        None => flags(global, options),
    }
}

fn flags(global: &Global, options: &Update) -> Result<Limits, Error> {
    let size = |name: &str, text: &Option<String>| match text.as_deref() {
        None | Some("") => Ok(None),
        Some("-1") => Ok(Some(-1)),
        Some(text) => match parse_size(text) {
            Some(bytes) => Ok(Some(bytes).filter(|n| *n != 0)),
            None => Err(Error::Usage(format!("invalid value for {name}: invalid size: '{text}'"))),
        },
    };
    fn number<T: std::str::FromStr + Default + PartialEq>(
        name: &str,
        text: &Option<String>,
    ) -> Result<Option<T>, Error> {
        match text.as_deref() {
            None | Some("") => Ok(None),
            Some(text) => match text.parse() {
                Ok(n) => Ok(Some(n)),
                Err(_) => {
                    Err(Error::Usage(format!("invalid value for {name}: parsing {text:?}: invalid syntax")))
                }
            },
        }
    }
    fn set<T: Default + PartialEq>(value: Option<T>) -> Option<T> {
        value.filter(|n| *n != T::default())
    }
    Ok(Limits {
        memory: size("memory", &global.memory)?,
        reservation: size("memory-reservation", &options.memory_reservation)?,
        swap: size("memory-swap", &options.memory_swap)?,
        shares: set(number("cpu-share", &options.cpu_share)?),
        quota: set(number("cpu-quota", &options.cpu_quota)?),
        period: set(number("cpu-period", &options.cpu_period)?),
        burst: number("cpu-burst", &options.cpu_burst)?,
        idle: number("cpu-idle", &options.cpu_idle)?,
        realtime_runtime: set(number("cpu-rt-runtime", &options.cpu_rt_runtime)?),
        realtime_period: set(number("cpu-rt-period", &options.cpu_rt_period)?),
        cpus: options.cpuset_cpus.clone().filter(|list| !list.is_empty()),
        mems: options.cpuset_mems.clone().filter(|list| !list.is_empty()),
        pids: options.pids_limit.filter(|n| *n != 0),
        blkio_weight: options.blkio_weight.filter(|n| *n != 0),
        unified: Default::default(),
    })
}
