//! Tasks and thread groups.

use super::cred::Cred;
use crate::errno::Result;
use crate::mm::io::{Sink, Source};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The task that runs on this vCPU, as its system-call handlers see it.
pub struct CurrentTask {}

impl CurrentTask {
    /// Its credentials.
    pub fn cred(&self) -> Arc<Cred> {
        Arc::new(Cred::root())
    }

    /// Copies from the program's memory.
    ///
    /// # Errors
    /// EFAULT.
    pub fn read_bytes(&self, _addr: u64, _buf: &mut [u8]) -> Result<()> {
        Ok(())
    }

    /// Copies to the program's memory.
    ///
    /// # Errors
    /// EFAULT.
    pub fn write_bytes(&self, _addr: u64, _data: &[u8]) -> Result<()> {
        Ok(())
    }

    /// Reads a struct of the program.
    ///
    /// # Errors
    /// EFAULT.
    pub fn read_obj<T: zerocopy::FromBytes + zerocopy::IntoBytes>(&self, addr: u64) -> Result<T> {
        let mut value = T::new_zeroed();
        self.read_bytes(addr, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Writes a struct for the program.
    ///
    /// # Errors
    /// EFAULT.
    pub fn write_obj<T: zerocopy::IntoBytes + zerocopy::Immutable>(&self, addr: u64, value: &T) -> Result<()> {
        self.write_bytes(addr, value.as_bytes())
    }

    /// Reads a string up to its NUL, which is left out.
    ///
    /// # Errors
    /// EFAULT; ENAMETOOLONG where no NUL comes within `max` bytes.
    pub fn read_cstr(&self, _addr: u64, _max: usize) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    /// Memory of the program as the destination of a read. Ranges of `iov` are (address, length).
    pub fn sink(&self, _iov: &[(u64, usize)]) -> Box<dyn Sink + '_> {
        Box::new(crate::mm::io::SliceSink::new(&mut []))
    }

    /// Memory of the program as the origin of a write.
    pub fn source(&self, _iov: &[(u64, usize)]) -> Box<dyn Source + '_> {
        Box::new(crate::mm::io::SliceSource::new(&[]))
    }
}
