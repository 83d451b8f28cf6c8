//! `runsc wait`: waits for the end of a container.

use abi::control::{Reply, Request};
use oci::state::Status;
use serde_json::json;

use crate::cli::Global;
use crate::error::Error;
use crate::sandbox::control::Client;
use crate::sandbox::launch::store;

/// Waits for the end of the container `id` and prints, as JSON, what its first process ended with: its exit code, or
/// 128 and the number of the signal.
pub fn wait(global: &Global, id: &str) -> Result<u8, Error> {
    let container = store(global)?.find(id)?;
    if container.state()?.status == Status::Stopped {
        return Err(Error::Status("container not running".into()));
    }
    let mut client = Client::connect(container.dir())?;
    let command = client.send(Request::Wait)?;
    loop {
        if let Reply::Exited { id: answered, status } = client.receive()?
            && answered == command
        {
            println!("{}", json!({ "id": id, "exitStatus": exit_code(status) }));
            return Ok(0);
        }
    }
}

/// Exit code for a wait status of wait(2): the low seven bits are the signal, the next byte the exit code.
pub fn exit_code(status: i32) -> u8 {
    match status & 0x7f {
        0 => (status >> 8) as u8,
        signal => 128 + signal as u8,
    }
}
