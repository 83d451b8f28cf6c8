//! Figures that programs of the host's root find themselves: servers with their clients, and work with files.
//!
//! Each script of `bench/programs` prints lines `name|value|unit`.

use std::fs::File;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use crate::Failure;
use crate::place::Place;
use crate::session::{finish, sweep};
use crate::work::{Root, Work};

/// Time that a script may take.
const LIMIT: Duration = Duration::from_secs(60);

const SCRIPTS: &[(&str, &str)] = &[
    ("cpus", include_str!("../programs/cpus.sh")),
    ("files", include_str!("../programs/files.sh")),
    ("node", include_str!("../programs/node.sh")),
    ("redis", include_str!("../programs/redis.sh")),
    ("nginx", include_str!("../programs/nginx.sh")),
];

/// One figure in all places.
pub struct Named {
    /// What was measured.
    pub name: String,
    /// Of its values; those with `/` or `times` are better when they are larger.
    pub unit: String,
    /// The values, by place and round.
    pub values: Vec<Vec<f64>>,
}

/// Runs them all, or those of `only` where that names any, the places in turns. A place in which a script fails or takes
/// too long has no figures of it.
pub fn measure(work: &Work, places: &[Place], only: &[String], rounds: usize) -> Result<Vec<Named>, Failure> {
    if let Some(unknown) = only.iter().find(|name| !SCRIPTS.iter().any(|(script, _)| name == script)) {
        return Err(format!("there is no script {unknown:?} of programs").into());
    }
    let mut figures: Vec<Named> = Vec::new();
    if !work.has(Root::Host) {
        return Ok(figures);
    }
    for (script, text) in SCRIPTS.iter().filter(|(name, _)| only.is_empty() || only.iter().any(|o| o == name))
    {
        let args = ["/bin/bash", "-c", text];
        let bundle = work.bundle(&format!("program-{script}"), Root::Host, &args)?;
        // Natively in a network and a /tmp of its own, as the containers have.
        let own = "mount -t tmpfs tmp /tmp && /bin/busybox ip link set lo up && exec /bin/bash -c \"$0\"";
        let native = ["/usr/bin/unshare", "--net", "--mount", "/bin/bash", "-c", own, text];
        for round in 0..rounds {
            for (index, place) in places.iter().enumerate() {
                let id = format!("program-{script}-{round}");
                let out = work.path().join("figures");
                let mut command = place.command(work, &bundle, &id, &native)?;
                command.stdin(Stdio::null()).stdout(File::create(&out)?).stderr(Stdio::null());
                match command.spawn().and_then(|mut child| finish(&mut child, LIMIT)) {
                    Ok(true) => take(&mut figures, &std::fs::read_to_string(&out)?, index, places.len()),
                    Ok(false) => eprintln!("bench: {script} in {}: it failed", place.name),
                    Err(error) => {
                        eprintln!("bench: {script} in {}: {error}", place.name);
                        if error.kind() == io::ErrorKind::TimedOut {
                            sweep(&place.state(work)?);
                        }
                    }
                }
            }
        }
    }
    Ok(figures)
}

/// Adds what a script has printed in a place.
fn take(figures: &mut Vec<Named>, text: &str, place: usize, places: usize) {
    for line in text.lines() {
        let mut parts = line.split('|');
        let (Some(name), Some(value), Some(unit)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let Ok(value) = value.trim().parse::<f64>() else { continue };
        let at = figures.iter().position(|figure| figure.name == name).unwrap_or_else(|| {
            let values = vec![Vec::new(); places];
            figures.push(Named { name: name.into(), unit: unit.into(), values });
            figures.len() - 1
        });
        if let Some(values) = figures.get_mut(at).and_then(|figure| figure.values.get_mut(place)) {
            values.push(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read() {
        let mut figures = Vec::new();
        take(&mut figures, "noise\na|1.5|ms\nb|x|ms\n", 1, 2);
        take(&mut figures, "a|2|ms\n", 1, 2);
        assert_eq!(figures.len(), 1);
        assert_eq!(figures[0].values, [vec![], vec![1.5, 2.0]]);
    }
}
