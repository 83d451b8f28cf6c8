//! The scheduler: a run queue for each vCPU, wake-ups that prefer the waker's, preemption of ring 3 by the timer.
//!
//! Kernel code is not preempted. A task leaves its vCPU in [`park`], [`yield_now`] or at its end, and goes on later
//! where it left, on the same kernel stack, on any vCPU.

mod idle;

pub use self::idle::{idle_loop, let_go, release_space, restored, rouse_idle};

use super::freeze;
use super::task::Task;
use super::timer;
use crate::arch::{cpu, fpu, port, stack};
use crate::mm::Mm;
use crate::sync::{Events, SpinLock, Wake};
use abi::boot::MAX_CPUS;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Time that a task runs before another that waits takes its place, ns.
const SLICE_NS: u64 = 4_000_000;
/// The same while another vCPU idles and could take the waiting task.
const BALANCE_NS: u64 = 1_000_000;

const RUNNING: u8 = 0;
const PARKED: u8 = 1;
const RUNNABLE: u8 = 2;
const DEAD: u8 = 3;

/// The scheduler's part of a task.
pub struct SchedState {
    state: AtomicU8,
    woken: AtomicBool,
    interruptible: AtomicBool,
    on_cpu: AtomicBool,
    /// It is to end, and goes before others.
    hastened: AtomicBool,
    /// vCPU that it ran on last.
    pub last_cpu: AtomicU32,
    /// vCPUs that it may run on, a bit each.
    pub affinity: AtomicU64,
    /// When it was switched in last, ns.
    since: AtomicU64,
    /// CPU time, ns.
    pub run_ns: AtomicU64,
    /// Times that it gave its vCPU up.
    pub voluntary: AtomicU64,
    /// Times that it was preempted.
    pub preempted: AtomicU64,
}

impl SchedState {
    /// The state of a task that does not run yet.
    pub fn new(affinity: u64) -> Self {
        Self {
            state: AtomicU8::new(PARKED),
            woken: AtomicBool::new(false),
            interruptible: AtomicBool::new(false),
            on_cpu: AtomicBool::new(false),
            hastened: AtomicBool::new(false),
            last_cpu: AtomicU32::new(0),
            affinity: AtomicU64::new(affinity),
            since: AtomicU64::new(0),
            run_ns: AtomicU64::new(0),
            voluntary: AtomicU64::new(0),
            preempted: AtomicU64::new(0),
        }
    }

    /// State letter as in /proc/PID/stat.
    pub fn letter(&self) -> char {
        match self.state.load(Ordering::Relaxed) {
            PARKED if self.interruptible.load(Ordering::Relaxed) => 'S',
            PARKED => 'D',
            DEAD => 'Z',
            _ => 'R',
        }
    }

    /// Time since the running task was switched in, ns.
    pub fn running_ns(&self) -> u64 {
        crate::time::monotonic_ns().saturating_sub(self.since.load(Ordering::Relaxed))
    }

    /// Whether it is on a vCPU now.
    pub fn running_on(&self) -> Option<usize> {
        self.on_cpu.load(Ordering::SeqCst).then(|| self.last_cpu.load(Ordering::Relaxed) as usize)
    }
}

struct CpuSched {
    queue: SpinLock<VecDeque<Arc<Task>>>,
    queued: AtomicUsize,
    /// Some of the queue are to go before the others.
    hastened: AtomicBool,
    current: SpinLock<Option<Arc<Task>>>,
    previous: SpinLock<Option<Arc<Task>>>,
    /// The address space that is loaded; keeps its tables alive.
    active: SpinLock<Option<Arc<Mm>>>,
    idle_context: stack::KernelContext,
    idle: AtomicBool,
    /// When the timer is set to fire; `u64::MAX` for never.
    armed: AtomicU64,
    /// When the running task was switched in.
    slice_start: AtomicU64,
    /// Time in the idle loop, ns.
    idle_ns: AtomicU64,
}

static CPUS: [CpuSched; MAX_CPUS] = [const {
    CpuSched {
        queue: SpinLock::new(VecDeque::new()),
        queued: AtomicUsize::new(0),
        hastened: AtomicBool::new(false),
        current: SpinLock::new(None),
        previous: SpinLock::new(None),
        active: SpinLock::new(None),
        idle_context: stack::KernelContext::idle(),
        idle: AtomicBool::new(false),
        armed: AtomicU64::new(u64::MAX),
        slice_start: AtomicU64::new(0),
        idle_ns: AtomicU64::new(0),
    }
}; MAX_CPUS];

