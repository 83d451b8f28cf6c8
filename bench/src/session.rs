//! Programs that run under a time limit.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A program of operations that waits for requests.
pub struct Session {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Session {
    /// Starts it and waits until it is ready, at most `limit`.
    pub fn start(mut command: Command, limit: Duration) -> io::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (sender, lines) = channel();
        let output = output.ok_or(io::ErrorKind::BrokenPipe)?;
        // It ends when the program does, or when nobody listens any more.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut session = Self { child, input, lines };
        match session.line(limit) {
            Ok(line) if line == "ready" => Ok(session),
            Ok(line) => Err(io::Error::other(format!("it said {line:?}"))),
            Err(error) => {
                session.end();
                Err(error)
            }
        }
    }

    fn line(&self, limit: Duration) -> io::Result<String> {
        self.lines.recv_timeout(limit).map_err(|error| match error {
            RecvTimeoutError::Timeout => io::ErrorKind::TimedOut.into(),
            RecvTimeoutError::Disconnected => io::ErrorKind::UnexpectedEof.into(),
        })
    }

    /// Sends a request and returns the answer, which takes at most `limit`.
    pub fn ask(&mut self, request: &str, limit: Duration) -> io::Result<String> {
        let input = self.input.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        input.write_all(format!("{request}\n").as_bytes())?;
        self.line(limit)
    }

    /// Lets the program end at the end of its input; kills it if it does not.
    pub fn end(&mut self) {
        self.input = None;
        let _ = finish(&mut self.child, Duration::from_secs(3));
    }
}

/// Waits for the end of a child, at most `limit`; then it is killed. Returns whether it ended with success.
pub fn finish(child: &mut Child, limit: Duration) -> io::Result<bool> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if start.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Kills all processes whose command line names a directory of ours: what a runtime that hangs leaves behind.
pub fn sweep(dir: &Path) {
    let name = dir.as_os_str().as_bytes();
    let own = std::process::id();
    let Ok(processes) = std::fs::read_dir("/proc") else { return };
    for entry in processes.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|text| text.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        if pid != own && line.windows(name.len()).any(|part| part == name) {
            let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
        }
    }
}
