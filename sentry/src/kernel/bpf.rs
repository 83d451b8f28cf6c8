//! Classic BPF as seccomp(2) has it: which programs are valid, and the machine that runs them.

use crate::errno::{Errno, Result};
use alloc::vec::Vec;
use linux_raw_sys::ptrace as b;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Most instructions of a program: BPF_MAXINSNS.
pub const MAX_INSTRUCTIONS: usize = 4096;
/// Words of scratch memory: BPF_MEMWORDS.
const WORDS: usize = 16;

/// struct sock_filter of linux/filter.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip where a comparison holds.
    pub jt: u8,
    /// Instructions to skip where it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// struct seccomp_data: what a program sees of a system call.
#[repr(C)]
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Data {
    /// Number.
    pub nr: i32,
    /// AUDIT_ARCH_*.
    pub arch: u32,
    /// Address after the instruction that made the call.
    pub instruction_pointer: u64,
    /// Arguments.
    pub args: [u64; 6],
}

const DATA_SIZE: u32 = size_of::<Data>() as u32;
/// Offset of the number in [`Data`].
const NR_AT: u32 = 0;
/// Offset of the architecture in [`Data`].
const ARCH_AT: u32 = 4;

const LD_ABS: u32 = b::BPF_LD | b::BPF_W | b::BPF_ABS;
const LD_LEN: u32 = b::BPF_LD | b::BPF_W | b::BPF_LEN;
const LDX_LEN: u32 = b::BPF_LDX | b::BPF_W | b::BPF_LEN;
const LD_IMM: u32 = b::BPF_LD | b::BPF_IMM;
const LDX_IMM: u32 = b::BPF_LDX | b::BPF_IMM;
const LD_MEM: u32 = b::BPF_LD | b::BPF_MEM;
const LDX_MEM: u32 = b::BPF_LDX | b::BPF_MEM;
const RET_K: u32 = b::BPF_RET | b::BPF_K;
const RET_A: u32 = b::BPF_RET | BPF_A;
const JA: u32 = b::BPF_JMP | b::BPF_JA;
const ALU_NEG: u32 = b::BPF_ALU | b::BPF_NEG;
const AND_K: u32 = b::BPF_ALU | b::BPF_AND | b::BPF_K;
const TAX: u32 = b::BPF_MISC | BPF_TAX;
const TXA: u32 = b::BPF_MISC | BPF_TXA;
/// The accumulator as the operand of RET, linux/filter.h.
const BPF_A: u32 = 0x10;
const BPF_TAX: u32 = 0x00;
const BPF_TXA: u32 = 0x80;

/// A program that has been checked: it ends, and reads only what is there.
#[derive(Debug, PartialEq, Eq)]
pub struct Program(Vec<Instruction>);

impl Program {
    /// Checks a program.
    ///
    /// # Errors
    /// EINVAL: an operation that seccomp does not have, a jump out of the program, a shift too far, a division by zero,
    /// scratch memory that is read before it is written, or no RET at the end.
    pub fn new(code: Vec<Instruction>) -> Result<Self> {
        if code.is_empty() || code.len() > MAX_INSTRUCTIONS {
            return Err(Errno::EINVAL);
        }
        for (at, i) in code.iter().enumerate() {
            let left = code.len() - at - 1;
            let valid = match u32::from(i.code) {
                LD_ABS => i.k < DATA_SIZE && i.k.is_multiple_of(4),
                LD_LEN | LDX_LEN | LD_IMM | LDX_IMM | RET_K | RET_A | TAX | TXA | ALU_NEG => true,
                LD_MEM | LDX_MEM | b::BPF_ST | b::BPF_STX => (i.k as usize) < WORDS,
                JA => (i.k as usize) < left,
                code => match code & 7 {
                    b::BPF_JMP => comparison(code) && usize::from(i.jt.max(i.jf)) < left,
                    b::BPF_ALU => arithmetic(code, i.k),
                    _ => false,
                },
            };
            if !valid {
                return Err(Errno::EINVAL);
            }
        }
        let last = code.last().map_or(0, |i| u32::from(i.code));
        if last != RET_K && last != RET_A {
            return Err(Errno::EINVAL);
        }
        check_memory(&code)?;
        Ok(Self(code))
    }

