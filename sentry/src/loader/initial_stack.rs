//! The stack that a program starts with: strings, pointers to them, the auxiliary vector.

use crate::errno::{Errno, Result};
use crate::kernel::cred::Cred;
use crate::mm::Mm;
use alloc::vec::Vec;
use core::ops::Range;

/// Arguments and environment of a program.
#[derive(Default)]
pub struct Strings {
    /// Arguments.
    pub args: Vec<Vec<u8>>,
    /// Environment.
    pub env: Vec<Vec<u8>>,
}

/// What the auxiliary vector says beyond the strings.
pub struct AuxInfo<'a> {
    /// Credentials of the program.
    pub cred: &'a Cred,
    /// Address of its program headers.
    pub phdr: u64,
    /// Number of them.
    pub phnum: u64,
    /// Base of the interpreter.
    pub base: u64,
    /// Entry point of the program itself.
    pub entry: u64,
    /// Address of the vDSO.
    pub vdso: u64,
    /// Path that was executed.
    pub path: &'a [u8],
    /// Random bytes for the C library.
    pub random: [u8; 16],
    /// Whether ids or capabilities were raised.
    pub secure: bool,
}

/// A stack that was built.
pub struct Built {
    /// Stack pointer.
    pub rsp: u64,
    /// Argument strings.
    pub args: Range<u64>,
    /// Environment strings.
    pub env: Range<u64>,
    /// The auxiliary vector's bytes.
    pub auxv: Vec<u8>,
}

const AT_RSEQ_FEATURE_SIZE: u64 = 27;
const AT_RSEQ_ALIGN: u64 = 28;
const AT_MINSIGSTKSZ: u64 = 51;

/// Writes the contents below `top`.
///
/// # Errors
/// E2BIG, EFAULT, ENOMEM.
pub fn build(mm: &Mm, top: u64, strings: &Strings, info: &AuxInfo<'_>) -> Result<Built> {
    use linux_raw_sys::auxvec as c;
    let mut at = top - 8;
    let mut push = |bytes: &[u8]| -> Result<u64> {
        at = at.checked_sub(bytes.len() as u64 + 1).ok_or(Errno::E2BIG)?;
        mm.write_bytes(at, bytes)?;
        mm.write_bytes(at + bytes.len() as u64, &[0])?;
        Ok(at)
    };
    let path = push(info.path)?;
    // Arguments lie below the environment, both in order, as /proc/PID/cmdline expects.
    let env_end = path;
    let mut env = Vec::new();
    for s in strings.env.iter().rev() {
        env.push(push(s)?);
    }
    env.reverse();
    let env_start = env.first().copied().unwrap_or(env_end);
    let mut args = Vec::new();
    for s in strings.args.iter().rev() {
        args.push(push(s)?);
    }
    args.reverse();
    let args_start = args.first().copied().unwrap_or(env_start);
    let platform = push(b"x86_64")?;
    at = (at - 16) & !15;
    let random = at;
    mm.write_bytes(random, &info.random)?;
    let (hwcap, hwcap2) = crate::arch::cpu::hwcap();
    let cred = info.cred;
    let auxv: Vec<(u64, u64)> = [
        (u64::from(c::AT_SYSINFO_EHDR), info.vdso),
        (u64::from(c::AT_HWCAP), hwcap),
        (u64::from(c::AT_PAGESZ), abi::PAGE_SIZE),
        (u64::from(c::AT_CLKTCK), 100),
        (u64::from(c::AT_PHDR), info.phdr),
        (u64::from(c::AT_PHENT), 56),
        (u64::from(c::AT_PHNUM), info.phnum),
        (u64::from(c::AT_BASE), info.base),
        (u64::from(c::AT_FLAGS), 0),
        (u64::from(c::AT_ENTRY), info.entry),
        (u64::from(c::AT_UID), u64::from(cred.uid)),
        (u64::from(c::AT_EUID), u64::from(cred.euid)),
        (u64::from(c::AT_GID), u64::from(cred.gid)),
        (u64::from(c::AT_EGID), u64::from(cred.egid)),
        (u64::from(c::AT_SECURE), u64::from(info.secure)),
        (u64::from(c::AT_RANDOM), random),
        (u64::from(c::AT_HWCAP2), hwcap2),
        (u64::from(c::AT_EXECFN), path),
        (u64::from(c::AT_PLATFORM), platform),
        (AT_RSEQ_FEATURE_SIZE, 20),
        (AT_RSEQ_ALIGN, 32),
        (AT_MINSIGSTKSZ, crate::arch::fpu::area_size() as u64 + 1024),
        (u64::from(c::AT_NULL), 0),
    ]
    .into_iter()
    .filter(|(key, value)| *key != u64::from(c::AT_SYSINFO_EHDR) || *value != 0)
    .collect();
    let words = 1 + args.len() + 1 + env.len() + 1 + 2 * auxv.len();
    let rsp = (random - 8 * words as u64) & !15;
    let mut block = Vec::with_capacity(8 * words);
    let mut word = |value: u64| block.extend_from_slice(&value.to_le_bytes());
    word(args.len() as u64);
    args.iter().for_each(|a| word(*a));
    word(0);
    env.iter().for_each(|e| word(*e));
    word(0);
    for (key, value) in &auxv {
        word(*key);
        word(*value);
    }
    mm.write_bytes(rsp, &block)?;
    let auxv_bytes = block[block.len() - 16 * auxv.len()..].to_vec();
    Ok(Built { rsp, args: args_start..env_start, env: env_start..env_end, auxv: auxv_bytes })
}
