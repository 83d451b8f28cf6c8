//! Processes that are started in a running container: from a file, or the container's own with changes.

use std::path::Path;

use oci_spec::runtime::{Capabilities, LinuxCapabilities, Process, User};

use crate::Error;
use crate::bundle::Bundle;

/// What differs from the container's own process.
#[derive(Debug, Default)]
pub struct Changes<'a> {
    /// Program and arguments.
    pub args: &'a [String],
    /// Further variables, `NAME=value`.
    pub env: &'a [String],
    /// Working directory.
    pub cwd: Option<&'a str>,
    /// `UID[:GID]`.
    pub user: Option<&'a str>,
    /// Further groups.
    pub additional_gids: &'a [u32],
    /// Capabilities that are added, with or without `CAP_`.
    pub capabilities: &'a [String],
    /// Sets no_new_privs.
    pub no_new_privs: bool,
    /// Whether it has a terminal.
    pub terminal: bool,
}

/// Reads a process as config.json has it.
///
/// # Errors
/// Where the file cannot be read or does not parse.
pub fn from_file(path: &Path) -> Result<Process, Error> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("reading", path, e))?;
    let process: Process = serde_json::from_str(&text)
        .map_err(|e| Error::ConfigMalformed { path: path.to_path_buf(), reason: e.to_string() })?;
    check(process)
}

/// The process of the container's bundle with these changes.
///
/// # Errors
/// Where one of them is malformed.
pub fn with_changes(bundle: &Bundle, changes: &Changes<'_>) -> Result<Process, Error> {
    let process = bundle.spec.process().clone();
    let mut process = process.ok_or_else(|| Error::invalid("process", "property is missing"))?;
    process.set_args(Some(changes.args.to_vec()));
    let mut env = process.env().clone().unwrap_or_default();
    for variable in changes.env {
        let Some((name, _)) = variable.split_once('=') else {
            return Err(Error::invalid("--env", format!("{variable:?} is not NAME=value")));
        };
        env.retain(|old| old.split_once('=').map(|(n, _)| n) != Some(name));
        env.push(variable.clone());
    }
    process.set_env(Some(env));
    if let Some(cwd) = changes.cwd {
        process.set_cwd(cwd.into());
    }
    let mut user = match changes.user {
        Some(text) => parse_user(text)?,
        None => process.user().clone(),
    };
    if !changes.additional_gids.is_empty() {
        let mut gids = user.additional_gids().clone().unwrap_or_default();
        gids.extend(changes.additional_gids);
        user.set_additional_gids(Some(gids));
    }
    process.set_user(user);
    if !changes.capabilities.is_empty() {
        let caps = process.capabilities().clone().unwrap_or_default();
        process.set_capabilities(Some(add_capabilities(caps, changes.capabilities)?));
    }
    if changes.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    process.set_terminal(Some(changes.terminal));
    process.set_console_size(None);
    check(process)
}

fn check(process: Process) -> Result<Process, Error> {
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return Err(Error::invalid("process.args", "must not be empty"));
    }
    if !process.cwd().is_absolute() {
        return Err(Error::invalid("process.cwd", format!("{} is not absolute", process.cwd().display())));
    }
    Ok(process)
}

fn parse_user(text: &str) -> Result<User, Error> {
    let bad = || Error::invalid("--user", format!("{text:?} is not UID or UID:GID"));
    let (uid, gid) = text.split_once(':').map_or((text, None), |(uid, gid)| (uid, Some(gid)));
    let mut user = User::default();
    user.set_uid(uid.parse().map_err(|_| bad())?);
    user.set_gid(gid.map_or(Ok(0), str::parse).map_err(|_| bad())?);
    Ok(user)
}

/// As runc: bounding, effective and permitted, and ambient where it is inheritable.
fn add_capabilities(mut caps: LinuxCapabilities, names: &[String]) -> Result<LinuxCapabilities, Error> {
    let mut added = Capabilities::new();
    for name in names {
        let full = name.to_ascii_uppercase();
        let full = if full.starts_with("CAP_") { full } else { format!("CAP_{full}") };
        let capability = serde_json::from_value(serde_json::Value::String(full))
            .map_err(|_| Error::invalid("--cap", format!("unknown capability {name:?}")))?;
        added.insert(capability);
    }
    let with = |set: &Option<Capabilities>| {
        let mut set = set.clone().unwrap_or_default();
        set.extend(added.iter().copied());
        Some(set)
    };
    let (bounding, effective, permitted) =
        (with(caps.bounding()), with(caps.effective()), with(caps.permitted()));
    caps.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    Ok(caps)
}
