//! The stubs that there are, and the spawners that make them.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard};

use abi::PAGE_SIZE;
use abi::hostcall::{StubKill, StubSpawn};
use abi::systrap::{STUB_AREA_SIZE, USER_ZONE_GPA};

use super::spawner;
use super::stub::{COMMAND_KILL, COMMAND_SPAWN};
use crate::memory::GuestMemory;

/// Most stubs at once: each is a process of the host, and a descriptor of its spawner.
const MAX_STUBS: usize = 4096;

/// A spawner or stub did not answer: it is gone.
#[derive(Debug)]
pub struct Gone;

/// A stub: its vCPU and its descriptor in that vCPU's spawner.
#[derive(Clone, Copy)]
struct Stub {
    cpu: usize,
    handle: u64,
}

/// Stubs and spawners.
pub struct Stubs {
    spawners: Vec<Mutex<OwnedFd>>,
    stubs: Mutex<HashMap<i64, Stub>>,
}

impl Stubs {
    /// With the command sockets of the spawners, by vCPU.
    pub fn new(spawners: Vec<OwnedFd>) -> Self {
        Self { spawners: spawners.into_iter().map(Mutex::new).collect(), stubs: Mutex::default() }
    }

    fn stubs(&self) -> MutexGuard<'_, HashMap<i64, Stub>> {
        self.stubs.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn command(&self, cpu: usize, kind: u64, argument: u64) -> Result<spawner::Done, Gone> {
        let socket = self.spawners.get(cpu).ok_or(Gone)?;
        let socket = socket.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        spawner::command(&socket, kind, argument).map_err(|_| Gone)
    }

    /// Serves `StubSpawn`.
    pub fn spawn(&self, memory: &GuestMemory, call: StubSpawn) -> Result<i64, Gone> {
        let cpu = usize::try_from(call.cpu).unwrap_or(usize::MAX);
        if cpu >= self.spawners.len() || !call.area.is_multiple_of(PAGE_SIZE) {
            return Ok(-i64::from(libc::EINVAL));
        }
        if call.area < USER_ZONE_GPA || memory.host(call.area, STUB_AREA_SIZE).is_err() {
            return Ok(-i64::from(libc::EFAULT));
        }
        if self.stubs().len() >= MAX_STUBS {
            return Ok(-i64::from(libc::EAGAIN));
        }
        let done = self.command(cpu, COMMAND_SPAWN, call.area - USER_ZONE_GPA)?;
        if done.result > 0 {
            let old = self.stubs().insert(done.result, Stub { cpu, handle: done.handle });
            // A stub that died by itself, whose number was used again: its descriptor is let go.
            if let Some(old) = old {
                self.command(old.cpu, COMMAND_KILL, old.handle)?;
            }
        }
        Ok(done.result)
    }

    /// Serves `StubKill`: the stub runs no instruction any more when this returns.
    pub fn kill(&self, call: StubKill) -> Result<i64, Gone> {
        let stub = i64::try_from(call.pid).ok().and_then(|pid| self.stubs().remove(&pid));
        let Some(stub) = stub else { return Ok(-i64::from(libc::ESRCH)) };
        self.command(stub.cpu, COMMAND_KILL, stub.handle)?;
        Ok(0)
    }
}