/// vCPUs that tasks run on: the first ones. The others stay idle; a change of what the container may use brings them in.
static ONLINE: AtomicUsize = AtomicUsize::new(MAX_CPUS);

/// Number of vCPUs that tasks run on, which is that of the CPUs that programs see.
pub fn online() -> usize {
    ONLINE.load(Ordering::Relaxed).min(cpu::count())
}

/// A bit for each of them.
pub fn online_mask() -> u64 {
    let n = online();
    if n >= 64 { u64::MAX } else { (1 << n) - 1 }
}

/// Lets tasks run on the first `n` vCPUs only, or on all that there are. Tasks leave the others with the next event there.
pub fn set_online(n: usize) {
    let before = online();
    ONLINE.store(n.max(1), Ordering::SeqCst);
    if online() != before {
        let me = cpu::id();
        (0..cpu::count()).filter(|other| *other != me).for_each(port::kick);
    }
}

/// Tasks that were switched in since boot.
pub static SWITCHES: AtomicU64 = AtomicU64::new(0);
static IDLE_CPUS: AtomicUsize = AtomicUsize::new(0);

fn this() -> &'static CpuSched {
    &CPUS[cpu::id()]
}

/// The task that runs on this vCPU; `None` in the idle loop.
pub fn current() -> Option<Arc<Task>> {
    this().current.lock().clone()
}

/// A waker of the running task.
pub fn current_waker() -> Arc<dyn Wake> {
    match current() {
        Some(task) => task,
        None => Arc::new(NoTask),
    }
}

/// Stands for the idle loop, which never waits for anything.
struct NoTask;

impl Wake for NoTask {
    fn wake(&self, _: Events) {}
}

impl Wake for Task {
    fn wake(&self, _: Events) {
        if let Some(me) = self.me.upgrade() {
            wake(&me);
        }
    }
}

/// Lets a parked task run; one that is not parked will not park the next time.
pub fn wake(task: &Arc<Task>) {
    task.sched.woken.store(true, Ordering::SeqCst);
    if task.sched.state.compare_exchange(PARKED, RUNNABLE, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
        enqueue(task.clone(), task.sched.hastened.load(Ordering::SeqCst));
    }
}

/// Lets a task that is to end go before others, whether it waits for its turn now or later: behind hundreds that spin, a
/// killed process would keep its memory for long. Where it gives its turn up itself, it goes to the end as any.
pub fn hasten(task: &Arc<Task>) {
    if !task.sched.hastened.swap(true, Ordering::SeqCst)
        && task.sched.state.load(Ordering::SeqCst) == RUNNABLE
    {
        // Sorted by whoever picks next: many may be killed at once.
        CPUS.iter().take(cpu::count()).for_each(|cpu| cpu.hastened.store(true, Ordering::SeqCst));
    }
}

/// Puts those that are to go first before the others; otherwise their order stays.
fn bring_forward<T>(tasks: &mut [T], first: impl Fn(&T) -> bool) {
    let mut front = 0;
    for at in 0..tasks.len() {
        if first(&tasks[at]) {
            if at != front {
                tasks[front..=at].rotate_right(1);
            }
            front += 1;
        }
    }
}

/// Wakes a task only if it waits interruptibly, and makes it look at its signals: kicks it out of ring 3 if it runs
/// elsewhere.
pub fn notify(task: &Arc<Task>) {
    if task.sched.interruptible.load(Ordering::SeqCst) {
        wake(task);
    }
    if let Some(cpu) = task.sched.running_on()
        && cpu != cpu::id()
    {
        port::kick(cpu);
    }
}

/// The affinity of another task was changed: it leaves a vCPU that it may not run on any more.
pub fn affinity_changed(task: &Arc<Task>) {
    if let Some(cpu) = task.sched.running_on()
        && cpu != cpu::id()
        && !may_run(task, cpu)
    {
        port::kick(cpu);
    }
}

/// Puts a task that is to run into a queue. `first`: before all others.
fn enqueue(task: Arc<Task>, first: bool) {
    let me = cpu::id();
    let target = if may_run(&task, me) {
        me
    } else {
        let last = task.sched.last_cpu.load(Ordering::Relaxed) as usize;
        if may_run(&task, last) { last } else { (0..cpu::count()).find(|c| may_run(&task, *c)).unwrap_or(me) }
    };
    let queue = &CPUS[target];
    let length = {
        let mut list = queue.queue.lock();
        if first {
            list.push_front(task);
        } else {
            list.push_back(task);
        }
        queue.queued.store(list.len(), Ordering::SeqCst);
        list.len()
    };
    if target != me && (length == 1 || queue.idle.load(Ordering::SeqCst)) {
        port::kick(target);
    }
}

