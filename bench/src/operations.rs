//! The operations, in every place in turns.

use std::io;
use std::time::Duration;

use abi::control::Counters;

use crate::Failure;
use crate::counters::Client;
use crate::place::Place;
use crate::session::{Session, sweep};
use crate::stats::median;
use crate::work::{Root, Work};

/// Names of the operations, as the program has them, in the order of the table.
const NAMES: &[&str] = &[
    "cpu_xorshift",
    "getpid",
    "clock_gettime",
    "sched_yield",
    "read_zero_1",
    "write_null_1",
    "sigprocmask",
    "futex_wake_none",
    "pread_4k_rootfs",
    "pwrite_4k_tmp",
    "open_fstat_close",
    "stat_same",
    "stat_missing",
    "stat_storm",
    "open_read_close_storm",
    "readdir_1000",
    "create_unlink",
    "mmap_touch_munmap",
    "mmap64_touch_munmap",
    "page_fault_4k",
    "mprotect_x2",
    "signal_self",
    "eventfd_epoll_3sys",
    "nanosleep_50us",
    "pipe_pingpong_2proc",
    "unix_pingpong_2proc",
    "tcp_pingpong_2proc",
    "tcp_connect_accept",
    "futex_pingpong_2thr",
    "thread_create_join",
    "fork_wait",
    "fork_exec_wait",
    "posix_spawn_wait",
    "pipe_64k",
    "unix_64k",
    "tcp_loop_64k",
];
/// The operation that does nothing: what a request costs.
const NOTHING: &str = "nothing";
/// Time that a place gets for one step.
const LIMIT: Duration = Duration::from_secs(20);
/// Time in which a sandbox goes idle.
const SETTLE: Duration = Duration::from_millis(3);
/// Bytes of MB in figures of throughput.
const MEGABYTE: f64 = (1 << 20) as f64;

/// How long loops are, and how often they run.
#[derive(Clone, Copy)]
pub struct Pace {
    milliseconds: u32,
    rounds: usize,
}

/// Loops of 60 ms, as often as their medians need.
pub const FULL: Pace = Pace { milliseconds: 60, rounds: 7 };
/// For a look.
pub const QUICK: Pace = Pace { milliseconds: 10, rounds: 3 };

/// What was measured of an operation in one place.
#[derive(Clone, Debug)]
pub enum Figure {
    /// It ran.
    Measured {
        /// Nanoseconds of a turn, by round.
        samples: Vec<f64>,
        /// Turns of a loop.
        turns: u64,
        /// Exits from the sandbox that a loop made, by round, without those of the request itself.
        exits: Vec<f64>,
    },
    /// It cannot be done there.
    Failed(String),
    /// It took too long, and the place was started anew.
    TimedOut,
}

/// An operation in all places.
pub struct Operation {
    /// Its name.
    pub name: &'static str,
    /// Bytes that a turn moves; 0: it is not about throughput.
    pub bytes: u64,
    /// What came of it, by place; `None` where operations are not measured.
    pub figures: Vec<Option<Figure>>,
}

impl Figure {
    /// Nanoseconds of a turn: the median.
    pub fn time(&self) -> Option<f64> {
        match self {
            Self::Measured { samples, .. } => median(samples),
            _ => None,
        }
    }

    /// Exits of a loop: the median; and its turns.
    pub fn exits(&self) -> Option<(f64, u64)> {
        match self {
            Self::Measured { exits, turns, .. } => median(exits).map(|exits| (exits, *turns)),
            _ => None,
        }
    }
}

/// MB a second, of the bytes and nanoseconds of a turn.
pub fn megabytes(bytes: u64, nanoseconds: f64) -> f64 {
    bytes as f64 / nanoseconds * 1e9 / MEGABYTE
}

/// A place while operations are measured there.
struct Running<'a> {
    work: &'a Work,
    place: &'a Place,
    started: u32,
    session: Option<Session>,
    client: Option<Client>,
    /// Exits of a request that does nothing.
    request: f64,
}

/// The state of one operation in one place.
struct Attempt {
    turns: u64,
    samples: Vec<f64>,
    exits: Vec<f64>,
}

impl<'a> Running<'a> {
    fn new(work: &'a Work, place: &'a Place) -> Self {
        Self { work, place, started: 0, session: None, client: None, request: 0.0 }
    }

    /// Starts the program, anew after a failure.
    fn ready(&mut self) -> Result<(), Failure> {
        if self.session.is_some() {
            return Ok(());
        }
        self.started += 1;
        let (work, place) = (self.work, self.place);
        let bundle = work.bundle("operations", Root::Small, &["/data/program", "/data", "/tmp"])?;
        let id = format!("bench-{}", self.started);
        let (program, data, memory) = (work.data().join("program"), work.data(), work.memory());
        let native = [program.as_path(), data.as_path(), memory].map(|path| path.to_string_lossy());
        let args: Vec<&str> = native.iter().map(AsRef::as_ref).collect();
        let command = place.command(work, &bundle, &id, &args)?;
        self.session = Some(Session::start(command, LIMIT)?);
        if place.counts {
            self.client = Some(Client::connect(&place.state(work)?.join(&id))?);
            let mut attempt = self.open(NOTHING, 0)?.map_err(|reason| format!("{NOTHING}: {reason}"))?.0;
            self.request = 0.0;
            for _ in 0..QUICK.rounds {
                self.round(&mut attempt)?;
            }
            self.close()?;
            self.request = median(&attempt.exits).unwrap_or(0.0);
        }
        Ok(())
    }

    /// Gives up what hangs: the program, and what the runtime left behind.
    fn stop(&mut self) {
        self.client = None;
        if let Some(mut session) = self.session.take() {
            session.end();
        }
        if let Ok(state) = self.place.state(self.work)
            && self.place.name != "native"
        {
            sweep(&state);
        }
    }

