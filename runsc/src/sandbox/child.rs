//! The sandbox process: goes into its jail and becomes the machine.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use abi::boot::{KVM_IMAGE_BASE, SYSTRAP_IMAGE_BASE};
use checkpoint::Snapshot;
use platform::host::Parts;
use platform::host::files::Directory;
use platform::host::streams::Stream;
use platform::jail::{self, Jail};
use platform::kvm::KvmMachine;
use platform::memory::images::Images;
use platform::memory::{BOOT_EXTENT, GuestMemory};
use platform::systrap::{self, SystrapMachine};
use platform::{HostServices, Image, Machine, Outcome, process};

use super::choose::Taken;
use super::streams::Console;
use super::sync::{self, Message};
use crate::error::Error;

/// The sentry for KVM.
const SENTRY_KVM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sentry-kvm.bin"));
/// The sentry for systrap.
const SENTRY_SYSTRAP: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sentry-systrap.bin"));
/// Digests of the two.
const DIGEST_KVM: &str = env!("RUNSC_SENTRY_DIGEST_KVM");
const DIGEST_SYSTRAP: &str = env!("RUNSC_SENTRY_DIGEST_SYSTRAP");
/// Severity of a line of the system-call trace.
const LEVEL_STRACE: u64 = 4;

/// Everything that a sandbox works with, opened by the command that makes it.
pub struct Sandbox {
    /// The platform that was taken.
    pub platform: Taken,
    /// Serialised launch specification.
    pub spec: Vec<u8>,
    /// A snapshot that the sandbox goes on from, instead of beginning with the specification.
    pub snapshot: Option<Snapshot>,
    /// It ends when the command does, however that ends: nobody else knows of it.
    pub ephemeral: bool,
    /// Number of vCPUs.
    pub cpus: u32,
    /// Most bytes of guest memory.
    pub memory: u64,
    /// What that may be raised to.
    pub most_memory: u64,
    /// Donated directories and files.
    pub directories: Vec<Directory>,
    /// Images of file systems.
    pub images: Images,
    /// Streams.
    pub streams: Vec<Stream>,
    /// The container's terminal.
    pub console: Console,
    /// Control socket.
    pub listener: UnixListener,
    /// To the command.
    pub sync: Arc<UnixStream>,
    /// Debug log.
    pub debug_log: Option<File>,
    /// A directory to mount the empty root on.
    pub mount_point: PathBuf,
    /// /dev/null, for the standard descriptors of this process.
    pub null: File,
}

/// Runs the sandbox in the forked child; returns the exit code where it fails before the machine runs.
pub fn run(sandbox: Sandbox) -> i32 {
    let sync = Arc::clone(&sandbox.sync);
    match boot(sandbox) {
        Ok(never) => match never {},
        Err(error) => {
            sync::send(&sync, &Message::Failed(error.to_string()));
            process::FAILED
        }
    }
}

