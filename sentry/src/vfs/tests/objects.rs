//! Pipes, counters, epoll, terminals, locks, watches.

use super::support::*;
use crate::errno::{Errno, Result};
use crate::fs::epoll::{self, Epoll};
use crate::fs::inotify::{self, Inotify};
use crate::fs::tty::ldisc::Ldisc;
use crate::fs::{eventfd, memfd, pipe, timerfd};
use crate::kernel::cred::Cred;
use crate::kernel::timer;
use crate::mm::io::{SliceSink, SliceSource};
use crate::sync::Events;
use crate::vfs::locks::{FileLocks, LockOwner, RangeLock};
use crate::vfs::open::{OpenHow, open_found};
use crate::vfs::uapi::EpollEvent;
use crate::vfs::{FdTable, OpenFile};
use linux_raw_sys::general as c;
use std::sync::Arc;

fn read(file: &Arc<OpenFile>, len: usize) -> Result<Vec<u8>> {
    let mut buf = vec![0; len];
    let n = file.ops().read(file, &mut SliceSink::new(&mut buf), 0)?;
    buf.truncate(n);
    Ok(buf)
}

fn write(file: &Arc<OpenFile>, data: &[u8]) -> Result<usize> {
    file.ops().write(file, &mut SliceSource::new(data), 0)
}

#[test]
fn pipes_carry_bytes_in_order() {
    let (r, w) = pipe::new(c::O_NONBLOCK, 0, 0);
    assert_eq!(read(&r, 1), Err(Errno::EAGAIN));
    let (mut rng, mut sent, mut got) = (Rng(9), Vec::new(), Vec::new());
    for n in 0..3000u32 {
        let len = 1 + rng.below(9000) as usize;
        let data: Vec<u8> = (0..len).map(|i| (i as u32 * 7 + n) as u8).collect();
        match write(&w, &data) {
            Ok(done) => {
                // Up to PIPE_BUF bytes go whole or not at all.
                assert!(done == len || len > 4096);
                sent.extend_from_slice(&data[..done]);
            }
            Err(e) => assert_eq!(e, Errno::EAGAIN),
        }
        if rng.below(2) == 0 {
            match read(&r, 1 + rng.below(12_000) as usize) {
                Ok(data) => got.extend(data),
                Err(e) => assert_eq!(e, Errno::EAGAIN),
            }
        }
    }
    while let Ok(data) = read(&r, 65_536) {
        got.extend(data);
    }
    assert!(sent == got);
    drop(w);
    assert_eq!(read(&r, 10), Ok(Vec::new()));
    assert!(r.poll().contains(Events::HUP));
}

#[test]
fn pipes_end_and_refuse() {
    let (r, w) = pipe::new(0, 0, 0);
    write(&w, b"left").expect("write");
    drop(w);
    assert_eq!(read(&r, 10).expect("read"), b"left");
    assert_eq!(read(&r, 10).expect("read"), b"");
    let (r, w) = pipe::new(0, 0, 0);
    drop(r);
    assert_eq!(write(&w, b"x"), Err(Errno::EPIPE));
    assert!(w.poll().contains(Events::ERR));
    let (r, w) = pipe::new(c::O_DIRECT | c::O_NONBLOCK, 0, 0);
    write(&w, b"one").expect("write");
    write(&w, b"two").expect("write");
    assert_eq!(read(&r, 10).expect("read"), b"one", "packets stay apart");
    assert_eq!(read(&r, 2).expect("read"), b"tw", "the rest of a packet is lost");
    assert_eq!(read(&r, 2), Err(Errno::EAGAIN));
}

#[test]
fn a_pipe_opened_again_does_not_wait() {
    let (r, w) = pipe::new(0, 0, 0);
    write(&w, b"kept").expect("write");
    drop(w);
    let fs = memory();
    let ctx = superuser(&fs);
    let how = OpenHow { flags: c::O_RDONLY, ..OpenHow::default() };
    let again = open_found(&ctx, r.path.clone(), &how, false).expect("open");
    assert_eq!(read(&again, 10).expect("read"), b"kept");
    assert_eq!(read(&again, 10).expect("read"), b"");
}