    /// What it counts towards the limit of a task's filters: Linux counts the instructions of eBPF that it translates
    /// a program to, a prologue of three included.
    pub fn cost(&self) -> usize {
        let each = self.0.iter().map(|i| {
            let code = u32::from(i.code);
            let constant = code & b::BPF_X == 0;
            match code {
                RET_K => 2,
                JA | RET_A => 1,
                _ if code & 7 == b::BPF_JMP => {
                    // Its comparisons extend the sign of constants, and have one target.
                    let wide = usize::from(constant && i.k > i32::MAX as u32);
                    let inverted = i.jt == 0 && code & 0xf0 != b::BPF_JSET;
                    wide + if i.jf == 0 || inverted { 1 } else { 2 }
                }
                _ if code & 7 == b::BPF_ALU && code & 0xf0 == b::BPF_DIV && !constant => 5,
                _ => 1,
            }
        });
        3 + each.sum::<usize>()
    }

    /// Runs it and returns what RET says; 0 for a division by a register that is zero.
    pub fn run(&self, data: &Data) -> u32 {
        let bytes = data.as_bytes();
        let load = |at: u32| {
            let at = at as usize;
            let word = bytes.get(at..at + 4).and_then(|w| <[u8; 4]>::try_from(w).ok());
            word.map_or(0, u32::from_le_bytes)
        };
        let (mut a, mut x, mut memory) = (0u32, 0u32, [0u32; WORDS]);
        let mut at = 0;
        while let Some(i) = self.0.get(at) {
            at += 1;
            let word = i.k as usize % WORDS;
            match u32::from(i.code) {
                LD_ABS => a = load(i.k),
                LD_LEN => a = DATA_SIZE,
                LDX_LEN => x = DATA_SIZE,
                LD_IMM => a = i.k,
                LDX_IMM => x = i.k,
                LD_MEM => a = memory[word],
                LDX_MEM => x = memory[word],
                b::BPF_ST => memory[word] = a,
                b::BPF_STX => memory[word] = x,
                RET_K => return i.k,
                RET_A => return a,
                TAX => x = a,
                TXA => a = x,
                JA => at += i.k as usize,
                ALU_NEG => a = a.wrapping_neg(),
                code => {
                    let operand = if code & b::BPF_X != 0 { x } else { i.k };
                    if code & 7 == b::BPF_JMP {
                        at += usize::from(if holds(code, a, operand) { i.jt } else { i.jf });
                    } else {
                        match compute(code, a, operand) {
                            Some(value) => a = value,
                            None => return 0,
                        }
                    }
                }
            }
        }
        0
    }

    /// Whether it allows a call of this number and architecture whatever its arguments are, as far as can be told
    /// without them.
    pub fn always_allows(&self, nr: u32, arch: u32) -> bool {
        let mut a = 0u32;
        let mut at = 0;
        while let Some(i) = self.0.get(at) {
            at += 1;
            match u32::from(i.code) {
                LD_ABS if i.k == NR_AT => a = nr,
                LD_ABS if i.k == ARCH_AT => a = arch,
                RET_K => return i.k == b::SECCOMP_RET_ALLOW,
                JA => at += i.k as usize,
                AND_K => a &= i.k,
                code if code & 7 == b::BPF_JMP && code & b::BPF_X == 0 => {
                    at += usize::from(if holds(code, a, i.k) { i.jt } else { i.jf });
                }
                _ => return false,
            }
        }
        false
    }
}

/// Whether this is a conditional jump that there is.
fn comparison(code: u32) -> bool {
    let operation = code & !(b::BPF_X | 7);
    matches!(operation, b::BPF_JEQ | b::BPF_JGE | b::BPF_JGT | b::BPF_JSET)
}

