//! What the oracle checks: each action as it comes, and after each event what is left undone, and what the getters say.

use super::standby::Standby;
use super::task::Place;
use super::worker::{Life, Worker};
use super::{Oracle, Phase};
use crate::scheduler::retry::FREE_RETURNS;
use crate::scheduler::types::{Action, FailReason, Time};
use crate::scheduler::{LOOK_AFTER, Scheduler, Totals};

impl Oracle {
    /// The scheduler wants this done.
    pub(in crate::simulation) fn see(&mut self, action: Action, now: Time) {
        match action {
            Action::Dispatch(id, run) => return self.see_dispatch(id, run, now),
            Action::Retract(id, count) => return self.see_retract(id, count, now),
            _ => {}
        }
        let Some(index) = self.owed.iter().position(|&owed| owed == action) else {
            panic!("{action:?} comes uncalled for: {}", self.objection(action, now));
        };
        self.owed.swap_remove(index);
    }

    /// In words, why an action was not owed.
    fn objection(&mut self, action: Action, now: Time) -> String {
        match action {
            Action::Fail(id, reason) => {
                let task = *self.tasks.at(id);
                let blamed = matches!(
                    reason,
                    FailReason::Crashed { .. } | FailReason::TimedOut { .. } | FailReason::OverMemory { .. }
                );
                match task.place {
                    _ if blamed && task.begun == 0 && task.returns < FREE_RETURNS => {
                        "it was never begun".into()
                    }
                    Place::Ended => "it was resolved before".into(),
                    place @ (Place::Needs | Place::Waiting { .. } | Place::Backoff(_) | Place::On(_)) => {
                        format!("{place:?}")
                    }
                }
            }
            Action::Kill(id, why) => {
                let worker = self.current(id);
                format!("at {now:?} nothing demands {why:?} of {worker:?}")
            }
            Action::Finished if self.all_gone => "it was said before".into(),
            Action::Broken if self.phase == Phase::Broken => "it was said before".into(),
            _ => {
                format!("{:?}, {:?}", self.phase, self.workers)
            }
        }
    }

    /// All actions are out: is every promise kept, and do the getters tell the truth?
    pub(in crate::simulation) fn settle(&mut self, scheduler: &Scheduler, now: Time) {
        let alarm = scheduler.poll_timeout();
        self.tasks.end_backoffs(|until| alarm.is_none_or(|alarm| alarm > until));
        assert!(self.owed.is_empty(), "owed and not done: {:?}", self.owed);
        let free = self.workers.iter().find(|worker| worker.is_free());
        if let Some(worker) = free {
            assert!(self.tasks.most_urgent().is_none(), "a task waits and {:?} is free", worker.id);
        }
        self.check_waiting(alarm, now);
        self.check_alarm(alarm);
        self.check_tasks(scheduler);
        self.check_queue(scheduler);
        assert_eq!(scheduler.submitted(), self.tasks.submitted(), "submitted tasks");
        assert_eq!(scheduler.totals(), self.totals, "totals");
        assert_eq!(scheduler.is_accepting(), self.phase == Phase::Open, "is_accepting");
        assert_eq!(scheduler.workers().count(), self.workers.len(), "places");
        self.check_strength();
        for ((id, phase, done), worker) in scheduler.workers().zip(&self.workers) {
            let told = (id, phase, done);
            let known = (worker.id, worker.phase(), worker.done);
            assert!(told == known, "workers() says {told:?}, and it is {known:?}");
        }
    }

    fn check_tasks(&mut self, scheduler: &Scheduler) {
        let (mut queued, mut running) = (0, 0);
        for (id, task) in self.tasks.live() {
            let runs = match task.place {
                Place::Needs | Place::Waiting { .. } | Place::Backoff(_) => false,
                Place::On(worker) => self.front(worker) == Some(id),
                Place::Ended => unreachable!("not live"),
            };
            queued += usize::from(!runs);
            running += usize::from(runs);
            let told = scheduler.is_running(id);
            assert!(told == Some(runs), "is_running({id:?}) says {told:?}, and it is {runs:?}");
        }
        for id in self.ended.drain(..) {
            assert_eq!(scheduler.is_running(id), None, "is_running({id:?}), which has ended");
        }
        assert_eq!((scheduler.queued(), scheduler.running()), (queued, running), "queued and running tasks");
    }

