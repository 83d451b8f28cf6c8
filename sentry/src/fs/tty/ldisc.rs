//! The line discipline of terminals, termios(3).

use crate::vfs::uapi::Termios;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use linux_raw_sys::general as c;
use smallvec::SmallVec;

/// Bytes of input that are kept (N_TTY_BUF_SIZE).
const MAX_INPUT: usize = 4096;
/// Bytes of output that wait for the master.
const MAX_OUTPUT: usize = 16 << 10;

const ECHOE: u32 = c::ECHOE;

/// A line that was ended, in what can be read.
struct Line {
    len: usize,
    /// Ended by VEOF: nothing of it is in the data, and an empty one reads as the end of the file.
    eof: bool,
}

/// State of a terminal between what is typed and what is read.
pub struct Ldisc {
    /// Settings.
    pub termios: Termios,
    ready: VecDeque<u8>,
    lines: VecDeque<Line>,
    /// The line being edited.
    line: Vec<u8>,
    literal: bool,
    /// Output was stopped by VSTOP or TCOOFF.
    pub stopped: bool,
    column: usize,
    /// What the master reads.
    pub out: VecDeque<u8>,
    /// Times that output was flushed.
    flushes: u64,
}

/// Signals that input caused.
pub type Signals = SmallVec<[u32; 2]>;

/// Settings of a new terminal.
pub fn default_termios() -> Termios {
    let mut cc = [0u8; 19];
    let set: &[(u32, u8)] = &[
        (c::VINTR, 3),
        (c::VQUIT, 28),
        (c::VERASE, 127),
        (c::VKILL, 21),
        (c::VEOF, 4),
        (c::VMIN, 1),
        (c::VSTART, 17),
        (c::VSTOP, 19),
        (c::VSUSP, 26),
        (c::VREPRINT, 18),
        (c::VDISCARD, 15),
        (c::VWERASE, 23),
        (c::VLNEXT, 22),
    ];
    for (at, value) in set {
        if let Some(slot) = cc.get_mut(*at as usize) {
            *slot = *value;
        }
    }
    Termios {
        iflag: c::ICRNL | c::IXON,
        oflag: c::OPOST | c::ONLCR,
        cflag: c::B38400 | c::CS8 | c::CREAD,
        lflag: c::ISIG | c::ICANON | c::ECHO | ECHOE | c::ECHOK | c::ECHOCTL | c::ECHOKE | c::IEXTEN,
        line: 0,
        cc,
    }
}

impl Ldisc {
    /// A new terminal's.
    pub fn new() -> Self {
        Self {
            termios: default_termios(),
            ready: VecDeque::new(),
            lines: VecDeque::new(),
            line: Vec::new(),
            literal: false,
            stopped: false,
            column: 0,
            out: VecDeque::new(),
            flushes: 0,
        }
    }

    fn l(&self, flag: u32) -> bool {
        self.termios.lflag & flag != 0
    }

    fn i(&self, flag: u32) -> bool {
        self.termios.iflag & flag != 0
    }

    fn is(&self, byte: u8, which: u32) -> bool {
        let set = self.termios.cc.get(which as usize).copied().unwrap_or(0);
        set != 0 && set == byte
    }

    /// VMIN and VTIME.
    pub fn min_time(&self) -> (usize, u64) {
        let cc = |n: u32| self.termios.cc.get(n as usize).copied().unwrap_or(0);
        (cc(c::VMIN).into(), cc(c::VTIME).into())
    }

    /// Whether lines are edited.
    pub fn canonical(&self) -> bool {
        self.l(c::ICANON)
    }

    /// Takes new settings.
    pub fn set_termios(&mut self, new: Termios) {
        let was = self.canonical();
        self.termios = new;
        if was && !self.canonical() {
            // What was typed so far can be read now.
            self.ready.extend(self.line.drain(..));
            self.lines.clear();
        } else if !was && self.canonical() && !self.ready.is_empty() {
            self.lines.push_back(Line { len: self.ready.len(), eof: true });
        }
        if !self.i(c::IXON) {
            self.stopped = false;
        }
    }

    fn room(&self) -> bool {
        self.ready.len() + self.line.len() < MAX_INPUT
    }

    /// Whether input can be taken: the master may write.
    pub fn accepts(&self) -> bool {
        self.room() || self.canonical() && self.lines.is_empty()
    }

