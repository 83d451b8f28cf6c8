//! Counters of our own sandboxes, through their control sockets.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use abi::control::{Answer, Command, Counters, Reply, Request};

/// Time that the sandbox gets for an answer.
const LIMIT: Duration = Duration::from_secs(5);
/// Most bytes of an answer.
const MAX_ANSWER: usize = 64 << 10;

/// A connection to a sandbox.
pub struct Client {
    stream: UnixStream,
    next: u64,
}

impl Client {
    /// Connects to the container whose directory is `dir`.
    pub fn connect(dir: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(dir.join("control.sock"))?;
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(Self { stream, next: 0 })
    }

    /// What the sandbox process has counted since its start.
    pub fn read(&mut self) -> io::Result<Counters> {
        self.next += 1;
        let command = Command { id: self.next, request: Request::Counters };
        let message = postcard::to_allocvec(&command).map_err(io::Error::other)?;
        let mut frame = (message.len() as u32).to_le_bytes().to_vec();
        frame.extend_from_slice(&message);
        self.stream.write_all(&frame)?;
        let mut head = [0; 4];
        self.stream.read_exact(&mut head)?;
        let len = u32::from_le_bytes(head) as usize;
        if len > MAX_ANSWER {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut answer = vec![0; len];
        self.stream.read_exact(&mut answer)?;
        match postcard::from_bytes(&answer) {
            Ok(Reply::Done { id, result: Ok(Answer::Counters(counters)) }) if id == self.next => Ok(counters),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}