fn boot(sandbox: Sandbox) -> Result<std::convert::Infallible, Error> {
    let Sandbox {
        platform,
        spec,
        snapshot,
        ephemeral,
        cpus,
        memory,
        most_memory,
        directories,
        images,
        streams,
        console,
        listener,
        sync,
        debug_log,
        null,
        ..
    } = sandbox;
    // With a terminal that is not shared, or none, this process leads its own session, out of reach of the keys of
    // the terminal that the command was started on.
    if !matches!(console, Console::Own(_)) {
        let _ = nix::unistd::setsid();
    }
    process::use_one_arena();
    process::block_signals()?;
    let winch = match &console {
        Console::None => None,
        Console::Own(_) => Some(process::window_change_fd()?),
        Console::New(slave) => {
            process::control_terminal(slave.as_fd())?;
            Some(process::window_change_fd()?)
        }
    };
    let console = match &console {
        Console::None => -1,
        Console::Own(fd) | Console::New(fd) => fd.as_raw_fd(),
    };
    let mut kept = vec![listener.as_raw_fd(), sync.as_raw_fd(), console];
    if let Taken::Kvm(device) = &platform {
        kept.push(device.as_raw_fd());
    }
    kept.extend(snapshot.as_ref().map(|s| s.pages.as_raw_fd()));
    kept.extend(winch.as_ref().map(AsRawFd::as_raw_fd));
    kept.extend(debug_log.as_ref().map(AsRawFd::as_raw_fd));
    kept.extend(directories.iter().map(|d| d.fd.as_raw_fd()));
    kept.extend(images.watch_fd().map(|fd| fd.as_raw_fd()));
    kept.extend(images.files().map(|(file, _)| file.as_raw_fd()));
    kept.extend(streams.iter().map(|s| s.fd.as_raw_fd()));
    let report = close_inherited(null, debug_log.as_ref(), kept)?;
    if ephemeral {
        // Before it is waited for: a command that has ended by now does not answer.
        process::end_with_parent()?;
    }
    // The command says when to go on: once it has noted this process, so that one that is killed leaves nothing that no
    // command knows of. Its end of the socket is closed here by now, so that its death is seen.
    let mut go = [0];
    (&*sync).read_exact(&mut go).map_err(|e| Error::os("waiting for the command", e))?;
    let jail = Jail {
        mount_point: &sandbox.mount_point,
        reads_files: !directories.is_empty(),
        writes_files: directories.iter().any(|d| d.writable),
        kvm: matches!(platform, Taken::Kvm(_)),
        report,
    };
    jail::isolate(&jail)?;
    let (memory, machine): (_, Box<dyn Machine>) = match &platform {
        Taken::Kvm(device) => {
            jail::lock(&jail)?;
            let memory = match &snapshot {
                Some(saved) => saved_memory(saved, false, memory, most_memory)?,
                None => GuestMemory::new(BOOT_EXTENT, memory)?,
            };
            memory.set_images(images);
            let memory = Arc::new(memory);
            let shared = Arc::clone(&memory);
            let machine = match &snapshot {
                Some(saved) => KvmMachine::restore(device, &saved.manifest.machine, cpus, shared)?,
                None => {
                    KvmMachine::new(device, &Image::new(SENTRY_KVM, KVM_IMAGE_BASE)?, &spec, cpus, shared)?
                }
            };
            (memory, Box::new(machine))
        }
        Taken::Systrap(host) => {
            let memory = match &snapshot {
                Some(saved) => saved_memory(saved, true, memory, most_memory)?,
                None => systrap::memory(memory, most_memory)?,
            };
            memory.set_images(images);
            let memory = Arc::new(memory);
            let shared = Arc::clone(&memory);
            let image = Image::new(SENTRY_SYSTRAP, SYSTRAP_IMAGE_BASE)?;
            let machine = match &snapshot {
                Some(saved) => {
                    let saved = &saved.manifest.machine;
                    if saved.sentry != DIGEST_SYSTRAP {
                        let reason = "it was made by another version of runsc".into();
                        return Err(platform::Error::Snapshot { reason }.into());
                    }
                    SystrapMachine::restore(host, &image, saved, cpus, shared)?
                }
                None => SystrapMachine::new(host, &image, &spec, cpus, shared)?,
            };
            // Its processes are made: this one forks no more.
            jail::lock(&jail)?;
            (memory, Box::new(machine))
        }
    };
    let sentry = if matches!(platform, Taken::Kvm(_)) { DIGEST_KVM } else { DIGEST_SYSTRAP };
    let (created, ended) = (Arc::clone(&sync), sync);
    let log = Arc::new(Mutex::new(debug_log));
    let other_log = Arc::clone(&log);
    let services = HostServices::new(Parts {
        memory,
        directories,
        streams,
        listener: Some(listener),
        winch,
        sentry,
        log: Box::new(move |level, text| write_log(current(&log).as_ref(), level, text)),
        set_log: Box::new(move |file| {
            let mut log = current(&other_log);
            if file.is_some() {
                *log = file;
            }
            log.is_some()
        }),
        created: Box::new(move |result| {
            let message = match result {
                Ok(()) => Message::Created,
                Err(failure) => Message::Refused(Error::describe(&failure)),
            };
            // A command that was killed meanwhile has left no state: nothing could ever reach this sandbox.
            if !sync::send(&created, &message) {
                process::exit_now(process::FAILED);
            }
        }),
        finish: Box::new(move |outcome| {
            let (code, message) = finish(outcome);
            sync::send(&ended, &message);
            code
        }),
    })?;
    Ok(machine.run(services)?)
}

fn saved_memory(snapshot: &Snapshot, zoned: bool, limit: u64, most: u64) -> Result<GuestMemory, Error> {
    let extents = &snapshot.manifest.machine.extents;
    Ok(GuestMemory::restore(&snapshot.pages, extents, zoned, limit, most)?)
}

/// Leaves only the standard descriptors, the log and those of `kept`; standard error goes to the debug log. Returns
/// the descriptor for the last words of this process. Every descriptor that is still owned by a value must be kept:
/// its number would be taken by another, and closed with the value.
fn close_inherited(null: File, debug_log: Option<&File>, mut kept: Vec<i32>) -> Result<i32, Error> {
    let fail = |e: nix::errno::Errno| Error::os("setting up standard descriptors", e);
    nix::unistd::dup2_stdin(&null).map_err(fail)?;
    nix::unistd::dup2_stdout(&null).map_err(fail)?;
    nix::unistd::dup2_stderr(debug_log.unwrap_or(&null)).map_err(fail)?;
    drop(null);
    kept.extend(crate::log::file().map(AsRawFd::as_raw_fd));
    process::close_except(kept)?;
    Ok(crate::log::file().map_or(2, AsRawFd::as_raw_fd))
}

/// The debug log as of now.
fn current(log: &Mutex<Option<File>>) -> MutexGuard<'_, Option<File>> {
    log.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn write_log(debug_log: Option<&File>, level: u64, text: &str) {
    let text = text.trim_end_matches('\n');
    if let Some(mut file) = debug_log {
        let letter = match level {
            0 => 'E',
            1 => 'W',
            2 => 'I',
            LEVEL_STRACE => 'S',
            _ => 'D',
        };
        let _ = file.write_all(format!("{letter} {text}\n").as_bytes());
    } else if level == 0 {
        crate::log::write("error", text);
    }
}

/// Exit code and last message of a sandbox.
fn finish(outcome: &Outcome) -> (i32, Message) {
    match outcome {
        Outcome::Exited(status) => {
            // wait(2): the low seven bits are the signal, the next byte the exit code.
            let code = match status & 0x7f {
                0 => (status >> 8) & 0xff,
                signal => 128 + signal,
            } as u8;
            (i32::from(code), Message::Ended(code))
        }
        Outcome::Failed(reason) => {
            crate::log::write("error", reason);
            (process::FAILED, Message::Failed(reason.clone()))
        }
    }
}
