//! Options of tcp(7). What concerns packets is kept and shown; there are none.

use super::{Phase, TcpSocket};
use crate::errno::{Errno, Result};
use crate::net::common::int_of;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI32, Ordering};

/// Number, name as a constant, default, least and largest value.
const KEPT: [(u32, i32, i32, i32); 18] = [
    (1, 0, 0, 1),                 // TCP_NODELAY
    (3, 0, 0, 1),                 // TCP_CORK
    (4, 7200, 1, 32767),          // TCP_KEEPIDLE
    (5, 75, 1, 32767),            // TCP_KEEPINTVL
    (6, 9, 1, 127),               // TCP_KEEPCNT
    (7, 6, 1, 127),               // TCP_SYNCNT
    (8, 60, i32::MIN, i32::MAX),  // TCP_LINGER2
    (9, 0, 0, i32::MAX),          // TCP_DEFER_ACCEPT
    (10, 0, 0, i32::MAX),         // TCP_WINDOW_CLAMP
    (12, 1, i32::MIN, i32::MAX),  // TCP_QUICKACK
    (16, 0, 0, 1),                // TCP_THIN_LINEAR_TIMEOUTS
    (17, 0, 0, 1),                // TCP_THIN_DUPACK
    (18, 0, 0, i32::MAX),         // TCP_USER_TIMEOUT
    (23, 0, 0, i32::MAX),         // TCP_FASTOPEN
    (25, -1, i32::MIN, i32::MAX), // TCP_NOTSENT_LOWAT
    (30, 0, 0, 1),                // TCP_FASTOPEN_CONNECT
    (34, 0, 0, 1),                // TCP_FASTOPEN_NO_COOKIE
    (36, 0, 0, 1),                // TCP_INQ
];
const MAXSEG: u32 = 2;
const INFO: u32 = 11;
const CONGESTION: u32 = 13;
/// Maximum segment size of the loopback interface.
const LOOPBACK_MSS: i32 = 65_483;
/// Length of struct tcp_info as of Linux 6.1.
const INFO_LEN: usize = 240;

/// Values of the options.
pub struct TcpOptions {
    values: [AtomicI32; KEPT.len()],
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self { values: core::array::from_fn(|i| AtomicI32::new(KEPT.get(i).map_or(0, |k| k.1))) }
    }
}

impl TcpOptions {
    /// Takes over those of a listener.
    pub fn inherit(&self, from: &Self) {
        for (own, other) in self.values.iter().zip(&from.values) {
            own.store(other.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    fn get(&self, name: u32) -> Option<i32> {
        let at = KEPT.iter().position(|k| k.0 == name)?;
        self.values.get(at).map(|v| v.load(Ordering::Relaxed))
    }

    /// setsockopt(2) at this level.
    ///
    /// # Errors
    /// EINVAL, ENOENT, ENOPROTOOPT.
    pub fn set(&self, name: u32, value: &[u8]) -> Result<()> {
        if name == CONGESTION {
            let name = value.split(|b| *b == 0).next().unwrap_or_default();
            return if matches!(name, b"cubic" | b"reno") { Ok(()) } else { Err(Errno::ENOENT) };
        }
        let int = int_of(value)?;
        if name == MAXSEG {
            return if int == 0 || (88..=32767).contains(&int) { Ok(()) } else { Err(Errno::EINVAL) };
        }
        let found = KEPT.iter().zip(&self.values).find(|(k, _)| k.0 == name);
        let ((_, _, least, most), place) = found.ok_or(Errno::ENOPROTOOPT)?;
        let switch = (*least, *most) == (0, 1);
        let int = if switch { i32::from(int != 0) } else { int };
        if !(*least..=*most).contains(&int) {
            return Err(Errno::EINVAL);
        }
        place.store(int, Ordering::Relaxed);
        Ok(())
    }
}

impl TcpSocket {
    pub(super) fn get_tcp_option(&self, name: u32) -> Result<Vec<u8>> {
        let connected = self.phase() == Phase::Connected;
        match name {
            MAXSEG => Ok(if connected { LOOPBACK_MSS } else { 536 }.to_ne_bytes().to_vec()),
            CONGESTION => Ok(b"cubic\0\0\0\0\0\0\0\0\0\0\0".to_vec()),
            INFO => Ok(self.info()),
            _ => Ok(self.options.get(name).ok_or(Errno::ENOPROTOOPT)?.to_ne_bytes().to_vec()),
        }
    }

    /// struct tcp_info: the state, and figures of a loopback connection that has lost nothing.
    fn info(&self) -> Vec<u8> {
        let mut out = alloc::vec![0; INFO_LEN];
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(place) = out.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        };
        put(0, &[self.state_number()]);
        // tcpi_options: timestamps, selective acknowledgements, window scaling by 7 both ways.
        put(5, &[7, 0x77]);
        let words: [(usize, u32); 7] = [
            (8, 201_000),              // tcpi_rto, microseconds
            (16, LOOPBACK_MSS as u32), // tcpi_snd_mss
            (20, 536),                 // tcpi_rcv_mss
            (60, 65_535),              // tcpi_pmtu
            (68, 30),                  // tcpi_rtt, microseconds
            (72, 15),                  // tcpi_rttvar
            (80, 10),                  // tcpi_snd_cwnd
        ];
        for (at, value) in words {
            put(at, &value.to_ne_bytes());
        }
        if self.phase() == Phase::Listening {
            // As Linux: how many wait, and how many may.
            put(24, &(self.received() as u32).to_ne_bytes());
            put(28, &(self.backlog.load(Ordering::Relaxed) as u32).to_ne_bytes());
        }
        out
    }
}
