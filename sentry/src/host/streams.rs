//! Host calls on the container's standard streams and console.

use crate::errno::Result;
use crate::mm::frames::page::KernelPage;
use abi::hostcall::{
    FileStat, StreamClose, StreamPoll, StreamRead, StreamSeek, StreamStat, StreamTerminal, StreamWrite,
};
use zerocopy::IntoBytes;

/// Reads without waiting; 0 at the end.
///
/// # Errors
/// EAGAIN and what the host says.
pub fn read(stream: u32, buf: &KernelPage, len: usize) -> Result<usize> {
    let len = len.min(buf.len()) as u64;
    Ok(super::call(&StreamRead { stream: stream.into(), gpa: buf.gpa(), len })? as usize)
}

/// Writes without waiting.
///
/// # Errors
/// EAGAIN, EPIPE and what the host says.
pub fn write(stream: u32, buf: &KernelPage, len: usize) -> Result<usize> {
    let len = len.min(buf.len()) as u64;
    Ok(super::call(&StreamWrite { stream: stream.into(), gpa: buf.gpa(), len })? as usize)
}

/// Readiness now as poll(2) bits; asks for an event when one of `events` comes.
///
/// # Errors
/// What the host says.
pub fn poll(stream: u32, events: u32) -> Result<u32> {
    Ok(super::call(&StreamPoll { stream: stream.into(), events: events.into() })? as u32)
}

/// Closes a stream for good.
pub fn close(stream: u32) {
    let _ = super::call(&StreamClose { stream: stream.into() });
}

/// Moves the offset of a stream that is a regular file.
///
/// # Errors
/// ESPIPE, EINVAL.
pub fn seek(stream: u32, offset: i64, whence: u32) -> Result<u64> {
    super::call(&StreamSeek { stream: stream.into(), offset: offset as u64, whence: whence.into() })
}

/// Metadata of a stream.
///
/// # Errors
/// What the host says.
pub fn stat(stream: u32) -> Result<FileStat> {
    let page = KernelPage::alloc()?;
    super::call(&StreamStat { stream: stream.into(), stat_gpa: page.gpa() })?;
    let mut stat = FileStat::default();
    page.read(0, stat.as_mut_bytes());
    Ok(stat)
}

/// A terminal request on a stream; `data` goes in and comes back.
///
/// # Errors
/// ENOTTY and what the host says.
pub fn terminal(stream: u32, request: u32, data: &mut [u8]) -> Result<()> {
    let page = KernelPage::alloc()?;
    page.write(0, data);
    super::call(&StreamTerminal { stream: stream.into(), request: request.into(), gpa: page.gpa() })?;
    page.read(0, data);
    Ok(())
}
