//! All that is the CPU's.
/// Waits a little: a lock is held by another vCPU.
pub fn relax() { #[cfg(test)] std::thread::yield_now(); }
