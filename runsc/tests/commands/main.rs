//! The commands as their callers see them.

mod bad_elf;
mod bad_input;
mod cli;
mod containers;
mod killed;
mod left;
mod support;
