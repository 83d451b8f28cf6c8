//! `runsc create`: makes a container whose program waits for `start`.

use oci::bundle::Bundle;

use crate::cli::{Create, Global};
use crate::error::Error;
use crate::sandbox::launch::{Request, launch};

/// Loads the bundle that options name, with the root file system that they name.
pub fn load(options: &Create) -> Result<Bundle, Error> {
    let mut bundle = Bundle::load(&options.bundle)?;
    if let Some(image) = &options.rootfs_image {
        bundle.set_image(image)?;
    }
    Ok(bundle)
}

/// Makes the container and returns; the sandbox process stays.
pub fn create(global: &Global, options: &Create) -> Result<u8, Error> {
    launch(Request {
        global,
        command: "create",
        id: &options.id,
        bundle: load(options)?,
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
