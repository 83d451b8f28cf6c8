//! `runsc list`: the containers of the state directory.

use crate::cli::{Global, List, ListFormat};
use crate::error::Error;
use crate::sandbox::launch::store;

/// Columns of the table.
const COLUMNS: [&str; 6] = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"];
/// Blanks between columns.
const GAP: usize = 4;

/// Prints them.
pub fn list(global: &Global, options: &List) -> Result<u8, Error> {
    super::delete::remove_dead(global)?;
    let states = store(global)?.list()?;
    if options.quiet {
        states.iter().for_each(|state| println!("{}", state.id));
        return Ok(0);
    }
    if options.format == ListFormat::Json {
        let all: Vec<_> = states.iter().map(|state| state.to_oci_json(false)).collect();
        // As runc prints an empty list.
        if all.is_empty() {
            println!("null")
        } else {
            println!("[{}]", all.join(","))
        }
        return Ok(0);
    }
    let mut rows = vec![COLUMNS.map(String::from)];
    rows.extend(states.into_iter().map(|s| {
        [
            s.id,
            s.pid.to_string(),
            s.status.name().to_string(),
            s.bundle.display().to_string(),
            s.created,
            s.owner,
        ]
    }));
    let widths: Vec<usize> = (0..COLUMNS.len())
        .map(|c| rows.iter().map(|row| row[c].chars().count()).max().unwrap_or(0) + GAP)
        .collect();
    for row in rows {
        let line: String = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        println!("{}", line.trim_end());
    }
    Ok(0)
}
