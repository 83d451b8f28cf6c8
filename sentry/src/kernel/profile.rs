//! The filter of system calls that a container's configuration has, as a program for [`bpf`](super::bpf).

use super::bpf::{Instruction, Program};
use super::seccomp::ARCH;
use crate::errno::{Errno, Result};
use crate::syscalls::table;
use abi::spec::{Comparison, SeccompArg, SeccompRule, SeccompSpec};
use alloc::vec::Vec;
use linux_raw_sys::ptrace as p;

/// Offsets in struct seccomp_data.
const NR: u32 = 0;
const ARCH_AT: u32 = 4;
const ARGS: u32 = 16;

fn instruction(code: u32, k: u32) -> Instruction {
    Instruction { code: code as u16, jt: 0, jf: 0, k }
}

fn load(at: u32) -> Instruction {
    instruction(p::BPF_LD | p::BPF_W | p::BPF_ABS, at)
}

fn give(answer: u32) -> Instruction {
    instruction(p::BPF_RET | p::BPF_K, answer)
}

/// Where a comparison of half an argument leads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    /// To the next instruction.
    On,
    /// The argument fits.
    Fits,
    /// It does not.
    Fails,
}

/// Comparisons of an argument's halves: (offset of the half, mask, operation, value, where it holds, where it does not).
fn comparisons(arg: &SeccompArg) -> Vec<(u32, u32, u32, u32, To, To)> {
    let low = ARGS + 8 * u32::from(arg.index);
    let high = low + 4;
    let (value, all) = (arg.value, u32::MAX);
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    let (vh, vl) = halves(value);
    // Above `value`, or from it on: the high halves decide unless they are equal.
    let above = |operation, fits, fails| {
        alloc::vec![
            (high, all, p::BPF_JGT, vh, fits, To::On),
            (high, all, p::BPF_JEQ, vh, To::On, fails),
            (low, all, operation, vl, fits, fails),
        ]
    };
    let (fits, fails) = (To::Fits, To::Fails);
    match arg.comparison {
        Comparison::Equal => {
            alloc::vec![(high, all, p::BPF_JEQ, vh, To::On, fails), (low, all, p::BPF_JEQ, vl, fits, fails)]
        }
        Comparison::NotEqual => {
            alloc::vec![(high, all, p::BPF_JEQ, vh, To::On, fits), (low, all, p::BPF_JEQ, vl, fails, fits)]
        }
        Comparison::MaskedEqual => {
            let (mh, ml) = halves(value);
            let (wh, wl) = halves(arg.value_two & value);
            alloc::vec![(high, mh, p::BPF_JEQ, wh, To::On, fails), (low, ml, p::BPF_JEQ, wl, fits, fails)]
        }
        Comparison::Greater => above(p::BPF_JGT, fits, fails),
        Comparison::GreaterOrEqual => above(p::BPF_JGE, fits, fails),
        Comparison::Less => above(p::BPF_JGE, fails, fits),
        Comparison::LessOrEqual => above(p::BPF_JGT, fails, fits),
    }
}

/// A rule with arguments for one call. It begins and ends with the call's number loaded.
fn conditional(nr: u32, rule: &SeccompRule) -> Result<Vec<Instruction>> {
    // Each argument: its instructions with targets that are not known yet.
    let mut parts: Vec<Vec<(Instruction, To, To)>> = Vec::new();
    for arg in &rule.args {
        let mut part = Vec::new();
        for (at, mask, operation, value, holds, not) in comparisons(arg) {
            part.push((load(at), To::On, To::On));
            if mask != u32::MAX {
                part.push((instruction(p::BPF_ALU | p::BPF_AND | p::BPF_K, mask), To::On, To::On));
            }
            part.push((instruction(p::BPF_JMP | p::BPF_K | operation, value), holds, not));
        }
        parts.push(part);
    }
    let body: usize = parts.iter().map(Vec::len).sum();
    // After the body: the answer, and the number loaded again for what follows.
    let skip = |from: usize, to: usize| u8::try_from(to - from - 1).map_err(|_| Errno::EINVAL);
    let mut out = Vec::new();
    let (answer, reload) = (1 + body, 2 + body);
    let mut first = instruction(p::BPF_JMP | p::BPF_JEQ | p::BPF_K, nr);
    first.jf = skip(0, reload)?;
    out.push(first);
    for part in &parts {
        let end = out.len() + part.len();
        for (i, holds, not) in part {
            let here = out.len();
            let target = |to: To| match to {
                To::On => Ok(0),
                To::Fits => skip(here, end),
                To::Fails => skip(here, reload),
            };
            out.push(Instruction { jt: target(*holds)?, jf: target(*not)?, ..*i });
        }
    }
    debug_assert_eq!(out.len(), answer);
    out.push(give(rule.answer));
    out.push(load(NR));
    Ok(out)
}

fn number(name: &str) -> Option<u32> {
    let known = |e: &Option<table::Entry>| e.as_ref().is_some_and(|e| e.name == name);
    table::TABLE.iter().position(known).map(|at| at as u32)
}