#[test]
fn pipes_block_until_there_is_something() {
    let (r, w) = pipe::new(0, 0, 0);
    let writer = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(30));
        for n in 0..200u32 {
            assert_eq!(write(&w, &vec![n as u8; 5000]), Ok(5000));
        }
    });
    let mut total = 0;
    loop {
        let data = read(&r, 4000).expect("read");
        if data.is_empty() {
            break;
        }
        total += data.len();
    }
    writer.join().expect("writer");
    assert_eq!(total, 200 * 5000);
}

fn add(ep: &Epoll, file: &Arc<OpenFile>, events: u32, data: u64) -> Result<()> {
    ep.add(data as i32, file, &EpollEvent { events, data })
}

fn ready(ep: &Epoll) -> Vec<(u64, u32)> {
    let events = ep.wait(16, Some(0)).expect("wait");
    events.iter().map(|e| (e.data, e.events)).collect()
}

#[test]
fn epoll_tells_once_or_as_long() {
    let file = epoll::new(0);
    let ep = file.downcast::<Epoll>().expect("epoll");
    let (r, w) = pipe::new(c::O_NONBLOCK, 0, 0);
    add(ep, &r, c::EPOLLIN, 1).expect("add");
    assert_eq!(add(ep, &r, c::EPOLLIN, 1), Err(Errno::EEXIST));
    assert_eq!(ready(ep), []);
    write(&w, b"x").expect("write");
    assert_eq!(ready(ep), [(1, c::EPOLLIN)]);
    assert_eq!(ready(ep), [(1, c::EPOLLIN)], "level-triggered");
    ep.modify(1, &r, &EpollEvent { events: c::EPOLLIN | c::EPOLLET, data: 1 }).expect("modify");
    assert_eq!(ready(ep), [(1, c::EPOLLIN)]);
    assert_eq!(ready(ep), [], "edge-triggered");
    write(&w, b"y").expect("write");
    assert_eq!(ready(ep), [(1, c::EPOLLIN)]);
    ep.modify(1, &r, &EpollEvent { events: c::EPOLLIN | c::EPOLLONESHOT, data: 1 }).expect("modify");
    assert_eq!(ready(ep), [(1, c::EPOLLIN)]);
    write(&w, b"z").expect("write");
    assert_eq!(ready(ep), [], "one shot");
    drop(w);
    ep.modify(1, &r, &EpollEvent { events: 0, data: 1 }).expect("modify");
    assert_eq!(ready(ep), [(1, c::EPOLLHUP)]);
    drop(r);
    assert_eq!(ready(ep), [], "a closed description leaves");
}

#[test]
fn epoll_nests_without_circles() {
    let a = epoll::new(0);
    let b = epoll::new(0);
    let (ea, eb) = (a.downcast::<Epoll>().expect("a"), b.downcast::<Epoll>().expect("b"));
    add(ea, &b, c::EPOLLIN, 1).expect("add");
    assert_eq!(add(eb, &a, c::EPOLLIN, 2), Err(Errno::ELOOP));
    let event = eventfd::new(0, false, c::O_NONBLOCK);
    add(eb, &event, c::EPOLLIN, 3).expect("add");
    assert_eq!(ready(ea), []);
    write(&event, &5u64.to_le_bytes()).expect("write");
    assert_eq!(ready(ea), [(1, c::EPOLLIN)]);
    assert_eq!(ready(eb), [(3, c::EPOLLIN)]);
    assert_eq!(read(&event, 8).expect("read"), 5u64.to_le_bytes());
    assert_eq!(ready(ea), []);
    let fs = memory();
    let ctx = superuser(&fs);
    let plain = open_path(&ctx, "/f", c::O_CREAT | c::O_RDWR, 0o600).expect("create");
    assert_eq!(add(ea, &plain, c::EPOLLIN, 4), Err(Errno::EPERM));
}

