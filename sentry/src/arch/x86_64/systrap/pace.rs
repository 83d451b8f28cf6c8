//! Where a stub runs: on the CPU of its vCPU, or on another.
//!
//! On one CPU each hand-over is a switch of processes, and nothing is spent in vain. On two the sides can look at the
//! control words all the time and see each other's change at once, which is about twice as quick, if the other CPU has
//! nothing else to do, and if the program calls often: waking a CPU that sleeps can take longer than ten switches. None
//! of this can be known, so it is tried and measured.

use crate::time::US;

/// Calls that one decision looks at.
const WINDOW: u32 = 64;
/// A call that took less is one of a program that calls often.
const QUICK_NS: u64 = 20 * US;
/// Most waits of a window in which somebody had to sleep.
const MAX_SLEPT: u32 = 3;
/// Windows on one CPU after a try that was not worth it; doubled after each further one.
const HOLD: u32 = 16;
const MAX_DOUBLINGS: u32 = 10;

/// Where to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Move {
    /// To another CPU.
    Away,
    /// To the vCPU's own.
    Home,
}

/// How a program calls, and where its stub is.
#[derive(Debug, Default)]
pub(super) struct Pace {
    away: bool,
    calls: u32,
    slept: u32,
    /// Time of the window's calls, and of the last window at home.
    spent_ns: u64,
    home_ns: u64,
    /// Windows until the next try.
    hold: u32,
    failures: u32,
}

impl Pace {
    /// Whether the stub is on another CPU.
    pub fn is_away(&self) -> bool {
        self.away
    }

    /// The program has run for `ns` until it stopped, by a system call or else; `slept`: one side had to be woken.
    /// `free`: whether there may be a CPU for it. Says where the stub is to go.
    pub fn stopped(&mut self, ns: u64, call: bool, slept: bool, free: impl FnOnce() -> bool) -> Option<Move> {
        if self.away {
            self.slept += u32::from(slept);
            if self.slept > MAX_SLEPT {
                return Some(self.fail());
            }
        } else if !call || ns > QUICK_NS {
            self.restart();
            return None;
        }
        self.calls += 1;
        self.spent_ns += ns;
        if self.calls < WINDOW {
            return None;
        }
        let spent = self.spent_ns;
        self.restart();
        if self.away {
            // Worth it where it saves a quarter.
            if spent > self.home_ns / 4 * 3 || !free() {
                return Some(self.fail());
            }
            self.failures = 0;
            return None;
        }
        self.home_ns = spent;
        self.hold = self.hold.saturating_sub(1);
        if self.hold > 0 || !free() {
            return None;
        }
        self.away = true;
        Some(Move::Away)
    }

    /// The stub could not go, or is to stay at home from now on.
    pub fn fail(&mut self) -> Move {
        self.restart();
        self.away = false;
        self.hold = HOLD << self.failures;
        self.failures = (self.failures + 1).min(MAX_DOUBLINGS);
        Move::Home
    }

    fn restart(&mut self) {
        (self.calls, self.slept, self.spent_ns) = (0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(pace: &mut Pace, ns: u64, free: bool) -> Option<Move> {
        (0..WINDOW).find_map(|_| pace.stopped(ns, true, false, || free))
    }

    #[test]
    fn it_stays_away_while_that_is_quicker() {
        let mut pace = Pace::default();
        assert_eq!(window(&mut pace, 8 * US, true), Some(Move::Away));
        for _ in 0..10 {
            assert_eq!(window(&mut pace, 3 * US, true), None);
        }
        assert!(pace.is_away());
        assert_eq!(window(&mut pace, 3 * US, false), Some(Move::Home));
    }

    #[test]
    fn it_tries_less_and_less_often_where_it_fails() {
        let mut pace = Pace::default();
        let mut tries = Vec::new();
        for at in 0..2000 {
            if window(&mut pace, 8 * US, true) == Some(Move::Away) {
                tries.push(at);
                assert_eq!(window(&mut pace, 7 * US, true), Some(Move::Home));
            }
        }
        let gaps: Vec<i32> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.len() > 4 && gaps.is_sorted() && gaps[3] >= 4 * gaps[0], "{gaps:?}");
    }

    #[test]
    fn it_comes_home_when_somebody_sleeps() {
        let mut pace = Pace::default();
        assert_eq!(window(&mut pace, 8 * US, true), Some(Move::Away));
        let moves: Vec<_> = (0..4).map(|_| pace.stopped(100 * US, true, true, || true)).collect();
        assert_eq!(moves, [None, None, None, Some(Move::Home)]);
    }

    #[test]
    fn programs_that_compute_stay_at_home() {
        let mut pace = Pace::default();
        for i in 0..1000 {
            assert_eq!(pace.stopped(if i % 50 == 0 { 1000 * US } else { US }, true, false, || true), None);
            assert_eq!(pace.stopped(US, i % 50 != 0, false, || false), None);
        }
    }
}
