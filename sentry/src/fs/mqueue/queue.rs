//! A message queue: mq_overview(7).

use super::notify::{Event, Registration};
use crate::errno::{Errno, Result};
use crate::ipc::Charge;
use crate::kernel::wait::{self, WaitError};
use crate::sync::{Events, SpinLock, WaitQueue};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Number of priorities: MQ_PRIO_MAX.
pub const PRIORITIES: u32 = 32_768;

/// A message.
pub struct Message {
    data: Vec<u8>,
    _charge: Charge,
}

impl Message {
    /// A message of `len` bytes, all 0.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new(len: usize) -> Result<Self> {
        let charge = Charge::new(64 + len.next_power_of_two())?;
        let mut data = Vec::new();
        data.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
        data.resize(len, 0);
        Ok(Self { data, _charge: charge })
    }

    /// Its bytes.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Its bytes, to be filled.
    pub fn data_mut(&mut self) -> &mut [u8] {
        &mut self.data
    }
}

/// Size of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Most messages.
    pub messages: u64,
    /// Longest message, bytes.
    pub size: u64,
}

impl Shape {
    /// What such a queue counts against RLIMIT_MSGQUEUE, as Linux 6 reckons.
    pub fn bytes(&self) -> u64 {
        let entries = self.messages * 48 + self.messages.min(u64::from(PRIORITIES)) * 48;
        self.messages.saturating_mul(self.size).saturating_add(entries)
    }
}

/// Messages by priority.
#[derive(Default)]
struct State {
    messages: BTreeMap<u32, VecDeque<Message>>,
    count: u64,
    bytes: u64,
    registration: Option<Registration>,
}

/// A queue.
pub struct Queue {
    /// Its size.
    pub shape: Shape,
    state: SpinLock<State>,
    /// Woken for each change: readers, writers and those who poll.
    pub changed: WaitQueue,
    /// Receivers that wait: no one is notified while there are any.
    receivers: AtomicUsize,
}

/// Ends a wait as the call has it: the deadline is ETIMEDOUT, signals restart.
fn waited<T>(result: Result<Result<T>, WaitError>) -> Result<T> {
    result.map_err(Errno::from)?
}

impl Queue {
    /// An empty queue.
    pub fn new(shape: Shape) -> Self {
        Self {
            shape,
            state: SpinLock::new(State::default()),
            changed: WaitQueue::new(),
            receivers: AtomicUsize::new(0),
        }
    }

    /// mq_timedsend(3): `wait` until the deadline, if any.
    ///
    /// # Errors
    /// EAGAIN, ETIMEDOUT, RESTART_SYS.
    pub fn send(&self, message: Message, priority: u32, wait: bool, deadline: Option<u64>) -> Result<()> {
        let mut message = Some(message);
        let mut event = None;
        let mut put = || {
            let mut state = self.state.lock();
            if state.count >= self.shape.messages {
                return if wait { None } else { Some(Err(Errno::EAGAIN)) };
            }
            if let Some(message) = message.take() {
                state.bytes += message.data.len() as u64;
                state.count += 1;
                state.messages.entry(priority).or_default().push_back(message);
                // Whoever waits to receive takes it, else the one who asked for it is told, once.
                if state.count == 1 && self.receivers.load(Ordering::SeqCst) == 0 {
                    event = state.registration.take();
                }
            }
            Some(Ok(()))
        };
        waited(wait::wait_until(&[(&self.changed, Events::OUT)], deadline, &mut put))?;
        self.changed.wake(Events::IN | Events::RDNORM);
        if let Some(registration) = event {
            registration.tell(Event::Message);
        }
        Ok(())
    }

    /// mq_timedreceive(3): the oldest message of the highest priority, with that.
    ///
    /// # Errors
    /// EAGAIN, ETIMEDOUT, RESTART_SYS.
    pub fn receive(&self, wait: bool, deadline: Option<u64>) -> Result<(Message, u32)> {
        let take = || {
            let mut state = self.state.lock();
            let Some(mut highest) = state.messages.last_entry() else {
                return if wait { None } else { Some(Err(Errno::EAGAIN)) };
            };
            let priority = *highest.key();
            let message = highest.get_mut().pop_front();
            if highest.get().is_empty() {
                highest.remove();
            }
            let message = message?;
            state.bytes -= message.data.len() as u64;
            state.count -= 1;
            Some(Ok((message, priority)))
        };
        let result = match take() {
            Some(result) => result,
            None => {
                self.receivers.fetch_add(1, Ordering::SeqCst);
                let result = wait::wait_until(&[(&self.changed, Events::IN)], deadline, take);
                self.receivers.fetch_sub(1, Ordering::SeqCst);
                waited(result)
            }
        }?;
        self.changed.wake(Events::OUT | Events::WRNORM);
        Ok(result)
    }

    /// Messages in it.
    pub fn count(&self) -> u64 {
        self.state.lock().count
    }

    /// Whether it can be read and written.
    pub fn poll(&self) -> Events {
        let count = self.count();
        let mut events = Events::empty();
        if count > 0 {
            events |= Events::IN | Events::RDNORM;
        }
        if count < self.shape.messages {
            events |= Events::OUT | Events::WRNORM;
        }
        events
    }

    /// mq_notify(3).
    ///
    /// # Errors
    /// EBUSY where another is registered.
    pub fn register(&self, registration: Registration) -> Result<()> {
        let mut state = self.state.lock();
        if state.registration.is_some() {
            return Err(Errno::EBUSY);
        }
        state.registration = Some(registration);
        Ok(())
    }

    /// The registration of a process goes: by mq_notify(3) without an event, or since it closed the queue.
    pub fn unregister(&self, pid: u32) {
        let gone = {
            let mut state = self.state.lock();
            if state.registration.as_ref().is_some_and(|r| r.pid == pid) {
                state.registration.take()
            } else {
                None
            }
        };
        if let Some(registration) = gone {
            registration.tell(Event::Removed);
        }
    }

    /// What reading the queue's file shows.
    pub fn text(&self) -> Vec<u8> {
        let state = self.state.lock();
        let (notify, signal, pid) = state.registration.as_ref().map_or((0, 0, 0), Registration::figures);
        alloc::format!("QSIZE:{:<10} NOTIFY:{notify:<5} SIGNO:{signal:<5} NOTIFY_PID:{pid:<6}\n", state.bytes)
            .into_bytes()
    }
}
