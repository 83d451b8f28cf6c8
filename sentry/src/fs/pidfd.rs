//! Descriptors of processes: pidfd_open(2).

use crate::errno::{Errno, Result};
use crate::fs::synth::Synth;
use crate::kernel::process::{self, Life, ThreadGroup};
use crate::kernel::task::CurrentTask;
use crate::sync::Events;
use crate::vfs::file::{FileOps, Queues};
use crate::vfs::{OpenFile, anon};
use alloc::sync::Arc;
use core::any::Any;
use linux_raw_sys::general as c;

/// A process, to be waited for and signalled.
pub struct PidFd {
    group: Arc<ThreadGroup>,
}

impl FileOps for PidFd {
    fn poll(&self, _: &OpenFile) -> Events {
        if self.group.life() == Life::Alive { Events::empty() } else { Events::IN | Events::RDNORM }
    }

    fn queues<'a>(&'a self, _: &OpenFile, queues: &mut Queues<'a>) {
        queues.push(&self.group.change_queue);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// The process behind a description.
pub fn process_of(file: &OpenFile) -> Option<Arc<ThreadGroup>> {
    file.downcast::<PidFd>().map(|p| p.group.clone())
}

/// The process that pidfd_send_signal(2) means by a description: a pidfd, or a directory of /proc.
///
/// # Errors
/// EBADF where it is neither; ESRCH where the process is gone.
pub fn target(file: &OpenFile) -> Result<Arc<ThreadGroup>> {
    if let Some(group) = process_of(file) {
        return Ok(group);
    }
    let dir = file.path.inode().as_any().downcast_ref::<Synth>().and_then(Synth::process);
    process::find_group(dir.ok_or(Errno::EBADF)??).ok_or(Errno::ESRCH)
}

/// Makes a descriptor of a process; close-on-exec, as every pidfd is. `nonblock`: PIDFD_NONBLOCK.
///
/// # Errors
/// EMFILE.
pub fn install(task: &CurrentTask, group: &Arc<ThreadGroup>, nonblock: bool) -> Result<i32> {
    let flags = c::O_RDWR | if nonblock { c::O_NONBLOCK } else { 0 };
    let file = anon::file("[pidfd]", Arc::new(PidFd { group: group.clone() }), flags);
    let (limit, _) = task.rlimit(c::RLIMIT_NOFILE);
    task.files().install(file, true, limit).map_err(|_| Errno::EMFILE)
}
