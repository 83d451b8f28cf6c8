//! `runsc do`: runs a command in a sandbox that sees the host's files; what it writes stays in memory.

use std::io::IsTerminal;
use std::path::PathBuf;

use oci::bundle::Bundle;
use oci::state::EPHEMERAL;

use super::delete;
use super::run::foreground;
use crate::cli::{Do, Global};
use crate::error::Error;
use crate::sandbox::launch::Request;

/// Environment that is handed on.
const KEPT: &[&str] = &["PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "LC_ALL", "TZ"];

/// Runs it.
pub fn run(global: &Global, options: &Do) -> Result<u8, Error> {
    let rootfs = options
        .rootfs
        .canonicalize()
        .map_err(|e| Error::os(format!("opening the root {}", options.rootfs.display()), e))?;
    let cwd = match &options.cwd {
        Some(cwd) => cwd.clone(),
        None if options.rootfs == std::path::Path::new("/") => {
            std::env::current_dir().map_err(|e| Error::os("finding the working directory", e))?
        }
        None => PathBuf::from("/"),
    };
    let env: Vec<String> = KEPT
        .iter()
        .filter_map(|name| std::env::var(name).ok().map(|value| format!("{name}={value}")))
        .collect();
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let mut bundle = Bundle::for_command(&rootfs, &options.command, &env, &cwd, terminal)?;
    if global.allow_suid
        && let Some(process) = bundle.spec.process_mut()
    {
        // The bits would mean nothing with it.
        process.set_no_new_privileges(Some(false));
    }
    // A command that was killed could not do that itself.
    delete::remove_dead(global)?;
    let id = format!("{EPHEMERAL}{}", std::process::id());
    let request = Request {
        global,
        command: "do",
        id: &id,
        bundle,
        start: true,
        detached: false,
        console_socket: None,
        preserve_fds: 0,
        pid_file: None,
        ephemeral: true,
        snapshot: None,
    };
    foreground(global, request, false)
}