/// Before the condition of a wait is looked at: wake-ups from here on keep the task from parking.
pub fn prepare_park() {
    if let Some(task) = &*this().current.lock() {
        task.sched.woken.store(false, Ordering::SeqCst);
    }
}

/// Leaves the vCPU until the task is woken or `deadline` (CLOCK_MONOTONIC, ns) passes. `interruptible`: signals wake
/// it too.
pub fn park(interruptible: bool, deadline: Option<u64>) {
    let Some(task) = current() else { return };
    let state = &task.sched;
    state.interruptible.store(interruptible, Ordering::SeqCst);
    let timer = deadline.map(|d| {
        let waker: Arc<dyn Wake> = task.clone();
        timer::schedule(d, waker)
    });
    state.state.store(PARKED, Ordering::SeqCst);
    let stay = (state.woken.load(Ordering::SeqCst) || (interruptible && task.has_signal()))
        && state.state.compare_exchange(PARKED, RUNNING, Ordering::SeqCst, Ordering::SeqCst).is_ok();
    if !stay {
        state.voluntary.fetch_add(1, Ordering::Relaxed);
        switch_away(&task);
    }
    state.interruptible.store(false, Ordering::SeqCst);
    if let Some(timer) = timer {
        timer::cancel(timer);
    }
}

/// Whether the running task's wait must end: a signal, or its end.
pub fn interrupted() -> bool {
    this().current.lock().as_ref().is_some_and(|t| t.has_signal())
}

/// Lets the next task run; the caller goes to the end of the queue.
pub fn yield_now() {
    if this().queued.load(Ordering::Relaxed) == 0 {
        return;
    }
    let Some(task) = current() else { return };
    task.sched.state.store(RUNNABLE, Ordering::SeqCst);
    enqueue(task.clone(), false);
    switch_away(&task);
}

/// Leaves the vCPU, to go on when a task may be switched in again: for a freeze.
pub fn stand_aside() {
    let Some(task) = current() else { return };
    task.sched.state.store(RUNNABLE, Ordering::SeqCst);
    enqueue(task.clone(), false);
    switch_away(&task);
}

/// Moves the running task to a vCPU that it may run on.
pub fn migrate() {
    let Some(task) = current() else { return };
    if !may_run(&task, cpu::id()) {
        task.sched.state.store(RUNNABLE, Ordering::SeqCst);
        enqueue(task.clone(), false);
        switch_away(&task);
    }
}

/// Takes the next task off this vCPU's queue, or off another's.
fn pick() -> Option<Arc<Task>> {
    if freeze::requested() {
        return None;
    }
    let me = cpu::id();
    let own = &CPUS[me];
    while own.queued.load(Ordering::SeqCst) != 0 {
        let task = {
            let mut queue = own.queue.lock();
            if own.hastened.load(Ordering::Relaxed) {
                own.hastened.store(false, Ordering::SeqCst);
                bring_forward(queue.make_contiguous(), |task| task.sched.hastened.load(Ordering::Relaxed));
            }
            let task = queue.pop_front();
            own.queued.store(queue.len(), Ordering::SeqCst);
            task
        };
        match task {
            // Its affinity was changed while it waited here.
            Some(task) if !may_run(&task, me) => enqueue(task, false),
            Some(task) => return Some(task),
            None => break,
        }
    }
    for other in (1..cpu::count()).map(|i| &CPUS[(me + i) % cpu::count()]) {
        if other.queued.load(Ordering::SeqCst) == 0 {
            continue;
        }
        let mut queue = other.queue.lock();
        if let Some(at) = queue.iter().position(|task| may_run(task, me)) {
            let task = queue.remove(at);
            other.queued.store(queue.len(), Ordering::SeqCst);
            return task;
        }
    }
    None
}

/// Whether a task may run on a vCPU: by its affinity, which may name none that is there any more.
fn may_run(task: &Task, cpu: usize) -> bool {
    let online = online_mask();
    let affinity = task.sched.affinity.load(Ordering::Relaxed) & online;
    (if affinity == 0 { online } else { affinity }) & (1 << cpu) != 0
}

