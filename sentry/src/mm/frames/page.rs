//! Pages of kernel memory as buffers of host calls.

use super::{alloc_kernel, alloc_kernel_or_fail, free_kernel, gpa_of, read_raw, write_raw};
use crate::errno::{Errno, Result};
use abi::PAGE_SIZE;

/// A block of kernel memory of 2^order pages, owned.
pub struct KernelPage {
    gpa: u64,
    va: usize,
    order: u8,
}

impl KernelPage {
    /// One page; contents undefined.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn alloc() -> Result<Self> {
        Self::alloc_order(0)
    }

    /// 2^`order` contiguous pages; contents undefined.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn alloc_order(order: u8) -> Result<Self> {
        // A single page is used for a moment, by calls that give memory back too.
        let va = if order == 0 { alloc_kernel(0) } else { alloc_kernel_or_fail(order) };
        let va = va.ok_or(Errno::ENOMEM)?;
        Ok(Self { gpa: gpa_of(va), va: va.expose_provenance(), order })
    }

    /// Guest-physical address.
    pub fn gpa(&self) -> u64 {
        self.gpa
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        (PAGE_SIZE as usize) << self.order
    }

    /// Never.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Copies out of it; what lies beyond its end is left as it is.
    pub fn read(&self, offset: usize, buf: &mut [u8]) {
        let n = buf.len().min(self.len().saturating_sub(offset));
        let Some(part) = buf.get_mut(..n) else { return };
        // SAFETY: the range lies in the block, which is owned.
        unsafe { read_raw(self.gpa + offset as u64, part) };
    }

    /// Copies into it; what does not fit is left out.
    pub fn write(&self, offset: usize, data: &[u8]) {
        let n = data.len().min(self.len().saturating_sub(offset));
        let Some(part) = data.get(..n) else { return };
        // SAFETY: the range lies in the block, which is owned.
        unsafe { write_raw(self.gpa + offset as u64, part) };
    }
}

impl Drop for KernelPage {
    fn drop(&mut self) {
        let va = core::ptr::with_exposed_provenance_mut(self.va);
        // SAFETY: the block came from `alloc_kernel` with this order, and is owned.
        unsafe { free_kernel(va, self.order) };
    }
}
