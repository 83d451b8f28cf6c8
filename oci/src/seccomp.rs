//! Filters of system calls: `linux.seccomp` of config.json, as the sentry takes them.

use abi::spec::{Comparison, SeccompArg, SeccompRule, SeccompSpec};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompFilterFlag as Flag,
    LinuxSeccompOperator as Operator,
};

use crate::Error;

/// Error number of SCMP_ACT_ERRNO and SCMP_ACT_TRACE where none is given: EPERM.
const DEFAULT_ERRNO: u32 = 1;
/// Arguments of a system call.
const ARGUMENTS: usize = 6;

/// Actions that there are.
pub const ACTIONS: [&str; 8] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];
/// Comparisons that there are.
pub const OPERATORS: [&str; 7] = [
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];
/// Flags that are accepted.
pub const FLAGS: [&str; 3] =
    ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"];
/// Architectures of programs.
pub const ARCHS: [&str; 1] = ["SCMP_ARCH_X86_64"];

/// Converts `linux.seccomp`.
///
/// # Errors
/// An action, flag, architecture, error number or argument that there is not.
pub fn convert(seccomp: &LinuxSeccomp) -> Result<SeccompSpec, Error> {
    let native = |arch: &Arch| matches!(arch, Arch::ScmpArchNative | Arch::ScmpArchX86_64);
    if let Some(archs) = seccomp.architectures()
        && !archs.is_empty()
        && !archs.iter().any(native)
    {
        return Err(Error::invalid("linux.seccomp.architectures", "x86_64 is not among them"));
    }
    let mut log = false;
    for flag in seccomp.flags().iter().flatten() {
        match flag {
            Flag::SeccompFilterFlagLog => log = true,
            // There is one thread when the filter is installed, and no mitigation to switch off.
            Flag::SeccompFilterFlagTsync | Flag::SeccompFilterFlagSpecAllow => {}
            other => return Err(Error::invalid("linux.seccomp.flags", format!("{other} is not supported"))),
        }
    }
    let default =
        answer(seccomp.default_action(), seccomp.default_errno_ret(), "linux.seccomp.defaultAction")?;
    let mut rules = Vec::new();
    for call in seccomp.syscalls().iter().flatten() {
        if call.names().is_empty() {
            return Err(Error::invalid("linux.seccomp.syscalls", "an entry names no system call"));
        }
        let action = answer(call.action(), call.errno_ret(), "linux.seccomp.syscalls.action")?;
        let mut args = Vec::new();
        for arg in call.args().iter().flatten() {
            if arg.index() >= ARGUMENTS {
                let reason = format!("there is no argument {}", arg.index());
                return Err(Error::invalid("linux.seccomp.syscalls.args", reason));
            }
            args.push(SeccompArg {
                index: arg.index() as u8,
                value: arg.value(),
                value_two: arg.value_two().unwrap_or(0),
                comparison: comparison(arg.op()),
            });
        }
        let names = call.names().clone();
        // As runc has it: an argument that is named twice makes each comparison a rule of its own.
        let repeated = args.iter().enumerate().any(|(i, a)| args[..i].iter().any(|b| a.index == b.index));
        if repeated {
            rules.extend(args.into_iter().map(|arg| SeccompRule {
                names: names.clone(),
                answer: action,
                args: vec![arg],
            }));
        } else {
            rules.push(SeccompRule { names, answer: action, args });
        }
    }
    Ok(SeccompSpec { default, rules, log })
}

/// The value that a filter returns: seccomp(2).
fn answer(action: Action, errno: Option<u32>, field: &'static str) -> Result<u32, Error> {
    let errno = errno.unwrap_or(DEFAULT_ERRNO);
    if errno > 0xffff {
        return Err(Error::invalid(field, format!("{errno} is no error number")));
    }
    match action {
        Action::ScmpActNotify => {
            Err(Error::invalid(field, "SCMP_ACT_NOTIFY is not supported: filters have no listeners"))
        }
        Action::ScmpActErrno | Action::ScmpActTrace => Ok(action.as_u32(Some(errno))),
        _ => Ok(action.as_u32(None)),
    }
}

fn comparison(operator: Operator) -> Comparison {
    match operator {
        Operator::ScmpCmpNe => Comparison::NotEqual,
        Operator::ScmpCmpLt => Comparison::Less,
        Operator::ScmpCmpLe => Comparison::LessOrEqual,
        Operator::ScmpCmpEq => Comparison::Equal,
        Operator::ScmpCmpGe => Comparison::GreaterOrEqual,
        Operator::ScmpCmpGt => Comparison::Greater,
        Operator::ScmpCmpMaskedEq => Comparison::MaskedEqual,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<SeccompSpec, Error> {
        convert(&serde_json::from_str(json).expect("it parses"))
    }

    #[test]
    fn actions_and_arguments() {
        let spec = parse(
            r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"architectures":["SCMP_ARCH_X86_64"],
            "flags":["SECCOMP_FILTER_FLAG_LOG"],"syscalls":[{"names":["read","write"],"action":"SCMP_ACT_ALLOW"},
            {"names":["socket"],"action":"SCMP_ACT_TRAP","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"},
            {"index":0,"value":2,"op":"SCMP_CMP_EQ"}]}]}"#,
        )
        .expect("it converts");
        assert_eq!((spec.default, spec.log, spec.rules.len()), (0x5_0026, true, 3));
        assert_eq!(spec.rules[0].answer, 0x7fff_0000);
        assert_eq!(spec.rules[2].args[0].value, 2);
    }

    #[test]
    fn what_there_is_not_is_refused() {
        let bad = [
            r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#,
            r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":70000}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_ARM"]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":[],"action":"SCMP_ACT_KILL"}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_KILL",
            "args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}]}"#,
        ];
        for json in bad {
            assert!(parse(json).is_err(), "{json}");
        }
    }
}
