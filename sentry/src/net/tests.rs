//! Buffers, ports, and what netlink makes of hostile requests.

use super::control::{Creds, Rights};
use super::inet::ports::{Claim, Ports};
use super::packets::{Packet, PacketQueue};
use super::stream::{Beside, Reading, StreamBuffer};
use crate::errno::{Errno, Result};
use crate::fs::eventfd;
use crate::mm::io::{SliceSink, SliceSource};
use std::net::SocketAddr;
use std::sync::Arc;

/// A generator of numbers, xorshift.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> usize {
        (self.next() % n) as usize
    }
}

fn push(buffer: &StreamBuffer, data: &[u8], capacity: usize, creds: Option<Creds>) -> Result<usize> {
    buffer.push(&mut SliceSource::new(data), capacity, creds, &mut None)
}

fn read(buffer: &StreamBuffer, len: usize, how: Reading) -> Result<Vec<u8>> {
    let mut data = vec![0; len];
    let n = buffer.read(&mut SliceSink::new(&mut data), how, &mut Beside::default())?;
    data.truncate(n);
    Ok(data)
}

#[test]
fn streams_keep_order_and_capacity() {
    let (buffer, mut rng) = (StreamBuffer::new(), Rng(77));
    let (mut sent, mut got) = (Vec::new(), Vec::new());
    for round in 0..5000u32 {
        let data: Vec<u8> = (0..1 + rng.below(9000)).map(|i| (i as u32 * 7 + round) as u8).collect();
        match push(&buffer, &data, 30_000, None) {
            Ok(n) => sent.extend_from_slice(&data[..n]),
            Err(e) => assert_eq!((e, buffer.len()), (Errno::EAGAIN, 30_000)),
        }
        assert!(buffer.len() <= 30_000);
        let want = 1 + rng.below(9000);
        let peeked = read(&buffer, want, Reading { peek: true, ..Reading::default() });
        let taken = read(&buffer, want, Reading::default());
        assert_eq!(peeked, taken);
        got.extend(taken.unwrap_or_default());
        assert_eq!(sent.len() - got.len(), buffer.len());
    }
    got.extend(read(&buffer, 40_000, Reading::default()).unwrap_or_default());
    assert!(sent == got);
    assert_eq!(read(&buffer, 1, Reading::default()), Err(Errno::EAGAIN));
}

#[test]
fn reads_stop_where_senders_change_and_at_urgent_bytes() {
    let buffer = StreamBuffer::new();
    let creds = |pid| Some(Creds { pid, uid: 0, gid: 0 });
    for pid in [1, 1, 2] {
        assert_eq!(push(&buffer, b"ab", 100, creds(pid)), Ok(2));
    }
    let by_sender = Reading { by_sender: true, ..Reading::default() };
    assert_eq!(read(&buffer, 10, by_sender), Ok(b"abab".to_vec()));
    assert_eq!(read(&buffer, 10, by_sender), Ok(b"ab".to_vec()));
    assert_eq!(push(&buffer, b"abU", 100, None), Ok(3));
    buffer.mark_urgent();
    assert_eq!(push(&buffer, b"cd", 100, None), Ok(2));
    assert_eq!(read(&buffer, 10, Reading::default()), Ok(b"ab".to_vec()));
    assert!(buffer.at_mark() && buffer.has_urgent());
    assert_eq!(buffer.read_urgent(false), Ok(b'U'));
    assert_eq!(buffer.read_urgent(false), Err(Errno::EINVAL));
    assert_eq!(read(&buffer, 10, Reading::default()), Ok(b"cd".to_vec()));
    assert!(buffer.is_empty());
}

#[test]
fn descriptors_in_flight_are_limited_and_bounded_in_a_stream() {
    let file = eventfd::new(0, false, 0);
    let uid = 4_000_000;
    let buffer = StreamBuffer::new();
    let mut sent = 0;
    loop {
        let mut rights = Some(Rights::new(vec![file.clone()], uid, None).expect("no limit"));
        match buffer.push(&mut SliceSource::new(b"x"), 1 << 20, None, &mut rights) {
            Ok(_) => sent += 1,
            Err(e) => break assert_eq!(e, Errno::EAGAIN),
        }
    }
    assert!((100..1000).contains(&sent), "{sent}: each needs a frame");
    assert_eq!(Arc::strong_count(&file), sent + 1);
    assert_eq!(Rights::new(vec![file.clone()], uid, Some(10)).err(), Some(Errno::ETOOMANYREFS));
    let (mut data, mut beside) = ([0; 10], Beside::default());
    assert_eq!(buffer.read(&mut SliceSink::new(&mut data), Reading::default(), &mut beside), Ok(1));
    assert_eq!(beside.rights.map(|r| r.land().len()), Some(1));
    buffer.clear();
    assert_eq!(Arc::strong_count(&file), 1);
    assert!(Rights::new(vec![file.clone()], uid, Some(10)).is_ok());
}

