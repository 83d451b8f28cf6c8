//! Whole commands: from the start of a runtime to its end.

use std::io;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::place::Place;
use crate::session::{finish, sweep};
use crate::work::{Root, Work};

/// Time that a command may take.
const LIMIT: Duration = Duration::from_secs(20);

/// What was measured of a command in one place.
pub enum Figure {
    /// Milliseconds, by round.
    Measured(Vec<f64>),
    /// It failed.
    Failed,
    /// It took too long.
    TimedOut,
}

/// A command in all places.
pub struct Whole {
    /// What is run.
    pub name: &'static str,
    /// What came of it, by place.
    pub figures: Vec<Figure>,
}

/// Measures them all, the places in turns.
pub fn measure(work: &Work, places: &[Place], rounds: usize) -> Result<Vec<Whole>, Failure> {
    let program = work.data().join("program");
    let program = program.to_string_lossy();
    let python = ["/usr/bin/python3", "-c", "print(6 * 7)"];
    let node = ["/usr/bin/node", "-e", "console.log(6 * 7)"];
    let all: [(&'static str, Root, &[&str], &[&str]); 3] = [
        ("run of true (static)", Root::Small, &["/data/program", "exit"], &[&program, "exit"]),
        ("python3 -c of the host's root", Root::Host, &python, &python),
        ("node -e of the host's root", Root::Host, &node, &node),
    ];
    let mut measured = Vec::new();
    for (index, (name, root, args, native)) in all.into_iter().enumerate() {
        let there = |path: &&str| std::path::Path::new(path).exists();
        if !work.has(root) || (root == Root::Host && !args.first().is_some_and(there)) {
            continue;
        }
        let bundle = work.bundle(&format!("whole{index}"), root, args)?;
        let mut figures: Vec<Figure> = places.iter().map(|_| Figure::Measured(Vec::new())).collect();
        // The first round fills caches and does not count.
        for round in 0..=rounds {
            for (place, figure) in places.iter().zip(&mut figures) {
                let Figure::Measured(samples) = figure else { continue };
                let mut command = place.command(work, &bundle, &format!("whole-{index}-{round}"), native)?;
                command.stdin(Stdio::null()).stdout(Stdio::null());
                let start = Instant::now();
                let ended = command.spawn().and_then(|mut child| finish(&mut child, LIMIT));
                let spent = start.elapsed().as_secs_f64() * 1e3;
                match ended {
                    Ok(true) if round > 0 => samples.push(spent),
                    Ok(true) => {}
                    Ok(false) => *figure = Figure::Failed,
                    Err(error) => {
                        eprintln!("bench: {name} in {}: {error}", place.name);
                        sweep(&place.state(work)?);
                        let late = error.kind() == io::ErrorKind::TimedOut;
                        *figure = if late { Figure::TimedOut } else { Figure::Failed };
                    }
                }
            }
        }
        measured.push(Whole { name, figures });
    }
    Ok(measured)
}