#[test]
fn epoll_under_threads() {
    let file = epoll::new(0);
    let events: Vec<_> = (0..8).map(|_| eventfd::new(0, false, c::O_NONBLOCK)).collect();
    let ep = file.downcast::<Epoll>().expect("epoll");
    for (n, event) in events.iter().enumerate() {
        add(ep, event, c::EPOLLIN | c::EPOLLET, n as u64).expect("add");
    }
    let writers: Vec<_> = events
        .iter()
        .cloned()
        .map(|event| {
            std::thread::spawn(move || {
                for _ in 0..500 {
                    write(&event, &1u64.to_le_bytes()).expect("write");
                }
            })
        })
        .collect();
    let mut total = 0;
    while total < 8 * 500 {
        let deadline = crate::time::monotonic_ns() + 5_000_000_000;
        let found = ep.wait(4, Some(deadline)).expect("wait");
        assert!(!found.is_empty(), "an edge was lost: {total}");
        for event in found {
            if let Ok(raw) = read(&events[event.data as usize], 8) {
                total += u64::from_le_bytes(raw.try_into().expect("8 bytes"));
            }
        }
    }
    for writer in writers {
        writer.join().expect("writer");
    }
}

#[test]
fn counters_and_timers() {
    let event = eventfd::new(3, true, c::O_NONBLOCK);
    for _ in 0..3 {
        assert_eq!(read(&event, 8).expect("read"), 1u64.to_le_bytes());
    }
    assert_eq!(read(&event, 8), Err(Errno::EAGAIN));
    assert_eq!(write(&event, &u64::MAX.to_le_bytes()), Err(Errno::EINVAL));
    write(&event, &(u64::MAX - 1).to_le_bytes()).expect("write");
    assert_eq!(write(&event, &1u64.to_le_bytes()), Err(Errno::EAGAIN));
    assert_eq!(read(&event, 7), Err(Errno::EINVAL));
    let file = timerfd::new(c::CLOCK_MONOTONIC, c::O_NONBLOCK);
    let timer_fd = file.downcast::<timerfd::TimerFd>().expect("timer");
    timer_fd.set(1_000_000, 1_000_000, false);
    assert_eq!(read(&file, 8), Err(Errno::EAGAIN));
    std::thread::sleep(std::time::Duration::from_millis(5));
    timer::run_expired(crate::time::monotonic_ns());
    let ticks = u64::from_le_bytes(read(&file, 8).expect("read").try_into().expect("8 bytes"));
    assert!(ticks >= 4);
    assert_eq!(timer_fd.set(0, 0, false).1, 1_000_000);
}

#[test]
fn seals_hold() {
    let file = memfd::create(b"m", c::MFD_ALLOW_SEALING, &Cred::root()).expect("memfd");
    write(&file, b"0123456789").expect("write");
    let node = file.downcast::<crate::fs::memfs::Node>().expect("node");
    node.add_seals(c::F_SEAL_GROW).expect("seal");
    assert_eq!(file.ops().write(&file, &mut SliceSource::new(b"xx"), 9), Err(Errno::EPERM));
    assert_eq!(file.ops().truncate(&file, 11), Err(Errno::EPERM));
    file.ops().truncate(&file, 8).expect("shrink");
    node.add_seals(c::F_SEAL_SHRINK | c::F_SEAL_WRITE | c::F_SEAL_SEAL).expect("seal");
    assert_eq!(file.ops().truncate(&file, 7), Err(Errno::EPERM));
    assert_eq!(write(&file, b"x"), Err(Errno::EPERM));
    assert_eq!(node.add_seals(c::F_SEAL_EXEC), Err(Errno::EPERM));
    assert_eq!(file.ops().mappable(&file, true, true).map(drop), Err(Errno::EPERM));
    file.ops().mappable(&file, false, true).expect("private");
    let plain = memfd::create(b"m", 0, &Cred::root()).expect("memfd");
    let node = plain.downcast::<crate::fs::memfs::Node>().expect("node");
    assert_eq!(node.add_seals(c::F_SEAL_GROW), Err(Errno::EPERM));
}