    fn ask(&mut self, request: &str) -> io::Result<String> {
        self.session.as_mut().ok_or(io::ErrorKind::NotConnected)?.ask(request, LIMIT)
    }

    /// Makes an operation ready: turns and bytes, or why it cannot be done.
    fn open(&mut self, name: &str, milliseconds: u32) -> io::Result<Result<(Attempt, u64), String>> {
        let answer = self.ask(&format!("open {name} {milliseconds}"))?;
        let words: Vec<&str> = answer.split_whitespace().collect();
        match words.as_slice() {
            ["open", _, turns, bytes] => match (turns.parse(), bytes.parse()) {
                (Ok(turns), Ok(bytes)) => {
                    Ok(Ok((Attempt { turns, samples: Vec::new(), exits: Vec::new() }, bytes)))
                }
                _ => Err(io::Error::other(answer)),
            },
            ["failed", ..] => Ok(Err(answer.trim_start_matches("failed ").to_string())),
            _ => Err(io::Error::other(answer)),
        }
    }

    /// Counters of the sandbox once it waits for the next request: what the last one made it do is over then.
    fn counters(&mut self) -> io::Result<Option<Counters>> {
        let Some(client) = &mut self.client else { return Ok(None) };
        std::thread::sleep(SETTLE);
        client.read().map(Some)
    }

    /// Runs the loop once.
    fn round(&mut self, attempt: &mut Attempt) -> io::Result<()> {
        let before = self.counters()?;
        let answer = self.ask(&format!("run {}", attempt.turns))?;
        let after = self.counters()?;
        let sample = answer.strip_prefix("run ").and_then(|text| text.parse::<f64>().ok());
        attempt.samples.push(sample.ok_or_else(|| io::Error::other(answer))?);
        if let (Some(before), Some(after)) = (before, after) {
            let exits = after.exits.saturating_sub(before.exits) as f64;
            attempt.exits.push((exits - self.request).max(0.0));
        }
        Ok(())
    }

    fn close(&mut self) -> io::Result<()> {
        self.ask("close").map(drop)
    }
}

/// Measures the operations that are asked for, or all, in every place.
pub fn measure(
    work: &Work,
    places: &[Place],
    only: &[String],
    pace: Pace,
) -> Result<Vec<Operation>, Failure> {
    if let Some(unknown) = only.iter().find(|name| !NAMES.contains(&name.as_str())) {
        return Err(format!("--only: no operation {unknown:?}; there are {}", NAMES.join(", ")).into());
    }
    let mut running: Vec<Option<Running<'_>>> =
        places.iter().map(|place| place.operations.then(|| Running::new(work, place))).collect();
    let mut measured = Vec::new();
    for name in NAMES.iter().filter(|name| only.is_empty() || only.iter().any(|o| o == *name)) {
        measured.push(one(&mut running, name, pace));
    }
    for place in running.iter_mut().flatten() {
        place.stop();
    }
    Ok(measured)
}

/// Measures one operation.
fn one(running: &mut [Option<Running<'_>>], name: &'static str, pace: Pace) -> Operation {
    let mut operation = Operation { name, bytes: 0, figures: Vec::new() };
    let mut attempts: Vec<Option<Attempt>> = Vec::new();
    for place in running.iter_mut() {
        let Some(place) = place else {
            attempts.push(None);
            operation.figures.push(None);
            continue;
        };
        let opened = place.ready().and_then(|()| Ok(place.open(name, pace.milliseconds)?));
        let (attempt, figure) = match opened {
            Ok(Ok((attempt, bytes))) => {
                operation.bytes = bytes;
                (Some(attempt), None)
            }
            Ok(Err(reason)) => (None, Some(Figure::Failed(reason))),
            Err(error) => (None, Some(give_up(place, name, error.as_ref()))),
        };
        attempts.push(attempt);
        operation.figures.push(figure);
    }
    for _ in 0..pace.rounds {
        for ((place, slot), figure) in running.iter_mut().zip(&mut attempts).zip(&mut operation.figures) {
            let (Some(place), Some(attempt)) = (place, slot.as_mut()) else { continue };
            if let Err(error) = place.round(attempt) {
                *figure = Some(give_up(place, name, &error));
                *slot = None;
            }
        }
    }
    for ((place, slot), figure) in running.iter_mut().zip(attempts).zip(&mut operation.figures) {
        let (Some(place), Some(attempt)) = (place, slot) else { continue };
        let Attempt { turns, samples, exits } = attempt;
        *figure = Some(Figure::Measured { samples, turns, exits });
        if let Err(error) = place.close() {
            give_up(place, name, &error);
        }
    }
    operation
}

/// Stops a place that failed, and says what is noted.
fn give_up(place: &mut Running<'_>, name: &str, error: &(dyn std::error::Error + 'static)) -> Figure {
    eprintln!("bench: {name} in {}: {error}", place.place.name);
    place.stop();
    let late = error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::TimedOut);
    if late { Figure::TimedOut } else { Figure::Failed(error.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::NAMES;

    #[test]
    fn the_program_has_the_operations_of_the_table() {
        let sources = concat!(
            include_str!("../ops/calls.c"),
            include_str!("../ops/files.c"),
            include_str!("../ops/memory.c"),
            include_str!("../ops/processes.c"),
            include_str!("../ops/pairs.c"),
        );
        let mut there: Vec<&str> = sources
            .lines()
            .filter_map(|line| line.strip_prefix("    {\"")?.split_once('"'))
            .map(|(name, _)| name)
            .collect();
        let mut listed = NAMES.to_vec();
        there.sort_unstable();
        listed.sort_unstable();
        assert_eq!(there, listed);
    }
}
