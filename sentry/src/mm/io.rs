//! Where the bytes of reads and writes go to and come from: memory of a program, or a buffer of the kernel.

use super::frames::FrameRef;
use crate::errno::Result;

/// Takes bytes: the destination of a read.
pub trait Sink {
    /// Bytes that still fit.
    fn remaining(&self) -> usize;

    /// Puts bytes, as many as fit.
    ///
    /// # Errors
    /// EFAULT where not one byte could be put; otherwise the number that could.
    fn put(&mut self, data: &[u8]) -> Result<usize>;

    /// Puts bytes of a frame.
    ///
    /// # Errors
    /// As [`Sink::put`].
    fn put_frame(&mut self, frame: &FrameRef, offset: usize, len: usize) -> Result<usize>;

    /// Puts zeros.
    ///
    /// # Errors
    /// As [`Sink::put`].
    fn put_zeros(&mut self, len: usize) -> Result<usize> {
        const ZEROS: [u8; 512] = [0; 512];
        let mut done = 0;
        while done < len && self.remaining() > 0 {
            match self.put(&ZEROS[..(len - done).min(512)]) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        Ok(done)
    }
}

/// Gives bytes: the origin of a write.
pub trait Source {
    /// Bytes left.
    fn remaining(&self) -> usize;

    /// Takes bytes, as many as `buf` holds or are left.
    ///
    /// # Errors
    /// EFAULT where not one byte could be taken; otherwise the number that could.
    fn take(&mut self, buf: &mut [u8]) -> Result<usize>;

    /// Takes bytes into a frame.
    ///
    /// # Errors
    /// As [`Source::take`].
    fn take_to_frame(&mut self, frame: &FrameRef, offset: usize, len: usize) -> Result<usize>;
}

/// A kernel buffer as a sink.
pub struct SliceSink<'a> {
    buf: &'a mut [u8],
    done: usize,
}

impl<'a> SliceSink<'a> {
    /// Fills `buf` from its start.
    pub fn new(buf: &'a mut [u8]) -> Self {
        Self { buf, done: 0 }
    }
}

impl Sink for SliceSink<'_> {
    fn remaining(&self) -> usize {
        self.buf.len() - self.done
    }

    fn put(&mut self, data: &[u8]) -> Result<usize> {
        let n = data.len().min(self.remaining());
        self.buf[self.done..self.done + n].copy_from_slice(&data[..n]);
        self.done += n;
        Ok(n)
    }

    fn put_frame(&mut self, frame: &FrameRef, offset: usize, len: usize) -> Result<usize> {
        let n = len.min(self.remaining());
        frame.read(offset, &mut self.buf[self.done..self.done + n]);
        self.done += n;
        Ok(n)
    }
}

/// A kernel buffer as a source.
pub struct SliceSource<'a> {
    data: &'a [u8],
}

impl<'a> SliceSource<'a> {
    /// Gives `data` from its start.
    pub fn new(data: &'a [u8]) -> Self {
        Self { data }
    }
}

impl Source for SliceSource<'_> {
    fn remaining(&self) -> usize {
        self.data.len()
    }

    fn take(&mut self, buf: &mut [u8]) -> Result<usize> {
        let n = buf.len().min(self.data.len());
        let (head, tail) = self.data.split_at(n);
        buf[..n].copy_from_slice(head);
        self.data = tail;
        Ok(n)
    }

    fn take_to_frame(&mut self, frame: &FrameRef, offset: usize, len: usize) -> Result<usize> {
        let n = len.min(self.data.len());
        let (head, tail) = self.data.split_at(n);
        frame.write(offset, head);
        self.data = tail;
        Ok(n)
    }
}
