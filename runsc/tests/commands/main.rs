//! The commands as their callers see them.

mod cli;
mod containers;
mod support;