#[test]
fn ranges_are_locked_like_in_a_model() {
    // Bytes 0 to 63, three owners: each byte is free, read-locked by a set, or write-locked by one.
    for seed in 1..=30 {
        let mut rng = Rng(seed * 991);
        let locks = FileLocks::new();
        let mut model = [[0u8; 64]; 3];
        for step in 0..300 {
            let who = rng.below(3) as usize;
            let owner = if who == 2 { LockOwner::Description(7) } else { LockOwner::Process(who as u64) };
            let start = rng.below(64);
            let end = start + rng.below(64 - start);
            let (a, b) = (start as usize, end as usize);
            if rng.below(3) == 0 {
                locks.unlock_range(owner, start, end);
                model[who][a..=b].fill(0);
                continue;
            }
            let write = rng.below(2) == 0;
            let lock = RangeLock { owner, pid: 1, write, start, end };
            let clash = (0..3)
                .filter(|o| *o != who)
                .any(|o| model[o][a..=b].iter().any(|l| *l == 2 || *l == 1 && write));
            let result = locks.lock_range(&lock, false);
            assert_eq!(result.is_err(), clash, "seed {seed} step {step}");
            assert_eq!(locks.conflict(&lock).is_some(), clash);
            if !clash {
                model[who][a..=b].fill(if write { 2 } else { 1 });
            }
        }
        locks.release_owner(0);
        locks.release_owner(1);
        locks.release_description(7);
        let all = RangeLock { owner: LockOwner::Process(9), pid: 1, write: true, start: 0, end: u64::MAX };
        locks.lock_range(&all, false).expect("everything is free");
    }
}

#[test]
fn deadlocks_are_found() {
    let locks = Arc::new((FileLocks::new(), FileLocks::new()));
    let lock =
        |owner: u64| RangeLock { owner: LockOwner::Process(owner), pid: 1, write: true, start: 0, end: 9 };
    locks.0.lock_range(&lock(100), true).expect("first");
    locks.1.lock_range(&lock(101), true).expect("second");
    let other = locks.clone();
    let waiting = std::thread::spawn(move || {
        let lock = RangeLock { owner: LockOwner::Process(100), pid: 1, write: true, start: 0, end: 9 };
        other.1.lock_range(&lock, true)
    });
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(locks.0.lock_range(&lock(101), true), Err(Errno::EDEADLK));
    locks.1.release_owner(101);
    assert_eq!(waiting.join().expect("thread"), Ok(()));
}

#[test]
fn flock_excludes() {
    let locks = FileLocks::new();
    locks.flock(1, false, false).expect("shared");
    locks.flock(2, false, false).expect("shared");
    assert_eq!(locks.flock(2, true, false), Err(Errno::EAGAIN));
    locks.unlock_flock(1);
    locks.flock(2, true, false).expect("exclusive");
    assert_eq!(locks.flock(1, false, false), Err(Errno::EAGAIN));
    locks.release_description(2);
    locks.flock(1, true, false).expect("exclusive");
}

#[test]
fn watches_see_what_happens() {
    let fs = memory();
    let ctx = superuser(&fs);
    let dir = mkdir(&ctx, "/d").expect("mkdir");
    let file = inotify::new(c::IN_NONBLOCK).expect("inotify");
    let watcher = file.downcast::<Inotify>().expect("inotify");
    let wd = watcher.add(dir.inode(), c::IN_ALL_EVENTS).expect("watch");
    write_file(&ctx, "/d/f", b"x");
    rename(&ctx, "/d/f", "/d/g", 0).expect("rename");
    unlink(&ctx, "/d/g").expect("unlink");
    rmdir(&ctx, "/d").expect("rmdir");
    let raw = read(&file, 65_536).expect("events");
    let mut seen = Vec::new();
    let mut at = 0;
    while at + 16 <= raw.len() {
        let word = |n: usize| u32::from_le_bytes(raw[at + n * 4..at + n * 4 + 4].try_into().expect("word"));
        assert_eq!(word(0) as i32, wd);
        let name = &raw[at + 16..at + 16 + word(3) as usize];
        let name: Vec<u8> = name.iter().copied().take_while(|b| *b != 0).collect();
        seen.push((word(1), String::from_utf8(name).expect("text")));
        at += 16 + word(3) as usize;
    }
    let masks: Vec<u32> = seen.iter().map(|e| e.0).collect();
    let expected = [
        c::IN_CREATE,
        c::IN_OPEN,
        c::IN_CLOSE_WRITE,
        c::IN_MOVED_FROM,
        c::IN_MOVED_TO,
        c::IN_DELETE,
        c::IN_DELETE_SELF,
        c::IN_IGNORED,
    ];
    assert_eq!(masks, expected, "{seen:?}");
    assert_eq!(seen[3].1, "f");
    assert_eq!(seen[4].1, "g");
    assert_eq!(watcher.remove(wd), Err(Errno::EINVAL));
}

