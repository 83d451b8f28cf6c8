//! Extended registers: x87, AVX and AVX-512 state, beyond what each entry saves in the [`UserContext`].
//!
//! The entry saves XMM0-15 and MXCSR, since kernel code uses them; the upper halves, x87 and the rest stay in the
//! registers until another task wants them. A task's area is in the standard format, its SSE part filled in only
//! for signal frames.

use super::context::UserContext;
use super::{cpu, entry};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

static XCR0: AtomicU64 = AtomicU64::new(0);
static SIZE: AtomicU64 = AtomicU64::new(0);

const SSE: u64 = 2;
const OFFSET_MXCSR: usize = 24;
const OFFSET_XMM: usize = 160;
/// Bytes of XMM0 to XMM15.
const XMM_SIZE: usize = 256;
const OFFSET_HEADER: usize = 512;
const HEADER_SIZE: usize = 64;

pub(super) fn init(xcr0: u64, size: u64) {
    XCR0.store(xcr0, Ordering::Relaxed);
    SIZE.store(size.max((OFFSET_HEADER + HEADER_SIZE) as u64), Ordering::Relaxed);
}

/// Features that XCR0 enables.
pub fn xcr0() -> u64 {
    XCR0.load(Ordering::Relaxed)
}

/// Bytes of an area.
pub fn area_size() -> usize {
    SIZE.load(Ordering::Relaxed) as usize
}

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u8; 64]);

/// A task's extended state while it is not in the registers.
pub struct FpuState {
    lines: Box<[Line]>,
    /// vCPU whose registers hold this state if it also says so; [`NOWHERE`] where memory was changed since.
    loaded_on: usize,
}

const NOWHERE: usize = usize::MAX;

impl FpuState {
    /// The initial state.
    pub fn new() -> Self {
        let mut lines = Vec::new();
        lines.resize(area_size().div_ceil(64), Line([0; 64]));
        let mut state = Self { lines: lines.into_boxed_slice(), loaded_on: NOWHERE };
        state.reset();
        state
    }

