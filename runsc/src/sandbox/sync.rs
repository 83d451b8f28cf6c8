//! Messages from the sandbox process to the command that made it.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use serde::{Deserialize, Serialize};

/// Most bytes of a message.
const MAX_MESSAGE: usize = 1 << 20;

/// What the sandbox process tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// The container is made, and its program runs unless it waits for `start`.
    Created,
    /// The container could not be made, or its program not be found: the reason.
    Refused(String),
    /// The sandbox failed: the reason.
    Failed(String),
    /// The program ended with this exit code (128 + n for signal n).
    Ended(u8),
}

/// Sends a message. The command may be gone; whether it got the message is returned.
pub fn send(mut stream: &UnixStream, message: &Message) -> bool {
    let Ok(bytes) = postcard::to_allocvec(message) else { return false };
    let mut frame = (bytes.len() as u32).to_le_bytes().to_vec();
    frame.extend_from_slice(&bytes);
    stream.write_all(&frame).is_ok()
}

/// Receives a message; `None` once the sandbox process is gone.
pub fn receive(mut stream: &UnixStream) -> io::Result<Option<Message>> {
    let mut head = [0; 4];
    match stream.read_exact(&mut head) {
        Err(e) if matches!(e.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
            return Ok(None);
        }
        other => other?,
    }
    let len = u32::from_le_bytes(head) as usize;
    if len > MAX_MESSAGE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes)?;
    postcard::from_bytes(&bytes).map(Some).map_err(|_| io::ErrorKind::InvalidData.into())
}
