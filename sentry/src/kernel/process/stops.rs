//! Stops and continues of processes: job control, as waitpid(2) and signal(7) describe it.

use super::super::ptrace;
use super::ThreadGroup;
use crate::sync::Events;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as c;

impl ThreadGroup {
    /// Whether its tasks are to stop.
    pub fn stop_wanted(&self) -> bool {
        self.stop_signal.load(Ordering::SeqCst) != 0
    }

    /// The signal that stopped it; 0 where it is not to be stopped.
    pub fn stop_signal(&self) -> u32 {
        self.stop_signal.load(Ordering::SeqCst)
    }

    /// How often stops have been ended. What [`ThreadGroup::stop`] wants to know of before a signal is taken.
    pub fn continues(&self) -> u64 {
        *self.continues.lock()
    }

    /// Stops every task, because of `signal`. `continues`: as it was before the signal was taken; a SIGCONT or SIGKILL
    /// that came since has undone it.
    pub fn stop(&self, signal: u32, continues: u64) {
        let began = {
            let now = self.continues.lock();
            if *now != continues {
                return;
            }
            self.stop_signal.store(signal, Ordering::SeqCst);
            !self.stopped.swap(true, Ordering::SeqCst)
        };
        ptrace::stop_changed(self, true);
        for task in self.tasks() {
            task.alert();
        }
        if began {
            self.reported.store(1, Ordering::SeqCst);
            self.tell_parent(c::CLD_STOPPED as i32, signal as i32);
        }
    }

    /// Ends a stop. `report`: the parent hears of it (SIGCONT).
    pub fn resume(&self, report: bool) {
        let (wanted, was) = {
            let mut continues = self.continues.lock();
            *continues += 1;
            (self.stop_signal.swap(0, Ordering::SeqCst) != 0, self.stopped.swap(false, Ordering::SeqCst))
        };
        if wanted {
            ptrace::stop_changed(self, false);
        }
        if was && report {
            self.reported.store(2, Ordering::SeqCst);
            self.tell_parent(c::CLD_CONTINUED as i32, c::SIGCONT as i32);
        }
        self.change_queue.wake(Events::IN);
    }

    /// Whether it is stopped.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// A stop (wait status 0x7f) or continue (0xffff) that was not waited for; `take`: it is now.
    pub fn take_report(&self, stops: bool, continues: bool, take: bool) -> Option<i32> {
        let (state, status) = match self.reported.load(Ordering::SeqCst) {
            1 if stops => (1, (self.stop_signal.load(Ordering::SeqCst) as i32) << 8 | 0x7f),
            2 if continues => (2, 0xffff),
            _ => return None,
        };
        if take && self.reported.compare_exchange(state, 0, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            return None;
        }
        Some(status)
    }
}
