//! What the oracle knows of tasks that are sent ahead of time: where that is allowed, and what it means to have them back.

use std::time::Duration;

use super::task::Place;
use super::worker::{Life, Worker};
use super::{Oracle, Phase};
use crate::scheduler::types::{Assignment, FailReason, FunctionId, KillReason, TaskId, Time, WorkerId};
use crate::scheduler::{LOOK_AFTER, PACK_NANOS, PACK_STALE, PREFETCH_NANOS, PREFETCH_TASKS, STEAL_NANOS};

/// What an estimate counts at most, and one that there is none for.
const LONGEST: u64 = 1_000 * PREFETCH_NANOS;

/// One dispatch that a worker has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) run: Assignment,
    pub(super) priority: i32,
    /// How long it was expected to take when it was sent, in nanoseconds.
    pub(super) estimate: u64,
    /// Its function was entered: the oracle sees that, and the scheduler does not.
    pub(super) begun: bool,
}

/// How long each function is expected to take, in nanoseconds: what it took the first time, and from then on seven
/// parts of what was thought before and one of what is seen.
#[derive(Debug, Default)]
pub(super) struct Expected(Vec<(FunctionId, u64)>);

impl Expected {
    pub(super) fn learn(&mut self, function: FunctionId, ran: Duration) {
        let ran = (ran.as_nanos() as u64).max(1);
        match self.0.iter_mut().find(|(known, _)| *known == function) {
            _ if function == FunctionId(0) => {}
            Some((_, expected)) => *expected = (*expected - *expected / 8 + ran / 8).max(1),
            None => self.0.push((function, ran)),
        }
    }

    fn of(&self, function: FunctionId) -> Option<u64> {
        self.0.iter().find(|(known, _)| *known == function).map(|&(_, expected)| expected)
    }
}

fn sum<'a>(sent: impl Iterator<Item = &'a Sent>) -> u64 {
    sent.map(|sent| sent.estimate).sum()
}

// Sending.
impl Oracle {
    pub(super) fn see_dispatch(&mut self, id: WorkerId, run: Assignment, now: Time) {
        self.tasks.check_turn(run);
        let worker = self.current(id).unwrap_or_else(|| panic!("{run:?} goes to {id:?}, which is not there"));
        assert!(worker.serves(), "{run:?} goes to {worker:?}, which does not take any");
        let spec = self.tasks.at(run.task).spec;
        let expected = self.expected.of(spec.function);
        let worker = &self.workers[id.slot as usize];
        if worker.is_free() {
            let freed = worker.freed;
            let warmer = self.workers.iter().find(|other| other.is_free() && other.freed > freed);
            assert!(warmer.is_none(), "{run:?} goes to {id:?}, and {warmer:?} was busy last");
        } else {
            self.check_ahead(worker, run, expected, now);
            self.corners.prefetched += 1;
            self.corners.packed += u64::from(self.workers.iter().any(Worker::is_free));
        }
        let task = self.tasks.at(run.task);
        let shared = task.taken_from.is_some_and(|from| from != id);
        task.dispatches += 1;
        task.place = Place::On(id);
        task.taken_from = None;
        let first_look = spec.timeout.map(|timeout| self.first_look(timeout, now));
        let worker = &mut self.workers[id.slot as usize];
        self.corners.shared += u64::from(shared && worker.held.is_empty());
        if worker.held.is_empty() {
            worker.moved = now;
            worker.limit = first_look;
            worker.deadline = spec.timeout.map(|timeout| now.saturating_add(timeout));
        }
        let estimate = expected.unwrap_or(PREFETCH_NANOS).min(LONGEST);
        worker.held.push_back(Sent { run, priority: spec.priority, estimate, begun: false });
        worker.allowed = worker.allowed.map(|left| left - 1);
        self.touch(id);
    }

    /// This is to wait behind what that worker has. May it?
    fn check_ahead(&self, worker: &Worker, run: Assignment, expected: Option<u64>, now: Time) {
        let task = self.tasks.get(run.task).expect("its turn was checked");
        let id = worker.id;
        let limited = task.spec.timeout.is_some() || task.spec.max_memory.is_some();
        assert!(!limited, "{run:?} has a limit, and waits for {id:?}");
        let Some(expected) = expected else { panic!("{run:?} waits for {id:?}, and may be long") };
        assert!(!self.cancelling, "{run:?} is sent ahead while everything of the kind is cancelled");
        assert!(
            worker.condemned.is_none() && !worker.stuck,
            "{run:?} waits for {id:?}, which does not get on"
        );
        let doomed = worker.held.iter().find(|sent| self.is_doomed(sent));
        assert!(doomed.is_none(), "{run:?} waits behind {doomed:?}, which is to be stopped");
        let backlog = sum(worker.held.iter());
        let first = worker.held.len() == 1;
        assert!(first || backlog < PREFETCH_NANOS, "{run:?} waits for {id:?}, behind {backlog} ns");
        assert!(worker.held.len() < PREFETCH_TASKS, "{run:?} waits behind {} others", worker.held.len());
        let mut waiting = worker.held.iter().skip(1).filter(|sent| !sent.begun);
        let lesser = waiting.find(|sent| sent.priority < task.spec.priority);
        assert!(lesser.is_none(), "{run:?} waits behind {lesser:?}, which is less urgent");
        if let Some(free) = self.workers.iter().find(|worker| worker.is_free()) {
            let soon = backlog + expected <= PACK_NANOS && now < worker.moved + PACK_STALE;
            assert!(soon, "{run:?} waits for {id:?}, and {:?} is free", free.id);
        }
    }
}

