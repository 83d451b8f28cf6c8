//! Restartable sequences: rseq(2). The area is brought up to date before a program goes on after it was switched out.

use super::signal::{self, SigInfo};
use super::task::CurrentTask;
use crate::errno::{Errno, Result};
use core::sync::atomic::Ordering;
use linux_raw_sys::general as c;

/// Offsets in struct rseq.
const CPU_ID_START: u64 = 0;
const RSEQ_CS: u64 = 8;
/// node_id and mm_cid follow the flags.
const NODE_ID: u64 = 20;

/// Writes the vCPU number, and sends a program that was in a critical section to its abort handler.
pub fn resume(current: &CurrentTask) {
    let area = current.rseq.load(Ordering::Relaxed);
    if area != 0 && update(current, area).is_err() {
        signal::force(current.task(), SigInfo::kernel(c::SIGSEGV));
    }
}

fn update(current: &CurrentTask, area: u64) -> Result<()> {
    let cpu = current.sched.last_cpu.load(Ordering::Relaxed);
    current.write_obj(area + CPU_ID_START, &[cpu, cpu])?;
    current.write_obj(area + NODE_ID, &[0u32, cpu])?;
    let section: u64 = current.read_obj(area + RSEQ_CS)?;
    if section == 0 {
        return Ok(());
    }
    let [_version_flags, start, length, abort]: [u64; 4] = current.read_obj(section)?;
    let rip = current.ctx().rip;
    if rip.wrapping_sub(start) < length {
        let signature: u32 = current.read_obj(abort.wrapping_sub(4))?;
        if signature != current.rseq_signature.load(Ordering::Relaxed) || abort >= current.mm_ref().user_top {
            return Err(Errno::EINVAL);
        }
        current.ctx_mut().rip = abort;
    }
    current.write_obj(area + RSEQ_CS, &0u64)
}