#[test]
fn terminals_edit_lines() {
    let mut l = Ldisc::new();
    assert!(l.input(b"helo\x7f\x7fllo\n").is_empty());
    assert_eq!(l.read(100).expect("line"), b"hello\n");
    assert_eq!(l.read(100), None);
    l.input(b"one two\x17three\nsecond\n");
    assert_eq!(l.read(4).expect("part"), b"one ");
    assert_eq!(l.read(100).expect("rest of the line only"), b"three\n");
    assert_eq!(l.read(100).expect("line"), b"second\n");
    l.input(b"partial\x04");
    assert_eq!(l.read(100).expect("end of file mark"), b"partial");
    l.input(b"\x04");
    assert_eq!(l.read(100).expect("end of file"), b"");
    l.input(b"lost\x15kept\r");
    assert_eq!(l.read(100).expect("line"), b"kept\n", "VKILL, ICRNL");
    assert_eq!(l.input(b"abc\x03")[..], [c::SIGINT]);
    assert_eq!(l.read(100), None, "input is flushed");
    let out: Vec<u8> = l.out.drain(..).collect();
    assert!(out.ends_with(b"^C"));
    l.output(b"x\n");
    assert_eq!(l.out.drain(..).collect::<Vec<u8>>(), b"x\r\n");
    let mut raw = l.termios;
    raw.lflag &= !(c::ICANON | c::ECHO | c::ISIG);
    raw.iflag &= !(c::ICRNL | c::IXON);
    raw.oflag &= !c::OPOST;
    l.set_termios(raw);
    assert!(l.input(b"\x03\r\x13").is_empty());
    assert_eq!(l.read(100).expect("raw"), b"\x03\r\x13");
    l.output(b"\n");
    assert_eq!(l.out.drain(..).collect::<Vec<u8>>(), b"\n");
}

#[test]
fn terminals_survive_anything() {
    let mut rng = Rng(4);
    let mut l = Ldisc::new();
    for _ in 0..200_000 {
        match rng.below(20) {
            0 => {
                let mut t = l.termios;
                t.lflag = rng.below(1 << 17) as u32;
                t.iflag = rng.below(1 << 16) as u32;
                t.oflag = rng.below(1 << 16) as u32;
                let at = rng.below(19) as usize;
                t.cc[at] = rng.below(256) as u8;
                l.set_termios(t);
            }
            1..=4 => drop(l.read(rng.below(50) as usize)),
            5 => drop(l.out.drain(..)),
            6 => l.flush_input(),
            7 => drop(l.output(&[rng.below(256) as u8; 9])),
            _ => drop(l.input(&[rng.below(256) as u8, rng.below(40) as u8])),
        }
        assert!(l.out.len() < 40_000 && l.pending() <= 8192);
    }
}

#[test]
fn descriptors_are_the_lowest() {
    let table = FdTable::new();
    let file = || eventfd::new(0, false, 0);
    for n in 0..10 {
        assert_eq!(table.install(file(), false, 10), Ok(n));
    }
    assert_eq!(table.install(file(), false, 10), Err(Errno::EMFILE));
    table.close(3).expect("close");
    table.close(7).expect("close");
    assert_eq!(table.install_from(file(), true, 5, 10), Ok(7));
    assert_eq!(table.install(file(), false, 10), Ok(3));
    assert_eq!(table.install_at(12, file(), false, 12).map(drop), Err(Errno::EBADF));
    assert_eq!(table.install_at(100_000_000, file(), false, u64::MAX).map(drop), Err(Errno::EBADF));
    table.close_on_exec();
    assert_eq!(table.get(7).map(drop), Err(Errno::EBADF));
    table.close_range(2, u32::MAX, false);
    assert_eq!(table.list(), [0, 1]);
    assert_eq!(table.get(-1).map(drop), Err(Errno::EBADF));
}

#[test]
fn what_is_echoed_while_output_goes_out_is_kept() {
    let mut l = Ldisc::new();
    assert_eq!(l.output(b"on its way"), 10);
    let (chunk, mark) = l.outgoing(100);
    // The interrupt key flushes what is on its way, and is shown itself.
    assert_eq!(l.input(b"\x03").len(), 1);
    l.gone(chunk.len(), mark);
    let (chunk, mark) = l.outgoing(100);
    assert_eq!(chunk, b"^C");
    l.gone(1, mark);
    assert_eq!(l.outgoing(100).0, b"C");
}
