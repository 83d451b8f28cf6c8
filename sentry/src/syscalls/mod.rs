//! System calls: the table, and a file for each family of handlers.

use crate::errno::Result;
use crate::kernel::task::CurrentTask;

/// The six arguments of a system call.
#[derive(Debug, Clone, Copy, Default)]
pub struct Args(pub [u64; 6]);

impl Args {
    /// Argument `n` as it is: an address, a length.
    #[inline]
    pub fn u64(&self, n: usize) -> u64 {
        self.0[n]
    }

    /// Argument `n` as the C type int.
    #[inline]
    pub fn i32(&self, n: usize) -> i32 {
        self.0[n] as i32
    }

    /// Argument `n` as the C type unsigned int.
    #[inline]
    pub fn u32(&self, n: usize) -> u32 {
        self.0[n] as u32
    }

    /// Argument `n` as the C type long.
    #[inline]
    pub fn i64(&self, n: usize) -> i64 {
        self.0[n] as i64
    }
}

/// A handler.
pub type Handler = fn(&CurrentTask, &Args) -> Result<u64>;
