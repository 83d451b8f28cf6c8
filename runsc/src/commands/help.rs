//! `runsc help`: help about commands, and the table of system calls.

use clap::CommandFactory;
use serde::Serialize;

use crate::cli::{Cli, Help, TableFormat};
use crate::error::Error;

/// A system call as the sentry's table has it: number, name, level, note.
type Row = (u32, &'static str, &'static str, &'static str);

// SYSCALLS, which the build script takes from the table that the sentry dispatches by.
include!(concat!(env!("OUT_DIR"), "/syscalls.rs"));

/// What gVisor has: number, name, level.
const GVISOR: &str = include_str!("../../../docs/gvisor-syscalls.tsv");

/// One line of the table.
#[derive(Serialize)]
struct Call {
    number: u32,
    name: &'static str,
    support: &'static str,
    /// What every call of it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    errno: Option<&'static str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    note: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    gvisor: Option<&'static str>,
}

/// Prints help about what `topic` names.
pub fn help(options: &Help) -> Result<u8, Error> {
    if options.topic.first().is_some_and(|topic| topic == "syscalls") {
        return syscalls(options.format);
    }
    let mut command = Cli::command();
    command.build();
    let mut found = &mut command;
    for topic in &options.topic {
        found = found.find_subcommand_mut(topic).ok_or_else(|| {
            Error::Usage(format!("help: there is no command {topic:?}; `runsc help` lists them"))
        })?;
    }
    found.print_long_help().map_err(|e| Error::os("printing", e))?;
    Ok(0)
}

fn calls() -> impl Iterator<Item = Call> {
    SYSCALLS.iter().map(|&(number, name, level, note)| {
        let (support, errno) = match level {
            "Full" => ("full", None),
            "Partial" => ("partial", None),
            "Refused" => ("refused", Some("EPERM")),
            _ => ("refused", Some("ENOSYS")),
        };
        Call { number, name, support, errno, note, gvisor: gvisor(number) }
    })
}

/// What gVisor does with a call.
fn gvisor(number: u32) -> Option<&'static str> {
    let fields = |line: &'static str| -> Option<(u32, &'static str)> {
        let mut fields = line.split('\t');
        Some((fields.next()?.parse().ok()?, fields.nth(1)?))
    };
    let level = GVISOR.lines().filter_map(fields).find(|(n, _)| *n == number)?.1;
    match level {
        "full" | "partial" => Some(level),
        _ if level.starts_with("none") => Some("refused"),
        _ => None,
    }
}

fn syscalls(format: TableFormat) -> Result<u8, Error> {
    match format {
        TableFormat::Table => {
            println!("{:>3} {:<24} {:<8} NOTE", "NR", "NAME", "SUPPORT");
            for call in calls() {
                let note = call.errno.unwrap_or(call.note);
                println!(
                    "{}",
                    format!("{:>3} {:<24} {:<8} {note}", call.number, call.name, call.support).trim_end()
                );
            }
        }
        TableFormat::Csv => {
            println!("number,name,support,errno,note,gvisor");
            for call in calls() {
                let note = call.note.replace('"', "\"\"");
                let (errno, gvisor) = (call.errno.unwrap_or(""), call.gvisor.unwrap_or(""));
                println!("{},{},{},{errno},\"{note}\",{gvisor}", call.number, call.name, call.support);
            }
        }
        TableFormat::Json => {
            let list: Vec<Call> = calls().collect();
            // Strings and numbers always serialise.
            println!("{}", serde_json::to_string_pretty(&list).unwrap_or_default());
        }
        TableFormat::Markdown => markdown(),
    }
    Ok(0)
}

fn markdown() {
    let count = |support: &str| calls().filter(|call| call.support == support).count();
    println!(
        "# System calls\n\nMade by `runsc help syscalls --format markdown` from the table that the sentry dispatches by; a \
         test compares them. *Full* is as Linux has it, but for what [limits.md](limits.md) says of the objects behind it; \
         *partial*: the note says what is refused; *refused*: every call answers the errno. The last column is gVisor's own \
         claim, from its sources of 2026-08-21.\n\n{} full, {} partial, {} refused.\n\n\
         | number | name | support | note | gVisor |\n|---|---|---|---|---|",
        count("full"),
        count("partial"),
        count("refused")
    );
    for call in calls() {
        let note = call.errno.unwrap_or(call.note).replace('|', "\\|");
        println!(
            "| {} | {} | {} | {note} | {} |",
            call.number,
            call.name,
            call.support,
            call.gvisor.unwrap_or("")
        );
    }
}
