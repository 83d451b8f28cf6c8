//! Commands of `runsc debug` for those who work on the runtime itself.

use std::time::{Duration, Instant};

use abi::control::{Answer, Request as ControlRequest};
use checkpoint::Writer;
use oci::bundle::Bundle;

use super::connect;
use crate::cli::{Churn, DebugAction, Global, Restore, Save};
use crate::commands::run::foreground;
use crate::error::Error;
use crate::sandbox::control::Client;
use crate::sandbox::launch::{Request, launch};

/// Time that a sandbox gets to freeze or to write its memory.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a command.
pub fn act(global: &Global, command: &DebugAction) -> Result<u8, Error> {
    match command {
        DebugAction::Freeze(id) => ask(&mut connect(global, &id.id)?, ControlRequest::Freeze)?,
        DebugAction::Thaw(id) => ask(&mut connect(global, &id.id)?, ControlRequest::Thaw)?,
        DebugAction::Churn(options) => churn(&mut connect(global, &options.id)?, options)?,
        DebugAction::Save(options) => save(&mut connect(global, &options.id)?, options)?,
        DebugAction::Restore(options) => return restore(global, options),
    }
    Ok(0)
}

fn ask(client: &mut Client, request: ControlRequest) -> Result<(), Error> {
    client.ask(request, Some(PATIENCE)).map(|_| ())
}

/// Freezes and thaws many times, at moments that a generator chooses, and prints how long that took.
fn churn(client: &mut Client, options: &Churn) -> Result<(), Error> {
    let mut state = options.seed | 1;
    let mut random = |below: u64| {
        // xorshift64: any spread will do.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if below == 0 { 0 } else { state % below }
    };
    let mut times = Vec::new();
    let whole = options.count == 0;
    while whole || times.len() < options.count as usize {
        std::thread::sleep(Duration::from_micros(random(options.pause)));
        let begin = Instant::now();
        match ask(client, ControlRequest::Freeze) {
            // The container has ended.
            Err(Error::Os { .. }) if whole => break,
            other => other?,
        }
        times.push(begin.elapsed());
        std::thread::sleep(Duration::from_micros(random(options.pause / 4)));
        ask(client, ControlRequest::Thaw)?;
    }
    times.sort();
    if let (Some(median), Some(longest)) = (times.get(times.len() / 2), times.last()) {
        println!(
            "{} times: median {} us, longest {} us to freeze",
            times.len(),
            median.as_micros(),
            longest.as_micros()
        );
    }
    Ok(())
}

/// Freezes, writes a snapshot, and thaws or ends the sandbox.
fn save(client: &mut Client, options: &Save) -> Result<(), Error> {
    let writer = Writer::create(&options.image_path)?;
    ask(client, ControlRequest::Freeze)?;
    let saved = client.ask_with_file(ControlRequest::Save, writer.pages(), Some(PATIENCE));
    if !options.leave_frozen {
        ask(client, ControlRequest::Thaw)?;
    }
    match saved? {
        Answer::Saved(machine) => Ok(writer.finish(&options.id, machine)?),
        _ => Err(Error::Sandbox("it gave no answer that belongs to a snapshot".into())),
    }
}

fn restore(global: &Global, options: &Restore) -> Result<u8, Error> {
    let request = Request {
        global,
        command: "restore",
        id: &options.id,
        bundle: Bundle::load(&options.bundle)?,
        start: true,
        detached: options.detach,
        console_socket: None,
        preserve_fds: 0,
        pid_file: None,
        ephemeral: false,
        snapshot: Some(&options.image_path),
    };
    if options.detach {
        launch(request)?;
        return Ok(0);
    }
    foreground(global, request, false)
}
