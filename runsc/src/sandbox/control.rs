//! The control socket of a sandbox, from the side of the command line.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use abi::control::{Answer, Command, Reply, Request};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use crate::error::Error;

/// Name of the socket in the container's directory.
const NAME: &str = "control.sock";
/// Most bytes of an answer.
const MAX_ANSWER: usize = 1 << 20;

/// The socket's path through a descriptor of its directory: socket addresses are limited to 107 bytes.
fn short_path(dir: &Path) -> io::Result<(File, String)> {
    let dir = File::open(dir)?;
    let path = format!("/proc/self/fd/{}/{NAME}", dir.as_raw_fd());
    Ok((dir, path))
}

/// Makes the socket of a new sandbox.
pub fn listen(dir: &Path) -> Result<UnixListener, Error> {
    short_path(dir)
        .and_then(|(_dir, path)| UnixListener::bind(path))
        .map_err(|e| Error::os(format!("making the control socket in {}", dir.display()), e))
}

/// A connection to a sandbox.
pub struct Client {
    stream: UnixStream,
    next: u64,
}

impl Client {
    /// Connects to the sandbox whose container has the directory `dir`.
    pub fn connect(dir: &Path) -> Result<Self, Error> {
        short_path(dir)
            .and_then(|(_dir, path)| UnixStream::connect(path))
            .map(|stream| Self { stream, next: 0 })
            .map_err(|e| Error::os("connecting to the sandbox", e))
    }

    /// Sends a request without waiting for its answer.
    pub fn send(&mut self, request: Request) -> Result<u64, Error> {
        let frame = self.frame(request)?;
        self.stream.write_all(&frame).map_err(|e| Error::os("sending a command to the sandbox", e))?;
        Ok(self.next)
    }

    /// A request as it goes over the socket, with the next number.
    fn frame(&mut self, request: Request) -> Result<Vec<u8>, Error> {
        self.next += 1;
        let bytes = postcard::to_allocvec(&Command { id: self.next, request })
            .map_err(|_| Error::os("sending a command to the sandbox", io::ErrorKind::InvalidData))?;
        let mut frame = (bytes.len() as u32).to_le_bytes().to_vec();
        frame.extend_from_slice(&bytes);
        Ok(frame)
    }

    /// Sends a request together with descriptors, without waiting for its answer.
    pub fn send_with_files(&mut self, request: Request, files: &[BorrowedFd<'_>]) -> Result<u64, Error> {
        let fail = |e: nix::errno::Errno| Error::os("sending descriptors to the sandbox", e);
        let frame = self.frame(request)?;
        let fds: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
        let data = [IoSlice::new(&frame)];
        let control = [ControlMessage::ScmRights(&fds)];
        let sent = sendmsg::<()>(self.stream.as_raw_fd(), &data, &control, MsgFlags::empty(), None);
        let sent = sent.map_err(fail)?;
        let rest = frame.get(sent..).unwrap_or_default();
        self.stream.write_all(rest).map_err(|e| Error::os("sending a command to the sandbox", e))?;
        Ok(self.next)
    }

    /// Sends a request and waits for its answer, at most `patience`.
    pub fn ask(&mut self, request: Request, patience: Option<Duration>) -> Result<Answer, Error> {
        let sent = self.send(request)?;
        self.answer(sent, patience)
    }

    /// The same, with a file that the sandbox works with.
    pub fn ask_with_file(
        &mut self,
        request: Request,
        file: &File,
        patience: Option<Duration>,
    ) -> Result<Answer, Error> {
        let sent = self.send_with_files(request, &[file.as_fd()])?;
        self.answer(sent, patience)
    }

    /// Waits for the answer to the request with this number, at most `patience`.
    pub fn answer(&mut self, sent: u64, patience: Option<Duration>) -> Result<Answer, Error> {
        self.stream.set_read_timeout(patience).map_err(|e| Error::os("waiting for the sandbox", e))?;
        loop {
            if let Reply::Done { id, result } = self.receive()?
                && id == sent
            {
                return result.map_err(|failure| Error::Refused(Error::describe(&failure)));
            }
        }
    }

    /// Waits for the next answer or event.
    pub fn receive(&mut self) -> Result<Reply, Error> {
        let fail = |e: io::Error| Error::os("waiting for the sandbox", e);
        let mut head = [0; 4];
        self.stream.read_exact(&mut head).map_err(fail)?;
        let len = u32::from_le_bytes(head) as usize;
        if len > MAX_ANSWER {
            return Err(fail(io::ErrorKind::InvalidData.into()));
        }
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes).map_err(fail)?;
        postcard::from_bytes(&bytes).map_err(|_| fail(io::ErrorKind::InvalidData.into()))
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