/// Whether this is an arithmetic operation that there is, with a constant that it can take.
fn arithmetic(code: u32, k: u32) -> bool {
    let constant = code & b::BPF_X == 0;
    match code & !(b::BPF_X | 7) {
        b::BPF_ADD | b::BPF_SUB | b::BPF_MUL | b::BPF_AND | b::BPF_OR | b::BPF_XOR => true,
        b::BPF_DIV => !constant || k != 0,
        b::BPF_LSH | b::BPF_RSH => !constant || k < 32,
        _ => false,
    }
}

fn holds(code: u32, a: u32, operand: u32) -> bool {
    match code & 0xf0 {
        b::BPF_JEQ => a == operand,
        b::BPF_JGT => a > operand,
        b::BPF_JGE => a >= operand,
        _ => a & operand != 0,
    }
}

/// `None`: a division by zero.
fn compute(code: u32, a: u32, operand: u32) -> Option<u32> {
    Some(match code & 0xf0 {
        b::BPF_ADD => a.wrapping_add(operand),
        b::BPF_SUB => a.wrapping_sub(operand),
        b::BPF_MUL => a.wrapping_mul(operand),
        b::BPF_DIV => a.checked_div(operand)?,
        b::BPF_AND => a & operand,
        b::BPF_OR => a | operand,
        b::BPF_XOR => a ^ operand,
        b::BPF_LSH => a.wrapping_shl(operand),
        _ => a.wrapping_shr(operand),
    })
}