    /// What is next: all that was sent ahead, and then what no worker has, the most urgent first.
    fn check_queue(&mut self, scheduler: &Scheduler) {
        self.queue = scheduler.next_in_queue(usize::MAX).collect();
        let mut ahead = self.workers.iter().map(|worker| worker.held.len().saturating_sub(1)).sum::<usize>();
        let mut last = i32::MAX;
        let mut seen = 0;
        for &id in &self.queue {
            let task =
                self.tasks.get(id).unwrap_or_else(|| panic!("{id:?} is next, and was never submitted"));
            let waits = match task.place {
                Place::On(worker) => self.front(worker) != Some(id) && ahead > 0,
                // The end of a backoff is the scheduler's to choose.
                Place::Waiting { .. } | Place::Backoff(_) => ahead == 0 && task.spec.priority <= last,
                Place::Needs | Place::Ended => false,
            };
            assert!(waits, "{id:?} is said to be next, and is {:?}", task.place);
            last = if ahead > 0 { i32::MAX } else { task.spec.priority };
            ahead = ahead.saturating_sub(1);
            seen += usize::from(task.waits());
        }
        let waiting = self.tasks.live().filter(|(_, task)| task.waits()).count();
        assert_eq!((ahead, seen), (0, waiting), "sent ahead and never named; waiting and named");
    }

    /// Somebody must look at the clock when the next limit is reached, and not before, but for two things: a backoff is
    /// jittered, and may end earlier than is known here; and where something has waited at a worker, it is looked
    /// whether that gets on ([`Self::check_waiting`] asks for it; that it was called off is not asked for).
    fn check_alarm(&self, alarm: Option<Time>) {
        let limits = self.workers.iter().filter_map(Worker::limit);
        let standbys = self.workers.iter().filter_map(|worker| worker.standby.as_ref());
        let next = limits.chain(standbys.flat_map(Standby::limits)).chain(self.stop_limit).min();
        if alarm != next {
            let jittered = self.tasks.live().any(|(_, task)| matches!(task.place, Place::Backoff(_)));
            let looks = alarm.is_some_and(|alarm| alarm <= self.last_waited + LOOK_AFTER);
            let early = next.is_none_or(|next| alarm.is_some_and(|alarm| alarm < next));
            assert!(early && (jittered || looks), "poll_timeout is {alarm:?}, and the next limit {next:?}");
        }
    }

    /// The world is quiet and all time has passed: nothing may be left undone.
    pub(in crate::simulation) fn check_quiet(&self, scheduler: &Scheduler) {
        assert!(self.tasks.all_ended(), "lost: {:?}", self.tasks.ids(|_| true));
        for worker in &self.workers {
            assert!(
                self.all_gone || worker.life == Life::Gone || worker.is_free(),
                "{worker:?} was not replaced"
            );
            assert!(worker.standby.is_none(), "{worker:?} has a standby that nobody needs");
        }
        let free = self.workers.iter().filter(|worker| worker.is_free()).count();
        assert!(self.all_gone || free == self.wanted, "{free} workers where {} are wanted", self.wanted);
        let Totals { completed, failed, cancelled, withdrawn, .. } = scheduler.totals();
        assert_eq!(completed + failed + cancelled + withdrawn, scheduler.submitted(), "every task ends once");
    }

    /// The pool was shut down, too.
    pub(in crate::simulation) fn check_end(&self, scheduler: &Scheduler) {
        self.check_quiet(scheduler);
        assert!(self.all_gone, "not all workers are gone: {:?}", self.workers);
    }
}
