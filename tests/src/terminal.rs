//! Pseudo-terminals, and dialogues on them: what is typed, and what must come back before more is.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Longest time in which an answer comes, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The master of a terminal, and what was read from it.
pub struct Terminal {
    /// Whose it is, for messages.
    name: String,
    master: File,
    text: String,
    /// How much of the text was waited for.
    seen: usize,
}

impl Terminal {
    /// A new terminal of 24 rows and 80 columns.
    ///
    /// # Errors
    /// Of the host.
    pub fn open(name: &str) -> std::io::Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        unlockpt(&master)?;
        let terminal = Self::of(name, master);
        terminal.resize(24, 80)?;
        Ok(terminal)
    }

    /// A terminal whose master somebody else has made.
    pub fn of(name: &str, master: OwnedFd) -> Self {
        Self { name: name.to_string(), master: master.into(), text: String::new(), seen: 0 }
    }

    /// Sets the size of the window.
    ///
    /// # Errors
    /// Of the host.
    pub fn resize(&self, rows: u16, columns: u16) -> std::io::Result<()> {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(tcsetwinsize(&self.master, size)?)
    }

    /// Starts a command that has the terminal as its controlling terminal and as its standard streams.
    ///
    /// # Errors
    /// Of the host.
    pub fn spawn(&self, command: &Command) -> std::io::Result<Child> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = ioctl_tiocgptpeer(&self.master, flags)?;
        // setsid(1) takes the terminal, which this process must not; env(1) undoes what this process's parents ignore.
        let mut leader = Command::new("env");
        leader
            .args(["--default-signal", "setsid", "--ctty", "--wait"])
            .arg(command.get_program())
            .args(command.get_args());
        leader.env_clear();
        for (name, value) in command.get_envs() {
            value.map(|value| leader.env(name, value));
        }
        leader.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave).spawn()
    }

    /// Types something.
    ///
    /// # Panics
    /// Where the terminal does not take it.
    pub fn send(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("the terminal takes what is typed");
    }

    /// Reads until `text` comes, which must be after what was waited for before.
    ///
    /// # Panics
    /// Where it does not come.
    pub fn expect(&mut self, text: &str) {
        let begin = Instant::now();
        loop {
            if let Some(at) = self.text[self.seen..].find(text) {
                self.seen += at + text.len();
                return;
            }
            let more = self.read(PATIENCE.saturating_sub(begin.elapsed()));
            assert!(more, "{}: {text:?} did not come after:\n{:?}", self.name, self.text);
        }
    }

    /// Types something and reads until `text` comes.
    ///
    /// # Panics
    /// Where it does not come.
    pub fn ask(&mut self, line: &str, text: &str) {
        self.send(line);
        self.expect(text);
    }

    /// Reads to the end, when nobody has the terminal open any more. Returns all that was read since the beginning.
    ///
    /// # Panics
    /// Where it does not end.
    pub fn finish(&mut self) -> String {
        let begin = Instant::now();
        while self.read(PATIENCE) {
            assert!(begin.elapsed() < PATIENCE, "{}: the dialogue does not end:\n{:?}", self.name, self.text);
        }
        self.text.clone()
    }

    /// Reads what is there within `patience`; false at the end.
    fn read(&mut self, patience: Duration) -> bool {
        let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
        let patience = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: 0 };
        let ready = poll(&mut fds, Some(&patience)).expect("poll");
        assert!(ready > 0, "{}: nothing came any more after:\n{:?}", self.name, self.text);
        let mut buffer = [0; 4096];
        // A master whose slave is closed answers EIO.
        match self.master.read(&mut buffer) {
            Ok(0) | Err(_) => false,
            Ok(n) => {
                self.text.push_str(&String::from_utf8_lossy(&buffer[..n]));
                true
            }
        }
    }

    /// Whether the terminal does line editing, as it was set.
    ///
    /// # Errors
    /// Of the host.
    pub fn is_cooked(&self) -> std::io::Result<bool> {
        let modes = rustix::termios::tcgetattr(&self.master)?.local_modes;
        Ok(modes.contains(rustix::termios::LocalModes::ICANON))
    }
}