    /// Takes what was typed.
    pub fn input(&mut self, bytes: &[u8]) -> Signals {
        let mut signals = Signals::new();
        for byte in bytes {
            self.input_byte(*byte, &mut signals);
        }
        signals
    }

    fn input_byte(&mut self, byte: u8, signals: &mut Signals) {
        let mut byte = if self.i(c::ISTRIP) { byte & 0x7f } else { byte };
        if core::mem::take(&mut self.literal) {
            self.accept(byte);
            return;
        }
        if self.i(c::IXON) && !self.l(c::EXTPROC) {
            if self.is(byte, c::VSTOP) {
                self.stopped = true;
                return;
            }
            if self.is(byte, c::VSTART) {
                self.stopped = false;
                return;
            }
            if self.stopped && self.i(c::IXANY) {
                self.stopped = false;
            }
        }
        if self.l(c::ISIG) {
            let signal = if self.is(byte, c::VINTR) {
                Some(c::SIGINT)
            } else if self.is(byte, c::VQUIT) {
                Some(c::SIGQUIT)
            } else if self.is(byte, c::VSUSP) {
                Some(c::SIGTSTP)
            } else {
                None
            };
            if let Some(signal) = signal {
                if !self.l(c::NOFLSH) {
                    self.flush_input();
                    self.flush_output();
                }
                self.stopped = false;
                self.echo(byte);
                signals.push(signal);
                return;
            }
        }
        match byte {
            b'\r' if self.i(c::IGNCR) => return,
            b'\r' if self.i(c::ICRNL) => byte = b'\n',
            b'\n' if self.i(c::INLCR) => byte = b'\r',
            _ => {}
        }
        if self.canonical() {
            self.edit(byte);
        } else {
            if self.room() {
                self.echo(byte);
            }
            self.accept_raw(byte);
        }
    }

    fn accept_raw(&mut self, byte: u8) {
        if self.room() {
            self.ready.push_back(byte);
        }
    }

    /// A byte of a line, or of raw input, without special meaning.
    fn accept(&mut self, byte: u8) {
        self.echo(byte);
        if !self.canonical() {
            self.accept_raw(byte);
        } else if self.line.len() < MAX_INPUT - 1 {
            self.line.push(byte);
        }
    }

    fn edit(&mut self, byte: u8) {
        let extended = self.l(c::IEXTEN);
        if self.is(byte, c::VERASE) || self.is(byte, c::VKILL) || extended && self.is(byte, c::VWERASE) {
            self.erase(byte);
        } else if extended && self.is(byte, c::VLNEXT) {
            self.literal = true;
            if self.l(c::ECHO) && self.l(c::ECHOCTL) {
                self.put(b"^\x08");
            }
        } else if extended && self.is(byte, c::VREPRINT) && self.l(c::ECHO) {
            self.echo(byte);
            self.emit(b'\n');
            for b in self.line.clone() {
                self.echo(b);
            }
        } else if byte == b'\n' {
            if self.l(c::ECHO) || self.l(c::ECHONL) {
                self.emit(b'\n');
            }
            self.line.push(byte);
            self.end_line(false);
        } else if self.is(byte, c::VEOF) {
            self.end_line(true);
        } else if self.is(byte, c::VEOL) || extended && self.is(byte, c::VEOL2) {
            self.echo(byte);
            self.line.push(byte);
            self.end_line(false);
        } else {
            self.accept(byte);
        }
    }

    fn end_line(&mut self, eof: bool) {
        self.lines.push_back(Line { len: self.line.len(), eof });
        self.ready.extend(self.line.drain(..));
    }

    fn erase(&mut self, byte: u8) {
        let kill = self.is(byte, c::VKILL);
        let word = self.is(byte, c::VWERASE);
        let mut seen_word = false;
        while let Some(last) = self.line.last().copied() {
            if word {
                let blank = matches!(last, b' ' | b'\t');
                if blank && seen_word {
                    break;
                }
                seen_word |= !blank;
            }
            // A character of several bytes goes as a whole.
            let mut gone = self.line.pop();
            while self.i(c::IUTF8) && gone.is_some_and(|b| b & 0xc0 == 0x80) {
                gone = self.line.pop();
            }
            if self.l(c::ECHO) && self.l(ECHOE) {
                let width = if last < 32 || last == 127 { if self.l(c::ECHOCTL) { 2 } else { 0 } } else { 1 };
                for _ in 0..width {
                    self.put(b"\x08 \x08");
                    self.column = self.column.saturating_sub(1);
                }
            }
            if !kill && !word {
                break;
            }
        }
        if kill && self.l(c::ECHO) && self.l(c::ECHOK) && !self.l(c::ECHOKE) {
            self.emit(b'\n');
        }
    }

