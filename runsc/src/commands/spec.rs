//! `runsc spec`: writes a template of config.json.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};

use oci::bundle::template;

use crate::cli::Spec;
use crate::error::Error;

/// Writes it.
pub fn spec(options: &Spec) -> Result<u8, Error> {
    let path = options.bundle.join("config.json");
    let mut text = template(&options.args, options.args.is_empty(), &options.cwd)?;
    text.push('\n');
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    match written {
        Ok(()) => Ok(0),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            Err(Error::Usage(format!("file {} exists. Remove it first", path.display())))
        }
        Err(e) => Err(Error::os(format!("writing {}", path.display()), e)),
    }
}
