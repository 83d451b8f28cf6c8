//! `runsc doctor`: looks whether this host has what sandboxes need, and says what to do where it has not.

mod host;
mod sandboxes;

use serde::Serialize;

use crate::cli::{Doctor, Global};
use crate::error::Error;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// Nothing is wrong.
    Pass,
    /// Something is worse than it could be.
    Warn,
    /// Containers cannot run.
    Fail,
}

/// What was found about one thing.
#[derive(Debug, Serialize)]
pub struct Finding {
    name: &'static str,
    status: Status,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Finding {
    /// It is as it should be.
    pub fn pass(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, status: Status::Pass, detail: detail.into(), remedy: None }
    }

    /// It could be better, by this remedy.
    pub fn warn(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, status: Status::Warn, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    /// Containers cannot run before this remedy.
    pub fn fail(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, status: Status::Fail, detail: detail.into(), remedy: Some(remedy.into()) }
    }
}

/// Prints all findings; exit code 1 where one is a failure.
pub fn doctor(global: &Global, options: &Doctor) -> Result<u8, Error> {
    let mut findings = vec![host::kernel()];
    findings.extend(host::platforms(global));
    findings.extend([
        host::cgroups(),
        host::user_namespaces(),
        host::userfaultfd(),
        host::huge_pages(),
        host::open_files(),
        host::locked_memory(),
        host::capabilities(),
        host::overcommit(),
        host::clock(),
        host::callers(),
        sandboxes::space(global),
        sandboxes::stale(global),
    ]);
    let failed = findings.iter().any(|finding| finding.status == Status::Fail);
    if options.json {
        // Strings always serialise.
        println!("{}", serde_json::to_string_pretty(&findings).unwrap_or_default());
    } else {
        for Finding { name, status, detail, remedy } in &findings {
            let word = match status {
                Status::Pass => "PASS",
                Status::Warn => "WARN",
                Status::Fail => "FAIL",
            };
            println!("{word} {name:<16} {detail}");
            if let Some(remedy) = remedy {
                println!("     {:<16} fix: {remedy}", "");
            }
        }
    }
    Ok(u8::from(failed))
}
