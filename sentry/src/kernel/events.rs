//! Events from the VMM: control commands, readiness of streams, the window size, host files.

use crate::arch::port;
use crate::sync::{Events, Once, WaitQueue};
use abi::boot::{EVENT_CONTROL, EVENT_FILES, EVENT_IMAGES, EVENT_STREAM, EVENT_WINCH};
use core::sync::atomic::{AtomicU64, Ordering};

static PAGE: Once<&'static AtomicU64> = Once::new();

/// Woken when a control command waits.
pub static CONTROL: WaitQueue = WaitQueue::new();
/// Woken when a stream that was polled may be ready.
pub static STREAMS: WaitQueue = WaitQueue::new();
/// Woken when the console's window size has changed.
pub static WINDOW: WaitQueue = WaitQueue::new();
/// Woken when watched host files have events.
pub static FILES: WaitQueue = WaitQueue::new();
/// How often.
pub static FILES_TOLD: AtomicU64 = AtomicU64::new(0);

/// Sets the word of the shared page.
pub fn init(word: &'static AtomicU64) {
    let _ = PAGE.set(word);
}

/// Whether an event waits to be taken.
pub fn pending() -> bool {
    PAGE.get().is_some_and(|word| word.load(Ordering::SeqCst) != 0)
}

/// Takes the events and wakes those who wait for them.
pub fn poll() {
    let Some(word) = PAGE.get() else { return };
    if word.load(Ordering::Relaxed) == 0 {
        return;
    }
    let events = word.swap(0, Ordering::SeqCst);
    if events & EVENT_CONTROL != 0 {
        CONTROL.wake(Events::IN);
    }
    if events & EVENT_STREAM != 0 {
        STREAMS.wake(Events::all());
    }
    if events & EVENT_FILES != 0 {
        files();
    }
    if events & EVENT_IMAGES != 0 {
        // Each drops what its program has mapped before that runs on.
        port::kick_others();
    }
    if events & EVENT_WINCH != 0 {
        WINDOW.wake(Events::IN);
    }
}

/// Wakes those who wait for events of watched host files.
pub fn files() {
    FILES_TOLD.fetch_add(1, Ordering::SeqCst);
    FILES.wake(Events::IN);
}