// Having it back.
impl Oracle {
    /// So many are asked back. It must be possible, and for a reason.
    pub(super) fn see_retract(&mut self, id: WorkerId, count: usize, now: Time) {
        let clock = self.clock_struck;
        // A backoff may have ended: that is the scheduler's to choose.
        let retried = clock && self.tasks.live().any(|(_, task)| matches!(task.place, Place::Backoff(_)));
        let urgent = retried || self.tasks.most_urgent().is_some();
        let free = self.workers.iter().any(Worker::is_free);
        let cancelling = self.cancelling;
        let worker =
            self.current(id).unwrap_or_else(|| panic!("{count} are asked of {id:?}, which is not there"));
        assert!(worker.can_be_asked(), "{count} are asked of {worker:?}, which does not serve");
        assert!((1..=worker.waiting()).contains(&count), "{count} are asked of {worker:?}");
        let stops = self.runs_doomed(id);
        let worker = self.current(id).expect("it is there");
        let still = clock && now >= worker.moved + LOOK_AFTER / 2;
        let condemned = worker.condemned.is_some();
        let reason = cancelling || condemned || stops || worker.dismissed || urgent || free || still;
        assert!(reason, "{count} are asked of {worker:?}, for nothing");
        // Nothing but a look at the clock comes to this.
        let other = cancelling || condemned || stops || worker.dismissed || urgent || free;
        worker.stuck = still && !other;
        worker.asked = Some(count);
        let stuck = worker.stuck;
        self.corners.stuck += u64::from(stuck);
        self.touch(id);
    }

    /// So many are back.
    pub(super) fn retracted(&mut self, id: WorkerId, count: usize, now: Time) {
        let Some(worker) = self.current(id) else { return };
        let Some(asked) = worker.asked.take() else { return };
        let back = worker.held.split_off(worker.held.len() - count.min(worker.held.len()));
        worker.allowed = worker.allowed.map(|left| left + back.len() as u32);
        if count < asked {
            worker.refused = worker.held.len();
        }
        if worker.held.is_empty() {
            worker.clear();
        }
        let spared = worker.refused > 1 && worker.condemned.take() == Some(KillReason::Timeout);
        for sent in &back {
            assert!(!sent.begun, "{sent:?} is taken back, and was begun");
            self.tasks.at(sent.run.task).taken_from = Some(id);
        }
        self.corners.timeouts_spared += u64::from(spared);
        self.corners.taken_back += u64::from(!back.is_empty());
        self.corners.refused_in_part += u64::from(!back.is_empty() && count < asked);
        let back: Vec<_> = back.iter().map(|sent| sent.run.task).collect();
        self.come_back(&back);
        self.execute(id);
        self.touch(id);
        self.stop_if_drained(now);
        self.let_go(id.slot as usize, now);
    }

    /// What was never begun goes to where it was, or where it was to go.
    pub(super) fn come_back(&mut self, tasks: &[TaskId]) {
        let (dropped, kept): (Vec<_>, Vec<_>) =
            tasks.iter().partition(|&&id| self.cancelling || self.tasks.at(id).doomed);
        for id in dropped {
            self.fail(id, FailReason::Cancelled);
        }
        self.tasks.put_first(&kept);
    }

    /// The application had one dispatch taken back that it wants to cancel, or that somebody waits for. How many that are.
    pub(super) fn taken_back(&mut self, id: WorkerId, run: Assignment, now: Time) -> u64 {
        let Some(worker) = self.current(id) else { return 0 };
        let Some(index) = worker.held.iter().position(|sent| sent.run == run) else { return 0 };
        let sent = worker.remove(index);
        assert!(!sent.begun, "{sent:?} is cancelled, and was begun");
        worker.allowed = worker.allowed.map(|left| left + 1);
        self.end(run.task);
        self.corners.cancelled_prefetched += u64::from(index > 0);
        self.execute(id);
        self.touch(id);
        self.stop_if_drained(now);
        self.let_go(id.slot as usize, now);
        1
    }

    /// What is in front is over its time.
    pub(super) fn overdue(&mut self, slot: usize) {
        let more = self.condemn(slot, KillReason::Timeout);
        self.corners.timeouts_with_more += u64::from(more);
    }

    /// This takes too much memory. It is of no concern any more once it has ended, or its worker is to go anyhow.
    pub(super) fn over_memory(&mut self, id: WorkerId, run: Assignment) {
        let at_it = self.current(id).is_some_and(|worker| {
            let front = worker.held.front().is_some_and(|sent| sent.run == run);
            front && worker.life == Life::Up && worker.killed.is_none()
        });
        if at_it {
            let more = self.condemn(id.slot as usize, KillReason::Memory);
            self.corners.over_memory_with_more += u64::from(more);
        } else {
            self.corners.over_memory_in_vain += 1;
        }
    }