#[test]
fn packets_keep_their_edges() {
    let queue = PacketQueue::new();
    let packet = |data: &[u8]| Packet::read(&mut SliceSource::new(data), data.len()).expect("a packet");
    assert!(queue.push(packet(&[1; 5000]), 100).is_ok(), "an empty queue takes any");
    assert!(queue.push(packet(b"more"), 100).is_err());
    assert!(queue.push(packet(b"more"), 10_000).is_ok());
    let mut data = [0; 10];
    let peeked = queue.receive(&mut SliceSink::new(&mut data), true).expect("a packet");
    assert_eq!((peeked.len, peeked.copied, queue.count()), (5000, 10, 2));
    let got = queue.receive(&mut SliceSink::new(&mut data), false).expect("a packet");
    assert_eq!((got.len, got.copied, got.from, queue.bytes()), (5000, 10, 5000, 4));
    assert_eq!(queue.first_len(), 4);
    queue.clear();
    assert_eq!((queue.count(), queue.bytes(), queue.cost()), (0, 0, 0));
    assert!(matches!(queue.receive(&mut SliceSink::new(&mut data), false), Err(Errno::EAGAIN)));
}

fn claim(address: &str, reuse: bool, socket: &Arc<u32>) -> Claim<u32> {
    Claim {
        address: address.parse().expect("an address"),
        v6_only: false,
        reuse_address: reuse,
        reuse_port: false,
        uid: 0,
        active: false,
        share_active: false,
        socket: Arc::downgrade(socket),
    }
}

#[test]
fn ports_are_given_once_and_found_by_the_best_address() {
    let (ports, one, two) = (Ports::<u32>::new(), Arc::new(1), Arc::new(2));
    let first = ports.bind(claim("127.0.0.1:80", false, &one)).expect("free");
    for taken in ["127.0.0.1:80", "0.0.0.0:80", "[::]:80"] {
        assert_eq!(ports.bind(claim(taken, true, &two)).err(), Some(Errno::EADDRINUSE), "{taken}");
    }
    let other = ports.bind(claim("127.0.0.2:80", false, &two)).expect("another address");
    let only = Claim { v6_only: true, ..claim("[::]:80", false, &two) };
    let six = ports.bind(only).expect("another family");
    let to = |a: &str| -> Vec<u32> {
        ports.find(a.parse::<SocketAddr>().expect("an address")).iter().map(|s| **s).collect()
    };
    assert!(to("127.0.0.1:80").is_empty(), "nobody listens");
    for binding in [&first, &other, &six] {
        ports.activate(binding).expect("nobody else listens there");
    }
    assert_eq!((to("127.0.0.1:80"), to("127.0.0.2:80"), to("[::1]:80")), (vec![1], vec![2], vec![2]));
    assert!(to("127.0.0.3:80").is_empty());
    drop(first);
    assert!(to("127.0.0.1:80").is_empty());
    let shared = ports.bind(claim("127.0.0.1:80", true, &one)).expect("free again");
    let again = ports.bind(claim("127.0.0.1:80", true, &two)).expect("both reuse");
    ports.activate(&shared).expect("the first");
    assert_eq!(ports.activate(&again), Err(Errno::EADDRINUSE));
}

#[test]
fn every_ephemeral_port_is_given_and_then_none() {
    let (ports, socket) = (Ports::<u32>::new(), Arc::new(0));
    let (first, last) = super::inet::ports::EPHEMERAL;
    let mut all: Vec<_> =
        (first..=last).map(|_| ports.bind(claim("127.0.0.1:0", false, &socket)).expect("a port")).collect();
    assert_eq!(ports.bind(claim("127.0.0.1:0", false, &socket)).err(), Some(Errno::EADDRINUSE));
    let freed = all.pop().map(|b| b.address.port());
    let given = ports.bind(claim("127.0.0.1:0", false, &socket)).map(|b| b.address.port());
    assert_eq!(given.ok(), freed);
}

#[test]
fn rtnetlink_answers_whatever_is_asked() {
    let mut rng = Rng(4711);
    let request = |kind: u16, flags: u16, body: &[u8]| {
        let mut out = (16 + body.len() as u32).to_ne_bytes().to_vec();
        out.extend_from_slice(&kind.to_ne_bytes());
        out.extend_from_slice(&flags.to_ne_bytes());
        out.extend_from_slice(&[9, 0, 0, 0, 0, 0, 0, 0]);
        out.extend_from_slice(body);
        out
    };
    let kind_of = |packet: &[u8]| u16::from_ne_bytes([packet[4], packet[5]]);
    let links = super::netlink::serve(&request(18, 0x301, &[0; 16]), 7, false);
    assert_eq!(links.iter().map(|p| kind_of(p)).collect::<Vec<_>>(), [16, 3]);
    let refused = super::netlink::serve(&request(16, 5, &[0; 16]), 7, false);
    assert_eq!(refused[0][16..20], (-i32::from(Errno::EPERM.0)).to_ne_bytes());
    let one = request(26, 1, &[2, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 1, 0, 127, 0, 0, 1]);
    assert_eq!(kind_of(&super::netlink::serve(&one, 7, false)[0]), 24);
    for _ in 0..20_000 {
        // Requests that begin well and go on at random, some cut.
        let len = rng.below(60);
        let mut body: Vec<u8> =
            (0..len).map(|_| if rng.below(3) == 0 { rng.next() as u8 } else { 0 }).collect();
        let mut data = request(rng.below(40) as u16, rng.next() as u16 | 1, &body);
        body.clear();
        if rng.below(4) == 0 {
            let at = rng.below(data.len() as u64);
            data[at] = rng.next() as u8;
        }
        data.truncate(rng.below(80).max(8));
        for answer in super::netlink::serve(&data, 7, rng.below(2) == 0) {
            let said = u32::from_ne_bytes([answer[0], answer[1], answer[2], answer[3]]) as usize;
            assert!(said >= 16 && said <= answer.len());
        }
    }
}
