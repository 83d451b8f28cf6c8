//! Names of the system: uname(2), sethostname(2).

use crate::sync::SpinLock;
use alloc::string::String;
use alloc::vec::Vec;

/// Longest name.
pub const MAX_NAME: usize = 64;
/// The level of Linux that is implemented.
pub const RELEASE: &str = "6.1.0-runsc";
/// Version line of uname(2).
pub const VERSION: &str = "#1 SMP PREEMPT runsc";

struct Names {
    host: Vec<u8>,
    domain: Vec<u8>,
}

static NAMES: SpinLock<Names> = SpinLock::new(Names { host: Vec::new(), domain: Vec::new() });

/// Sets the host name, at most [`MAX_NAME`] bytes.
pub fn set_host(name: &[u8]) {
    NAMES.lock().host = name[..name.len().min(MAX_NAME)].to_vec();
}

/// Sets the domain name.
pub fn set_domain(name: &[u8]) {
    NAMES.lock().domain = name[..name.len().min(MAX_NAME)].to_vec();
}

/// Host and domain name.
pub fn names() -> (Vec<u8>, Vec<u8>) {
    let names = NAMES.lock();
    (names.host.clone(), names.domain.clone())
}

/// The same as text, for /proc.
pub fn names_text() -> (String, String) {
    let (host, domain) = names();
    (String::from_utf8_lossy(&host).into_owned(), String::from_utf8_lossy(&domain).into_owned())
}
