//! The other end of epoll(7): which epoll instances watch a description.

use super::file::OpenFile;
use crate::sync::SpinLock;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// One watch of an epoll instance.
pub trait EpollLink: Send + Sync {
    /// The description is closed: leave its queues and the instance.
    fn file_closed(&self, file: &OpenFile);
}

/// The watches of a description.
pub struct EpollLinks {
    links: SpinLock<Vec<Arc<dyn EpollLink>>>,
}

impl EpollLinks {
    /// None.
    pub const fn new() -> Self {
        Self { links: SpinLock::new(Vec::new()) }
    }

    /// Adds one.
    pub fn add(&self, link: Arc<dyn EpollLink>) {
        self.links.lock().push(link);
    }

    /// Takes one out.
    pub fn remove(&self, link: &Arc<dyn EpollLink>) {
        let mut links = self.links.lock();
        let found = links.iter().position(|l| core::ptr::addr_eq(Arc::as_ptr(l), Arc::as_ptr(link)));
        let removed = found.map(|at| links.swap_remove(at));
        drop(links);
        drop(removed);
    }

    pub(super) fn close(&self, file: &OpenFile) {
        let links = core::mem::take(&mut *self.links.lock());
        for link in links {
            link.file_closed(file);
        }
    }
}

impl Default for EpollLinks {
    fn default() -> Self {
        Self::new()
    }
}