    fn echo(&mut self, byte: u8) {
        if !self.l(c::ECHO) {
            return;
        }
        let control = byte < 32 && byte != b'\n' && byte != b'\t' || byte == 127;
        if control && self.l(c::ECHOCTL) {
            self.put(&[b'^', byte ^ 0x40]);
            self.column += 2;
        } else {
            self.emit(byte);
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        if self.out.len() + bytes.len() <= MAX_OUTPUT + 1024 {
            self.out.extend(bytes);
        }
    }

    /// One byte of output, processed.
    fn emit(&mut self, byte: u8) {
        let o = self.termios.oflag;
        if o & c::OPOST == 0 {
            self.put(&[byte]);
            return;
        }
        match byte {
            b'\n' => {
                if o & c::ONLRET != 0 {
                    self.column = 0;
                }
                if o & c::ONLCR != 0 {
                    self.column = 0;
                    self.put(b"\r\n");
                } else {
                    self.put(b"\n");
                }
            }
            b'\r' if o & c::ONOCR != 0 && self.column == 0 => {}
            b'\r' => {
                self.column = 0;
                self.put(if o & c::OCRNL != 0 { b"\n" } else { b"\r" });
            }
            b'\t' if o & c::TABDLY == c::TAB3 => {
                let spaces = 8 - self.column % 8;
                self.column += spaces;
                for _ in 0..spaces {
                    self.put(b" ");
                }
            }
            8 => {
                self.column = self.column.saturating_sub(1);
                self.put(&[8]);
            }
            _ => {
                if byte >= 32 {
                    self.column += 1;
                }
                self.put(&[if o & c::OLCUC != 0 { byte.to_ascii_uppercase() } else { byte }]);
            }
        }
    }

    /// Whether output is taken.
    pub fn writable(&self) -> bool {
        !self.stopped && self.out.len() < MAX_OUTPUT
    }

    /// Takes output of a program; returns how much of it.
    pub fn output(&mut self, bytes: &[u8]) -> usize {
        let mut done = 0;
        for byte in bytes {
            if !self.writable() {
                break;
            }
            self.emit(*byte);
            done += 1;
        }
        done
    }

    /// Up to `max` bytes of output that go to the host, and a mark to give back with how many went: meanwhile output may
    /// be flushed, and other come.
    pub fn outgoing(&self, max: usize) -> (Vec<u8>, u64) {
        (self.out.iter().take(max).copied().collect(), self.flushes)
    }

    /// The first `n` bytes of [`Self::outgoing`] went to the host.
    pub fn gone(&mut self, n: usize, mark: u64) {
        if mark == self.flushes {
            self.out.drain(..n.min(self.out.len()));
        }
    }

    /// Forgets output.
    pub fn flush_output(&mut self) {
        self.out.clear();
        self.flushes += 1;
    }

    /// Bytes that a read could give now; `None` where it would wait.
    pub fn readable(&self) -> Option<usize> {
        if self.canonical() {
            self.lines.front().map(|l| l.len)
        } else if self.ready.is_empty() {
            None
        } else {
            Some(self.ready.len())
        }
    }

    /// Takes up to `max` bytes that can be read: at most one line where lines are edited.
    pub fn read(&mut self, max: usize) -> Option<Vec<u8>> {
        let n = self.readable()?.min(max);
        let data: Vec<u8> = self.ready.drain(..n.min(self.ready.len())).collect();
        if self.canonical()
            && let Some(line) = self.lines.front_mut()
        {
            line.len -= n;
            if line.len == 0 {
                self.lines.pop_front();
            } else if line.eof && max == 0 {
                // Nothing was asked for: the mark stays.
            }
        }
        Some(data)
    }

    /// Bytes of input, FIONREAD.
    pub fn pending(&self) -> usize {
        if self.canonical() { self.lines.iter().map(|l| l.len).sum() } else { self.ready.len() }
    }

    /// Forgets input.
    pub fn flush_input(&mut self) {
        self.ready.clear();
        self.lines.clear();
        self.line.clear();
        self.literal = false;
    }
}

impl Default for Ldisc {
    fn default() -> Self {
        Self::new()
    }
}