/// Whether a task waits that this vCPU may run.
fn has_work(me: usize) -> bool {
    let mine = |task: &Arc<Task>| may_run(task, me);
    CPUS.iter().take(cpu::count()).enumerate().any(|(index, cpu)| {
        cpu.queued.load(Ordering::SeqCst) != 0 && (index == me || cpu.queue.lock().iter().any(mine))
    })
}

/// As [`pick`], for a vCPU that is still on the stack of `leaving`. A task that another vCPU is just leaving is put
/// back: two vCPUs that wait for each other's task in this place would wait for ever. The idle loop, which is on no
/// task's stack, may wait for it.
fn pick_leaving(leaving: &Arc<Task>) -> Option<Arc<Task>> {
    let next = pick()?;
    if Arc::ptr_eq(&next, leaving) || !next.sched.on_cpu.load(Ordering::Acquire) {
        return Some(next);
    }
    let own = this();
    let mut queue = own.queue.lock();
    queue.push_back(next);
    own.queued.store(queue.len(), Ordering::SeqCst);
    None
}

/// Switches from the running task (parked, runnable or dead by now) to the next one or the idle loop.
fn switch_away(task: &Arc<Task>) {
    let cpu = this();
    let now = crate::time::monotonic_ns();
    task.sched
        .run_ns
        .fetch_add(now.saturating_sub(task.sched.since.load(Ordering::Relaxed)), Ordering::Relaxed);
    let next = pick_leaving(task);
    if let Some(next) = &next
        && Arc::ptr_eq(next, task)
    {
        task.sched.state.store(RUNNING, Ordering::SeqCst);
        task.sched.since.store(now, Ordering::Relaxed);
        return;
    }
    if task.sched.state.load(Ordering::Relaxed) != DEAD {
        task.bases.save();
        task.switched.store(true, Ordering::Relaxed);
        fpu::save(&mut task.fpu.lock());
    }
    *cpu.previous.lock() = Some(task.clone());
    match next {
        Some(next) => {
            start_running(&next, now);
            *cpu.current.lock() = Some(next.clone());
            leave_to(&task.context, next);
        }
        None => {
            *cpu.current.lock() = None;
            stack::switch(&task.context, &cpu.idle_context);
        }
    }
    // Here again, maybe on another vCPU.
    finish_switch();
    task.bases.load();
}

/// Leaves a dead task for good.
fn switch_dead(task: Arc<Task>) {
    let cpu = this();
    let now = crate::time::monotonic_ns();
    task.sched
        .run_ns
        .fetch_add(now.saturating_sub(task.sched.since.load(Ordering::Relaxed)), Ordering::Relaxed);
    let from = stack::context_of(&task);
    let next = pick_leaving(&task);
    // The next task or the idle loop drops this reference, off this stack.
    *cpu.previous.lock() = Some(task);
    match next {
        Some(next) => {
            start_running(&next, now);
            *cpu.current.lock() = Some(next.clone());
            leave_to(from, next);
        }
        None => {
            *cpu.current.lock() = None;
            stack::switch(from, &cpu.idle_context);
        }
    }
}

/// Switches to a task. The reference must not stay on the stack that is left: `current` keeps the task alive.
fn leave_to(from: &stack::KernelContext, next: Arc<Task>) {
    let context = stack::context_of(&next);
    drop(next);
    stack::switch(from, context);
}

fn start_running(task: &Arc<Task>, now: u64) {
    let mut turns = 0u32;
    while task.sched.on_cpu.load(Ordering::Acquire) {
        // Another vCPU is just leaving it.
        core::hint::spin_loop();
        turns = turns.wrapping_add(1);
        if turns.is_multiple_of(10_000) {
            crate::arch::relax();
            crate::sync::stuck(now, "a task that its vCPU does not leave");
        }
    }
    let cpu = this();
    task.sched.on_cpu.store(true, Ordering::SeqCst);
    task.sched.last_cpu.store(cpu::id() as u32, Ordering::Relaxed);
    task.sched.state.store(RUNNING, Ordering::SeqCst);
    task.sched.since.store(now, Ordering::Relaxed);
    cpu.slice_start.store(now, Ordering::Relaxed);
    SWITCHES.fetch_add(1, Ordering::Relaxed);
}

/// After a switch, on the new stack: the task that was left may now run elsewhere or be freed.
fn finish_switch() {
    let previous = this().previous.lock().take();
    if let Some(task) = previous {
        task.sched.on_cpu.store(false, Ordering::Release);
    }
}

/// First code of a new task, on its own stack.
pub fn task_entry() -> ! {
    finish_switch();
    if let Some(task) = current() {
        task.bases.load();
        let entry = task.entry.lock().take();
        drop(task);
        if let Some(entry) = entry {
            entry();
        }
    }
    exit_current()
}

