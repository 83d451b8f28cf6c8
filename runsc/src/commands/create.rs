//! `runsc create`: makes a container whose program waits for `start`.

use oci::bundle::Bundle;

use crate::cli::{Create, Global};
use crate::error::Error;
use crate::sandbox::launch::{Request, launch};

/// Makes the container and returns; the sandbox process stays.
pub fn create(global: &Global, options: &Create) -> Result<u8, Error> {
    launch(Request {
        global,
        command: "create",
        id: &options.id,
        bundle: Bundle::load(&options.bundle)?,
        start: false,
        detached: true,
        console_socket: options.console_socket.as_deref(),
        preserve_fds: options.preserve_fds,
        pid_file: options.pid_file.as_deref(),
        ephemeral: false,
        snapshot: None,
    })?;
    Ok(0)
}
