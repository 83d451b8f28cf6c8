//! Standard streams of a process that cannot be made.

use crate::errno::Errno;
use crate::host::mock;
use crate::vfs::FdTable;
use crate::vfs::setup::open_streams;
use abi::spec::{ProcessSpec, StreamKind, StreamSpec};

/// A process with this many streams from number `first` on.
fn process(first: u32, count: u32, terminal: bool) -> ProcessSpec {
    let stream =
        |stream| StreamSpec { stream, kind: StreamKind::Pipe, readable: true, writable: true, append: false };
    ProcessSpec {
        args: Vec::new(),
        env: Vec::new(),
        cwd: b"/".to_vec(),
        uid: 0,
        gid: 0,
        groups: Vec::new(),
        umask: 0,
        capabilities: [0; 5],
        no_new_privs: false,
        rlimits: Vec::new(),
        oom_score_adj: 0,
        terminal,
        console_size: (24, 80),
        streams: (first..first + count).map(stream).collect(),
    }
}

#[test]
fn streams_that_do_not_fit_are_closed_with_all_others() {
    // A table takes 4096; a terminal takes three for one stream.
    for (first, terminal, fit) in [(1_000_000, false, 4096), (2_000_000, true, 4094)] {
        let table = FdTable::new();
        let spec = process(first, fit, terminal);
        let tty = open_streams(&spec, &table).expect("they fit");
        assert_eq!(tty.is_some(), terminal);
        assert!((first..first + fit).all(|n| mock::closes(n.into()) == 0));
        let (first, count) = (first + 100_000, fit + 5);
        let table = FdTable::new();
        let spec = process(first, count, terminal);
        assert_eq!(open_streams(&spec, &table).map(|_| ()), Err(Errno::EMFILE));
        drop(table);
        assert!((first..first + count).all(|n| mock::closes(n.into()) == 1));
    }
}