/// Makes the program. Calls that are not known are left out, as libseccomp leaves them; among rules for one call those
/// with arguments count first, in their order. A call that is newer than all that the rules name answers ENOSYS, unless
/// it would be allowed: programs try what is older then.
///
/// # Errors
/// EINVAL: together the rules are too long.
pub fn compile(spec: &SeccompSpec) -> Result<Program> {
    let mut code = alloc::vec![
        load(ARCH_AT),
        Instruction { jt: 1, ..instruction(p::BPF_JMP | p::BPF_JEQ | p::BPF_K, ARCH) },
        give(p::SECCOMP_RET_KILL_PROCESS),
        load(NR),
    ];
    let numbers = |rule: &SeccompRule| -> Vec<u32> { rule.names.iter().filter_map(|n| number(n)).collect() };
    let mut done = alloc::collections::BTreeSet::new();
    for rule in spec.rules.iter().filter(|rule| !rule.args.is_empty()) {
        for nr in numbers(rule) {
            code.extend(conditional(nr, rule)?);
        }
    }
    for rule in spec.rules.iter().filter(|rule| rule.args.is_empty() && rule.answer != spec.default) {
        for nr in numbers(rule) {
            if done.insert(nr) {
                code.push(Instruction { jf: 1, ..instruction(p::BPF_JMP | p::BPF_JEQ | p::BPF_K, nr) });
                code.push(give(rule.answer));
            }
        }
    }
    let newest = spec.rules.iter().flat_map(numbers).max();
    let allows = matches!(spec.default, p::SECCOMP_RET_ALLOW | p::SECCOMP_RET_LOG);
    if let (Some(newest), false) = (newest, allows) {
        code.push(Instruction { jf: 1, ..instruction(p::BPF_JMP | p::BPF_JGT | p::BPF_K, newest) });
        code.push(give(p::SECCOMP_RET_ERRNO | u32::from(Errno::ENOSYS.0)));
    }
    code.push(give(spec.default));
    Program::new(code)
}

#[cfg(test)]
mod tests {
    use super::super::bpf::Data;
    use super::*;
    use alloc::string::ToString;

    const ALLOW: u32 = p::SECCOMP_RET_ALLOW;
    const TRAP: u32 = p::SECCOMP_RET_TRAP;
    const EPERM: u32 = p::SECCOMP_RET_ERRNO | 1;

    fn rule(names: &[&str], answer: u32, args: Vec<SeccompArg>) -> SeccompRule {
        SeccompRule { names: names.iter().map(|n| n.to_string()).collect(), answer, args }
    }

    fn arg(index: u8, comparison: Comparison, value: u64, value_two: u64) -> SeccompArg {
        SeccompArg { index, value, value_two, comparison }
    }

    fn run(program: &Program, nr: i32, first: u64) -> u32 {
        let args = [first, 7, 0, 0, 0, 0];
        program.run(&Data { nr, arch: ARCH, instruction_pointer: 0, args })
    }

    #[test]
    fn names_and_the_default() {
        let rules = alloc::vec![rule(&["getpid", "nosuch", "read"], ALLOW, Vec::new())];
        let program = compile(&SeccompSpec { default: EPERM, rules, log: false }).expect("a program");
        assert_eq!(run(&program, 39, 0), ALLOW);
        assert_eq!(run(&program, 0, 0), ALLOW);
        assert_eq!(run(&program, 1, 0), EPERM);
        assert_eq!(run(&program, 40, 0), p::SECCOMP_RET_ERRNO | 38);
        let data = Data { nr: 39, arch: 3, instruction_pointer: 0, args: [0; 6] };
        assert_eq!(program.run(&data), p::SECCOMP_RET_KILL_PROCESS);
        assert!(program.always_allows(39, ARCH) && !program.always_allows(1, ARCH));
    }

    #[test]
    fn comparisons_of_64_bits() {
        use Comparison as C;
        let v = 0x1_0000_0005u64;
        let values = [0, 5, v - 1, v, v + 1, 0x2_0000_0000, u64::MAX];
        type Holds = fn(u64, u64) -> bool;
        let holds: [(C, Holds); 6] = [
            (C::Equal, |a, b| a == b),
            (C::NotEqual, |a, b| a != b),
            (C::Greater, |a, b| a > b),
            (C::GreaterOrEqual, |a, b| a >= b),
            (C::Less, |a, b| a < b),
            (C::LessOrEqual, |a, b| a <= b),
        ];
        for (comparison, expected) in holds {
            let rules = alloc::vec![rule(&["getpid"], TRAP, alloc::vec![arg(0, comparison, v, 0)])];
            let program = compile(&SeccompSpec { default: ALLOW, rules, log: false }).expect("a program");
            for value in values {
                let answer = if expected(value, v) { TRAP } else { ALLOW };
                assert_eq!(run(&program, 39, value), answer, "{comparison:?} {value:#x}");
            }
            assert_eq!(run(&program, 40, v), ALLOW);
        }
    }

    #[test]
    fn masks_several_arguments_and_the_order_of_rules() {
        use Comparison as C;
        let rules = alloc::vec![
            rule(&["clone"], ALLOW, Vec::new()),
            rule(&["clone"], TRAP, alloc::vec![arg(0, C::MaskedEqual, 0xf000_0000_00f0, 0x1000_0000_0010)]),
            rule(&["clone"], EPERM, alloc::vec![arg(0, C::Equal, 3, 0), arg(1, C::Equal, 7, 0)]),
            rule(&["clone"], TRAP, alloc::vec![arg(0, C::Equal, 4, 0), arg(1, C::Equal, 8, 0)]),
        ];
        let program = compile(&SeccompSpec { default: EPERM, rules, log: false }).expect("a program");
        assert_eq!(run(&program, 56, 0x1fff_0000_0f1f), TRAP);
        assert_eq!(run(&program, 56, 0x1fff_0000_0f2f), ALLOW);
        assert_eq!(run(&program, 56, 3), EPERM);
        assert_eq!(run(&program, 56, 4), ALLOW);
        assert_eq!(run(&program, 55, 3), EPERM);
    }
}
