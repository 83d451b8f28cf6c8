//! Limits of queues: /proc/sys/fs/mqueue, and RLIMIT_MSGQUEUE for each user.

use super::queue::Shape;
use crate::errno::{Errno, Result};
use crate::ipc::limits::{Bounded, Limit, get};
use crate::kernel::cred::{Cred, cap};
use crate::sync::SpinLock;
use crate::vfs::hooks::kernel;
use alloc::collections::BTreeMap;
use linux_raw_sys::general as c;

/// fs.mqueue.msg_default: messages of a queue made without attributes.
pub static MSG_DEFAULT: Limit = Limit::new(10);
/// fs.mqueue.msg_max: most messages of a queue.
pub static MSG_MAX: Limit = Limit::new(10);
/// fs.mqueue.msgsize_default: longest message of a queue made without attributes.
pub static MSGSIZE_DEFAULT: Limit = Limit::new(8192);
/// fs.mqueue.msgsize_max: longest message.
pub static MSGSIZE_MAX: Limit = Limit::new(8192);
/// fs.mqueue.queues_max: most queues.
pub static QUEUES_MAX: Limit = Limit::new(256);

/// Most messages, whoever asks.
const HARD_MESSAGES: u64 = 65_536;
/// Longest message, whoever asks.
const HARD_SIZE: u64 = 16 << 20;

/// fs.mqueue.msg_default
pub static MSG_DEFAULT_FILE: [Bounded; 1] = [(&MSG_DEFAULT, HARD_MESSAGES)];
/// fs.mqueue.msg_max
pub static MSG_MAX_FILE: [Bounded; 1] = [(&MSG_MAX, HARD_MESSAGES)];
/// fs.mqueue.msgsize_default
pub static MSGSIZE_DEFAULT_FILE: [Bounded; 1] = [(&MSGSIZE_DEFAULT, HARD_SIZE)];
/// fs.mqueue.msgsize_max
pub static MSGSIZE_MAX_FILE: [Bounded; 1] = [(&MSGSIZE_MAX, HARD_SIZE)];
/// fs.mqueue.queues_max
pub static QUEUES_MAX_FILE: [Bounded; 1] = [(&QUEUES_MAX, i32::MAX as u64)];

/// Bytes of queues by user, and the number of queues.
struct Users {
    bytes: BTreeMap<u32, u64>,
    queues: u64,
}

static USERS: SpinLock<Users> = SpinLock::new(Users { bytes: BTreeMap::new(), queues: 0 });

/// The size of a queue made without attributes.
pub fn default_shape() -> Shape {
    Shape {
        messages: get(&MSG_DEFAULT).min(get(&MSG_MAX)),
        size: get(&MSGSIZE_DEFAULT).min(get(&MSGSIZE_MAX)),
    }
}

/// The size that was asked for, if it may be.
///
/// # Errors
/// EINVAL.
pub fn check(shape: Shape, cred: &Cred) -> Result<Shape> {
    let (messages, size) = if cred.has(cap::SYS_RESOURCE) {
        (HARD_MESSAGES, HARD_SIZE)
    } else {
        (get(&MSG_MAX), get(&MSGSIZE_MAX))
    };
    let fits = (1..=messages).contains(&shape.messages) && (1..=size).contains(&shape.size);
    if fits { Ok(shape) } else { Err(Errno::EINVAL) }
}

/// What a queue holds of its user's limit, given back when it is gone.
pub struct Held {
    user: u32,
    bytes: u64,
}

impl Held {
    /// Counts a queue for its maker.
    ///
    /// # Errors
    /// ENOSPC beyond fs.mqueue.queues_max, EMFILE beyond RLIMIT_MSGQUEUE.
    pub fn new(cred: &Cred, bytes: u64) -> Result<Self> {
        let tid = kernel().current().map_or(0, |c| c.1);
        let limits = kernel().limits(tid);
        let limit = limits.get(c::RLIMIT_MSGQUEUE as usize).map_or(0, |l| l.0);
        let mut users = USERS.lock();
        if users.queues >= get(&QUEUES_MAX) && !cred.has(cap::SYS_RESOURCE) {
            return Err(Errno::ENOSPC);
        }
        let sum = users.bytes.get(&cred.euid).copied().unwrap_or(0).saturating_add(bytes);
        if sum > limit {
            return Err(Errno::EMFILE);
        }
        users.bytes.insert(cred.euid, sum);
        users.queues += 1;
        Ok(Self { user: cred.euid, bytes })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut users = USERS.lock();
        users.queues -= 1;
        let left = users.bytes.get(&self.user).copied().unwrap_or(0).saturating_sub(self.bytes);
        if left == 0 {
            users.bytes.remove(&self.user);
        } else {
            users.bytes.insert(self.user, left);
        }
    }
}