/// Refuses programs that may read scratch memory which they have not written.
fn check_memory(code: &[Instruction]) -> Result<()> {
    let mut reaching = Vec::new();
    reaching.try_reserve_exact(code.len()).map_err(|_| Errno::ENOMEM)?;
    reaching.resize(code.len(), u16::MAX);
    let mut written = 0u16;
    for (at, i) in code.iter().enumerate() {
        written &= reaching[at];
        let word = 1u16 << (i.k % WORDS as u32);
        let mut reach = |skip: usize| {
            if let Some(mask) = reaching.get_mut(at + 1 + skip) {
                *mask &= written;
            }
        };
        match u32::from(i.code) {
            b::BPF_ST | b::BPF_STX => written |= word,
            LD_MEM | LDX_MEM if written & word == 0 => return Err(Errno::EINVAL),
            JA => {
                reach(i.k as usize);
                written = u16::MAX;
            }
            code if code & 7 == b::BPF_JMP => {
                reach(usize::from(i.jt));
                reach(usize::from(i.jf));
                written = u16::MAX;
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(code: u32, k: u32) -> Instruction {
        Instruction { code: code as u16, jt: 0, jf: 0, k }
    }

    fn jump(code: u32, k: u32, jt: u8, jf: u8) -> Instruction {
        Instruction { code: (b::BPF_JMP | code) as u16, jt, jf, k }
    }

    const DATA: Data =
        Data { nr: 39, arch: 7, instruction_pointer: 0x1_0000_0002, args: [5, 6, 7, 8, 9, u64::MAX] };

    fn run(code: &[Instruction]) -> Result<u32> {
        Program::new(code.to_vec()).map(|p| p.run(&DATA))
    }

    #[test]
    fn loads_and_arithmetic() {
        let alu = |code, k| op(b::BPF_ALU | code, k);
        assert_eq!(run(&[op(LD_ABS, 0), op(RET_A, 0)]), Ok(39));
        assert_eq!(run(&[op(LD_ABS, 12), op(RET_A, 0)]), Ok(1));
        assert_eq!(run(&[op(LD_ABS, 60), op(RET_A, 0)]), Ok(u32::MAX));
        assert_eq!(run(&[op(LD_LEN, 0), op(RET_A, 0)]), Ok(64));
        assert_eq!(run(&[op(LD_IMM, 6), alu(b::BPF_MUL, 7), alu(b::BPF_SUB, 2), op(RET_A, 0)]), Ok(40));
        assert_eq!(run(&[op(LD_IMM, 6), op(TAX, 0), alu(b::BPF_ADD | b::BPF_X, 0), op(RET_A, 0)]), Ok(12));
        assert_eq!(run(&[op(LD_IMM, 1), alu(b::BPF_LSH, 31), alu(b::BPF_RSH, 30), op(RET_A, 0)]), Ok(2));
        assert_eq!(run(&[op(LD_IMM, 1), op(ALU_NEG, 0), op(RET_A, 0)]), Ok(u32::MAX));
        assert_eq!(run(&[op(LD_IMM, 9), alu(b::BPF_DIV | b::BPF_X, 0), op(RET_K, 3)]), Ok(0));
        assert_eq!(run(&[op(LD_IMM, 9), op(b::BPF_ST, 3), op(LDX_MEM, 3), op(TXA, 0), op(RET_A, 0)]), Ok(9));
    }

    #[test]
    fn jumps() {
        let program = [op(LD_ABS, 0), jump(b::BPF_JEQ, 39, 1, 0), op(RET_K, 1), op(RET_K, 2)];
        assert_eq!(run(&program), Ok(2));
        let program = [op(LD_ABS, 0), jump(b::BPF_JSET, 8, 1, 0), op(RET_K, 1), op(RET_K, 2)];
        assert_eq!(run(&program), Ok(1));
        assert_eq!(run(&[op(JA, 1), op(RET_K, 1), op(RET_K, 2)]), Ok(2));
    }

    #[test]
    fn what_is_not_valid_is_refused() {
        let alu = |code, k| op(b::BPF_ALU | code, k);
        let ret = op(RET_K, 0);
        let bad: [&[Instruction]; 14] = [
            &[],
            &[op(LD_IMM, 0)],
            &[op(LD_ABS, 64), ret],
            &[op(LD_ABS, 2), ret],
            &[op(b::BPF_LD | b::BPF_B | b::BPF_ABS, 0), ret],
            &[op(b::BPF_LD | b::BPF_W | b::BPF_IND, 0), ret],
            &[op(LD_MEM, 0), ret],
            &[op(b::BPF_ST, 16), ret],
            &[alu(b::BPF_DIV, 0), ret],
            &[alu(b::BPF_LSH, 32), ret],
            &[alu(b::BPF_MOD, 3), ret],
            &[op(JA, 1), ret],
            &[jump(b::BPF_JEQ, 0, 0, 1), ret],
            // Written on one of two ways only.
            &[jump(b::BPF_JEQ, 0, 1, 0), op(b::BPF_ST, 1), op(LD_MEM, 1), op(RET_A, 0)],
        ];
        for (n, program) in bad.iter().enumerate() {
            assert_eq!(run(program), Err(Errno::EINVAL), "program {n}");
        }
        assert_eq!(Program::new(alloc::vec![ret; MAX_INSTRUCTIONS + 1]), Err(Errno::EINVAL));
        assert!(Program::new(alloc::vec![ret; MAX_INSTRUCTIONS]).is_ok());
    }

    #[test]
    fn calls_that_are_always_allowed() {
        let allow = b::SECCOMP_RET_ALLOW;
        let program = [
            op(LD_ABS, 4),
            jump(b::BPF_JEQ, 7, 1, 0),
            op(RET_K, 0),
            op(LD_ABS, 0),
            jump(b::BPF_JEQ, 39, 2, 0),
            jump(b::BPF_JEQ, 40, 2, 0),
            op(RET_K, 0),
            op(RET_K, allow),
            op(LD_ABS, 16),
            jump(b::BPF_JEQ, 0, 0, 1),
            op(RET_K, allow),
            op(RET_K, 0),
        ];
        let program = Program::new(program.to_vec()).expect("valid");
        assert!(program.always_allows(39, 7));
        assert!(!program.always_allows(39, 8));
        assert!(!program.always_allows(40, 7));
        assert!(!program.always_allows(41, 7));
    }
}