    /// What is in front is over a limit. Its worker is killed for it, but only alone: what waits behind is not to be begun
    /// just when the kill hits. Whether something does.
    fn condemn(&mut self, slot: usize, why: KillReason) -> bool {
        let worker = &mut self.workers[slot];
        worker.limit = None;
        let at_it = worker.refused <= 1;
        if at_it {
            worker.condemned.get_or_insert(why);
        }
        let (id, more) = (worker.id, worker.held.len() > 1 && at_it);
        self.execute(id);
        more
    }

    /// This one is to be stopped, wherever its worker has got to. Whether it is still there.
    pub(super) fn sentence(&mut self, id: WorkerId, run: Assignment) -> bool {
        let Some(worker) = self.current(id) else { return false };
        let Some(at) = worker.held.iter().position(|sent| sent.run == run) else { return false };
        let more = at == 0 && worker.held.len() > 1;
        self.corners.stopped_with_more += u64::from(more);
        self.tasks.at(run.task).doomed = true;
        self.execute(id);
        true
    }

    /// What is in front is to be stopped, or is over a limit: a kill is owed once nothing is behind it.
    pub(super) fn execute(&mut self, id: WorkerId) {
        let stops = self.runs_doomed(id);
        let Some(worker) = self.current(id) else { return };
        let why = if stops { Some(KillReason::Cancelled) } else { worker.condemned };
        if let Some(why) = why.filter(|_| worker.life == Life::Up && worker.held.len() == 1) {
            self.doom(id, why);
        }
    }

    fn is_doomed(&self, sent: &Sent) -> bool {
        self.tasks.get(sent.run.task).is_some_and(|task| task.doomed)
    }

    /// What that worker has in front is to be stopped.
    fn runs_doomed(&self, id: WorkerId) -> bool {
        let worker = self.workers.get(id.slot as usize).filter(|worker| worker.id == id);
        worker.and_then(|worker| worker.held.front()).is_some_and(|sent| self.is_doomed(sent))
    }
}

// Between two events.
impl Oracle {
    /// What waits at a worker must be asked back wherever it should not wait.
    pub(super) fn check_waiting(&mut self, alarm: Option<Time>, now: Time) {
        let most_urgent = self.tasks.most_urgent();
        let free = self.workers.iter().any(Worker::is_free);
        let mut shared = self.phase == Phase::Broken;
        let mut much = None;
        let stops: Vec<_> = self.workers.iter().map(|worker| self.runs_doomed(worker.id)).collect();
        for (worker, stops) in self.workers.iter_mut().zip(stops) {
            let waiting = worker.waiting();
            if waiting == 0 || worker.asked.is_some() {
                worker.waits_since = None;
                shared |= worker.asked.is_some();
                let follows = worker.condemned.is_none() || worker.asked.is_some();
                assert!(follows, "{:?} is over a limit, and nothing follows", worker.id);
                continue;
            }
            let spent = worker.condemned.is_some() || stops;
            assert!(!spent, "{:?} is to be killed, and what waits is not asked back", worker.id);
            assert!(!worker.dismissed, "{:?} is to leave, and what waits is not asked back", worker.id);
            assert!(!self.cancelling, "what waits at {:?} is to be cancelled, and not asked back", worker.id);
            let first = worker.held.len() - waiting;
            let lesser =
                worker.held.range(first..).find(|sent| most_urgent.is_some_and(|most| most > sent.priority));
            assert!(lesser.is_none(), "{lesser:?} will overtake what waits with {most_urgent:?}");
            let since = *worker.waits_since.get_or_insert(now);
            self.last_waited = now;
            let limit = since.max(worker.moved) + LOOK_AFTER * 3 / 2;
            let seen = alarm.is_some_and(|alarm| alarm <= limit) && !(self.clock_struck && now >= limit);
            assert!(
                seen,
                "{:?} does not get on, and at {now:?} nobody will look before {alarm:?}",
                worker.id
            );
            if sum(worker.held.iter().skip(1)) >= STEAL_NANOS {
                much = Some(worker.id);
            }
        }
        assert!(!free || shared || much.is_none(), "somebody is free, and {much:?} has more than it needs");
    }

    /// Note who has become free, and in which order.
    pub(super) fn touch(&mut self, id: WorkerId) {
        let next = self.frees + 1;
        let Some(worker) = self.current(id) else { return };
        match (worker.is_free(), worker.freed) {
            (true, None) => {
                worker.freed = Some(next);
                self.frees = next;
            }
            (false, _) => worker.freed = None,
            (true, Some(_)) => {}
        }
    }

    pub(super) fn front(&self, id: WorkerId) -> Option<TaskId> {
        let worker = self.workers.get(id.slot as usize).filter(|worker| worker.id == id)?;
        worker.held.front().map(|sent| sent.run.task)
    }
}
