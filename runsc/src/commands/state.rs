//! `runsc state`: prints the state of a container.

use crate::cli::Global;
use crate::error::Error;
use crate::sandbox::launch::store;

/// Prints it as JSON.
pub fn state(global: &Global, id: &str) -> Result<u8, Error> {
    let state = store(global)?.state(id)?;
    println!("{}", state.to_oci_json(true));
    Ok(0)
}
