//! The client side of the host calls.

pub mod files;
#[cfg(test)]
pub mod mock;
pub mod streams;

use crate::errno::{Errno, Result};
use abi::hostcall::{HostCall, LogWrite};

/// Makes a host call.
///
/// # Errors
/// What the VMM answers.
#[cfg(not(test))]
pub fn call<C: HostCall>(request: &C) -> Result<u64> {
    Errno::check(crate::arch::host_call(request))
}

/// Makes a host call, which a stand-in serves.
///
/// # Errors
/// What the stand-in answers.
#[cfg(test)]
pub fn call<C: HostCall>(request: &C) -> Result<u64> {
    Errno::check(mock::serve(C::NR, request.to_args()))
}

/// Writes a line to the debug log.
pub fn log(level: u64, line: &[u8]) {
    if cfg!(test) {
        return;
    }
    let (gpa, len) = crate::arch::hostcall::bounce(line);
    if len != 0 {
        crate::arch::host_call(&LogWrite { level, gpa, len });
    }
}

/// Tells the VMM of a bug of the sentry; it ends the sandbox.
pub fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    use core::fmt::Write;
    struct Text {
        buf: [u8; 1024],
        len: usize,
    }
    impl Write for Text {
        fn write_str(&mut self, s: &str) -> core::fmt::Result {
            let n = s.len().min(self.buf.len() - self.len);
            self.buf[self.len..self.len + n].copy_from_slice(&s.as_bytes()[..n]);
            self.len += n;
            Ok(())
        }
    }
    // First: the sandbox ends with what comes after. Not again where this itself panics.
    static DUMPED: core::sync::atomic::AtomicBool = core::sync::atomic::AtomicBool::new(false);
    if !DUMPED.swap(true, core::sync::atomic::Ordering::SeqCst) {
        crate::strace::ring::dump(crate::log::Level::Error, false);
    }
    let mut text = Text { buf: [0; 1024], len: 0 };
    let _ = write!(text, "{info}");
    for frame in crate::arch::backtrace().iter().take_while(|f| **f != 0) {
        let _ = write!(text, " {frame:#x}");
    }
    let (gpa, len) = crate::arch::hostcall::bounce(&text.buf[..text.len]);
    loop {
        crate::arch::host_call(&abi::hostcall::Panic { gpa, len });
    }
}