/// Ends the running task: its stack is freed once it is left.
pub fn exit_current() -> ! {
    if let Some(task) = current() {
        task.sched.state.store(DEAD, Ordering::SeqCst);
        // Nothing of this stack is ever dropped: no reference may stay on it.
        switch_dead(task);
    }
    unreachable!("a dead task was switched to")
}

/// Makes the address space of a task the loaded one of this vCPU. Returns whether it was another before: to give that
/// one up may have taken a wait, after which the task may be on another vCPU.
pub fn activate(mm: &Arc<Mm>) -> bool {
    let cpu = this();
    let mut active = cpu.active.lock();
    if active.as_ref().is_some_and(|a| Arc::ptr_eq(a, mm)) {
        return false;
    }
    port::load_space(mm.space());
    let old = active.replace(mm.clone());
    drop(active);
    drop(old);
    true
}

/// What the timer interrupt and every return to ring 3 look at: expired timers, and whether the slice is over.
/// Returns with the timer armed for what comes next.
pub fn tick(preempt: bool) {
    let cpu = this();
    let now = crate::time::monotonic_ns();
    timer::run_expired(now);
    if preempt && cpu.queued.load(Ordering::Relaxed) != 0 {
        let ran = now.saturating_sub(cpu.slice_start.load(Ordering::Relaxed));
        if IDLE_CPUS.load(Ordering::Relaxed) != 0 {
            kick_idle();
        }
        if ran >= SLICE_NS - SLICE_NS / 8
            && let Some(task) = current()
        {
            task.sched.preempted.fetch_add(1, Ordering::Relaxed);
            yield_now();
        }
    }
    arm();
}

/// Whether a vCPU has nothing to do.
pub fn any_idle() -> bool {
    IDLE_CPUS.load(Ordering::Relaxed) != 0
}

fn kick_idle() {
    let me = cpu::id();
    if let Some(cpu) = (0..online()).find(|c| *c != me && CPUS[*c].idle.load(Ordering::SeqCst)) {
        port::kick(cpu);
    }
}

/// The timer interrupt has come: it is not armed any more.
pub fn timer_fired() {
    this().armed.store(u64::MAX, Ordering::Relaxed);
}

/// Arms this vCPU's timer for the next timer or the end of the slice, unless it fires before that anyway.
pub fn arm() {
    let cpu = this();
    let mut deadline = timer::next_deadline().unwrap_or(u64::MAX);
    if cpu.queued.load(Ordering::Relaxed) != 0 {
        let slice = if IDLE_CPUS.load(Ordering::Relaxed) != 0 { BALANCE_NS } else { SLICE_NS };
        // An armed timer within a slice is near enough; one that is further away, such as that of a long sleep, would let
        // the task that waits here starve.
        let end = crate::time::monotonic_ns() + slice;
        if cpu.armed.load(Ordering::Relaxed) > end {
            deadline = deadline.min(end);
        }
    }
    arm_for(deadline);
}

/// Arms this vCPU's timer for a time of CLOCK_MONOTONIC, unless it fires before that anyway.
pub fn arm_for(deadline: u64) {
    let cpu = this();
    if deadline < cpu.armed.load(Ordering::Relaxed) {
        cpu.armed.store(deadline, Ordering::Relaxed);
        port::arm_timer(deadline.saturating_sub(crate::time::monotonic_ns()));
    }
}

/// Time that the vCPUs which tasks run on spent idle, ns.
pub fn idle_ns() -> u64 {
    CPUS.iter().take(online()).map(|c| c.idle_ns.load(Ordering::Relaxed)).sum()
}

/// Tasks that run or wait to.
pub fn runnable() -> usize {
    CPUS.iter()
        .take(cpu::count())
        .map(|c| c.queued.load(Ordering::Relaxed) + usize::from(c.current.lock().is_some()))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::bring_forward;

    #[test]
    fn those_that_go_first_keep_their_order_and_so_do_the_others() {
        let mut tasks = [1, 20, 2, 3, 30, 40, 4];
        bring_forward(&mut tasks, |n| *n >= 10);
        assert_eq!(tasks, [20, 30, 40, 1, 2, 3, 4]);
        bring_forward(&mut tasks, |_| false);
        bring_forward(&mut tasks[..0], |_| true);
        assert_eq!(tasks, [20, 30, 40, 1, 2, 3, 4]);
    }
}
