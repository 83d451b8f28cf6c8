//! System calls as programs make them.
