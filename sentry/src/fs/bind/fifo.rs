//! Fifos in shared directories: both ends are in the sandbox, whatever name they were opened by.

use super::pages::Key;
use crate::fs::pipe::Pipe;
use crate::sync::SpinLock;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};

/// Those that are open.
static FIFOS: SpinLock<BTreeMap<Key, Weak<Pipe>>> = SpinLock::new(BTreeMap::new());

/// The pipe of a fifo of the host.
pub(super) fn of(key: Key) -> Arc<Pipe> {
    let new = Pipe::fifo();
    let mut fifos = FIFOS.lock();
    if let Some(pipe) = fifos.get(&key).and_then(Weak::upgrade) {
        drop(fifos);
        return pipe;
    }
    fifos.retain(|_, pipe| pipe.strong_count() != 0);
    fifos.insert(key, Arc::downgrade(&new));
    new
}
