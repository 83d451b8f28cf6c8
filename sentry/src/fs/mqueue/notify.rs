//! Who is told that a message came into an empty queue: mq_notify(3).

use crate::kernel::process;
use crate::kernel::signal::{self, SigInfo};
use crate::net::Socket;
use crate::net::netlink::NetlinkSocket;
use crate::vfs::hooks::kernel;
use alloc::sync::Arc;
use linux_raw_sys::general as c;

/// Bytes that a thread's library wants back through its socket, the last of which tells why: NOTIFY_COOKIE_LEN.
pub const COOKIE: usize = 32;
/// Last byte of the cookie: a message came.
const WOKEN: u8 = 1;
/// Last byte of the cookie: the registration is gone.
const REMOVED: u8 = 2;

/// Why a registration ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A message came.
    Message,
    /// It was taken back.
    Removed,
}

/// How its owner is told.
pub enum Method {
    /// Not at all.
    None,
    /// By a signal with a value.
    Signal(u32, u64),
    /// By the cookie through a netlink socket: SIGEV_THREAD.
    Socket(Arc<dyn Socket>, [u8; COOKIE]),
}

/// Who is told.
pub struct Registration {
    /// The process.
    pub pid: u32,
    /// How.
    pub method: Method,
}

impl Registration {
    /// Tells the owner.
    pub fn tell(self, event: Event) {
        match self.method {
            Method::Socket(socket, mut cookie) => {
                cookie[COOKIE - 1] = if event == Event::Message { WOKEN } else { REMOVED };
                if let Some(netlink) = socket.as_any().downcast_ref::<NetlinkSocket>() {
                    netlink.deliver(&cookie);
                }
            }
            Method::Signal(signal, value) if event == Event::Message => {
                let (pid, uid) =
                    (kernel().current().map_or(0, |c| c.0), kernel().current_cred().map_or(0, |c| c.uid));
                let mut info = SigInfo::user(signal, c::SI_MESGQ, pid, uid);
                info.fields[1] = value;
                if let Some(group) = process::find_group(self.pid) {
                    let _ = signal::send_group(&group, info);
                }
            }
            _ => {}
        }
    }

    /// SIGEV_* number, signal and process, as the queue's file shows them.
    pub fn figures(&self) -> (u32, u32, u32) {
        match self.method {
            Method::None => (c::SIGEV_NONE, 0, self.pid),
            Method::Signal(signal, _) => (c::SIGEV_SIGNAL, signal, self.pid),
            Method::Socket(..) => (c::SIGEV_THREAD, 0, self.pid),
        }
    }
}
