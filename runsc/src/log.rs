//! Messages of the runtime: to a file as text or JSON, and errors to standard error.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::OnceLock;

use crate::cli::{Global, LogFormat};
use crate::error::Error;

struct Log {
    file: Option<File>,
    format: LogFormat,
    debug: bool,
}

static LOG: OnceLock<Log> = OnceLock::new();

/// Opens what the options name.
pub fn open(global: &Global, command: &str) -> Result<(), Error> {
    let file = match &global.log {
        None => None,
        Some(path) => {
            let opened = OpenOptions::new().create(true).append(true).mode(0o644).open(path);
            Some(opened.map_err(|e| Error::os(format!("opening the log file {}", path.display()), e))?)
        }
    };
    let _ = LOG.set(Log { file, format: global.log_format, debug: global.debug });
    write("debug", &format!("command {command}"));
    Ok(())
}

/// Descriptor of the log file, to be kept by the sandbox.
pub fn file() -> Option<&'static File> {
    LOG.get().and_then(|log| log.file.as_ref())
}

/// Appends a message.
pub fn write(level: &str, message: &str) {
    let Some(log) = LOG.get() else { return };
    if level == "debug" && !log.debug {
        return;
    }
    if let Some(mut file) = log.file.as_ref() {
        let time = oci::state::timestamp();
        let line = match log.format {
            LogFormat::Json => {
                format!("{}\n", serde_json::json!({ "level": level, "msg": message, "time": time }))
            }
            LogFormat::Text => format!("time={time:?} level={level} msg={message:?}\n"),
        };
        let _ = file.write_all(line.as_bytes());
    }
}

/// A warning: to the log, or to standard error where there is none.
pub fn warn(message: &str) {
    if file().is_none() {
        eprintln!("runsc: warning: {message}");
    }
    write("warning", message);
}

/// The error that ends a command.
pub fn fatal(message: &str) {
    write("error", message);
    eprintln!("runsc: {message}");
}

/// Opens the debug log that the options name.
pub fn open_debug(global: &Global, command: &str, id: &str) -> Result<Option<File>, Error> {
    let Some(pattern) = &global.debug_log else { return Ok(None) };
    let time = oci::state::timestamp().replace([':', '-'], "");
    let mut path = pattern
        .replace("%ID%", id)
        .replace("%CID%", id)
        .replace("%COMMAND%", command)
        .replace("%TIMESTAMP%", &time);
    if path.ends_with('/') {
        std::fs::create_dir_all(&path)
            .map_err(|e| Error::os(format!("making the debug log directory {path}"), e))?;
        path += &format!("runsc.log.{time}.{command}.{id}.txt");
    }
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
    file.map(Some).map_err(|e| Error::os(format!("opening the debug log {path}"), e))
}
