//! Registers of a stopped task, as its tracer sees and sets them: struct user_regs_struct of sys/user.h.

use crate::arch::UserContext;
use crate::arch::context::VECTOR_SYSCALL;
use crate::errno::{Errno, Result};
use crate::kernel::task::CurrentTask;

/// Number of registers.
pub const COUNT: usize = 27;
/// Where some stand.
const RAX: usize = 10;
const ORIG_RAX: usize = 15;
const RIP: usize = 16;
const CS: usize = 17;
const RSP: usize = 19;
const SS: usize = 20;
const FS_BASE: usize = 21;
const GS_BASE: usize = 22;

/// A copy of a task's registers, which its tracer may change.
pub struct Regs {
    /// Those that entries of the kernel save.
    pub ctx: UserContext,
    /// FS base.
    pub fs_base: u64,
    /// GS base.
    pub gs_base: u64,
    /// Number of the system call that the task is in; -1 for none.
    pub orig_rax: u64,
}

impl Regs {
    /// Those of the running task.
    pub fn of(current: &CurrentTask) -> Self {
        let ctx = (**current.ctx()).clone();
        let orig_rax = match current.call.number() {
            Some(number) => number,
            None if ctx.vector == VECTOR_SYSCALL => ctx.error,
            None => u64::MAX,
        };
        Self { ctx, fs_base: current.bases.running_fs(), gs_base: current.bases.running_gs(), orig_rax }
    }

    /// Makes them those of the running task.
    pub fn put_back(self, current: &CurrentTask) {
        if self.fs_base != current.bases.running_fs() {
            current.bases.set_running_fs(self.fs_base);
        }
        if self.gs_base != current.bases.running_gs() {
            current.bases.set_running_gs(self.gs_base);
        }
        let mut ctx = current.ctx_mut();
        **ctx = self.ctx;
        ctx.sanitize();
        if ctx.rip >= current.mm_ref().user_top {
            // The program jumps into nowhere: the fault is its own.
            ctx.rip = 0;
        }
        if ctx.vector == VECTOR_SYSCALL {
            ctx.error = self.orig_rax;
        }
    }

    /// All, in the order of struct user_regs_struct.
    pub fn all(&self) -> [u64; COUNT] {
        let x = &self.ctx;
        [
            x.r15,
            x.r14,
            x.r13,
            x.r12,
            x.rbp,
            x.rbx,
            x.r11,
            x.r10,
            x.r9,
            x.r8,
            x.rax,
            x.rcx,
            x.rdx,
            x.rsi,
            x.rdi,
            self.orig_rax,
            x.rip,
            x.cs,
            x.rflags,
            x.rsp,
            x.ss,
            self.fs_base,
            self.gs_base,
            0,
            0,
            0,
            0,
        ]
    }

    /// Sets one by its place in struct user_regs_struct. Selectors stay what they are.
    ///
    /// # Errors
    /// EIO: a base that is no address of a program, a selector that cannot be.
    pub fn set(&mut self, index: usize, value: u64, user_top: u64) -> Result<()> {
        let x = &mut self.ctx;
        let place = match index {
            0 => &mut x.r15,
            1 => &mut x.r14,
            2 => &mut x.r13,
            3 => &mut x.r12,
            4 => &mut x.rbp,
            5 => &mut x.rbx,
            6 => &mut x.r11,
            7 => &mut x.r10,
            8 => &mut x.r9,
            9 => &mut x.r8,
            RAX => &mut x.rax,
            11 => &mut x.rcx,
            12 => &mut x.rdx,
            13 => &mut x.rsi,
            14 => &mut x.rdi,
            ORIG_RAX => &mut self.orig_rax,
            RIP => &mut x.rip,
            CS | SS => return if value & 3 == 3 { Ok(()) } else { Err(Errno::EIO) },
            18 => &mut x.rflags,
            RSP => &mut x.rsp,
            FS_BASE | GS_BASE if value >= user_top => return Err(Errno::EIO),
            FS_BASE => &mut self.fs_base,
            GS_BASE => &mut self.gs_base,
            23..COUNT => return Ok(()),
            _ => return Err(Errno::EIO),
        };
        *place = value;
        if index == 18 {
            self.ctx.sanitize();
        }
        Ok(())
    }
}