    /// Back to the initial state.
    pub fn reset(&mut self) {
        for line in &mut *self.lines {
            line.0.fill(0);
        }
        self.bytes_mut()[0..2].copy_from_slice(&0x37fu16.to_le_bytes());
        self.bytes_mut()[OFFSET_MXCSR..OFFSET_MXCSR + 4].copy_from_slice(&0x1f80u32.to_le_bytes());
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.loaded_on = NOWHERE;
        let len = self.lines.len() * 64;
        // SAFETY: `Line` is 64 plain bytes without padding.
        unsafe { core::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), len) }
    }

    /// The area's bytes, as the last [`save`] left them.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: as in `bytes_mut`.
        unsafe { core::slice::from_raw_parts(self.lines.as_ptr().cast(), self.lines.len() * 64) }
    }

    /// The whole state in the standard format, for a signal frame: the area with XMM and MXCSR merged in.
    pub fn export(&self, ctx: &UserContext) -> Vec<u8> {
        let mut out = alloc::vec![0; area_size()];
        self.export_parts(ctx, |at, part| out[at..at + part.len()].copy_from_slice(part));
        out
    }

    /// The same in parts: `put` is given the offset and bytes of each. What lies between the parts is for software.
    pub(super) fn export_parts(&self, ctx: &UserContext, mut put: impl FnMut(usize, &[u8])) {
        let bytes = &self.bytes()[..area_size()];
        put(0, &bytes[..OFFSET_MXCSR]);
        let mxcsr = u64::from(ctx.mxcsr) | 0xffff << 32;
        put(OFFSET_MXCSR, &mxcsr.to_le_bytes());
        put(OFFSET_MXCSR + 8, &bytes[OFFSET_MXCSR + 8..OFFSET_XMM]);
        let mut xmm = [0; XMM_SIZE];
        for (slot, value) in xmm.as_chunks_mut::<16>().0.iter_mut().zip(&ctx.xmm) {
            *slot = value.to_le_bytes();
        }
        put(OFFSET_XMM, &xmm);
        put(OFFSET_HEADER, &[bytes[OFFSET_HEADER] | SSE as u8]);
        put(OFFSET_HEADER + 1, &bytes[OFFSET_HEADER + 1..]);
    }

    /// Takes a state that a program wrote into a signal frame; `false` where it is not valid.
    pub fn import(&mut self, data: &[u8], ctx: &mut UserContext) -> bool {
        if data.len() < OFFSET_HEADER {
            return false;
        }
        let n = data.len().min(area_size());
        self.reset();
        self.bytes_mut()[..n].copy_from_slice(&data[..n]);
        self.adopt(n, ctx);
        true
    }

    /// Takes a whole state that a program can have written: `fill` is given the area to put it in.
    pub(super) fn import_whole(&mut self, ctx: &mut UserContext, fill: impl FnOnce(&mut [u8])) {
        let size = area_size();
        fill(&mut self.bytes_mut()[..size]);
        self.adopt(size, ctx);
    }

    /// Makes the first `n` bytes, which were just put into the area, the state: what is not valid goes.
    fn adopt(&mut self, n: usize, ctx: &mut UserContext) {
        let bytes = self.bytes_mut();
        let mxcsr = u32::from_le_bytes([bytes[24], bytes[25], bytes[26], bytes[27]]);
        ctx.mxcsr = mxcsr & 0xffff;
        bytes[OFFSET_MXCSR..OFFSET_MXCSR + 4].copy_from_slice(&0x1f80u32.to_le_bytes());
        for (i, xmm) in ctx.xmm.iter_mut().enumerate() {
            let at = OFFSET_XMM + 16 * i;
            let mut raw = [0; 16];
            raw.copy_from_slice(&bytes[at..at + 16]);
            *xmm = u128::from_le_bytes(raw);
        }
        if n < OFFSET_HEADER + HEADER_SIZE {
            // Only the legacy part: x87 and SSE.
            bytes[OFFSET_HEADER..OFFSET_HEADER + 8].copy_from_slice(&3u64.to_le_bytes());
        } else {
            let mut raw = [0; 8];
            raw.copy_from_slice(&bytes[OFFSET_HEADER..OFFSET_HEADER + 8]);
            let valid = u64::from_le_bytes(raw) & xcr0();
            bytes[OFFSET_HEADER..OFFSET_HEADER + 8].copy_from_slice(&valid.to_le_bytes());
            bytes[OFFSET_HEADER + 8..OFFSET_HEADER + HEADER_SIZE].fill(0);
        }
    }

    fn key(&self) -> u64 {
        self.lines.as_ptr().expose_provenance() as u64
    }

    fn is_loaded(&self) -> bool {
        self.loaded_on == cpu::id() && cpu::this().fpu_owner.load(Ordering::Relaxed) == self.key()
    }
}

impl Default for FpuState {
    fn default() -> Self {
        Self::new()
    }
}

impl Clone for FpuState {
    fn clone(&self) -> Self {
        Self { lines: self.lines.clone(), loaded_on: NOWHERE }
    }
}

/// Puts the registers into `state` if they are its task's.
pub fn save(state: &mut FpuState) {
    if !state.is_loaded() {
        return;
    }
    let mask = xcr0() & !SSE;
    // SAFETY: the area is 64-byte aligned and as large as XCR0's features need.
    unsafe {
        asm!("xsave64 [{}]", in(reg) state.lines.as_mut_ptr(), in("eax") mask as u32, in("edx") (mask >> 32) as u32,
             options(nostack, preserves_flags));
    }
}

/// Loads `state` into the registers unless they hold it; an invalid one is replaced by the initial state.
pub fn load(state: &mut FpuState) {
    if state.is_loaded() || super::port::flavour() == super::port::Flavour::Systrap {
        return;
    }
    let mask = xcr0() & !SSE;
    // SAFETY: as in `save`; a #GP of XRSTOR on a state that a program made is caught by the exception table.
    unsafe {
        if entry::runsc_xrstor(state.lines.as_ptr().cast(), mask) != 0 {
            state.reset();
            entry::runsc_xrstor(state.lines.as_ptr().cast(), mask);
        }
    }
    cpu::this().fpu_owner.store(state.key(), Ordering::Relaxed);
    state.loaded_on = cpu::id();
}
