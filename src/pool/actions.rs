//! Doing what the scheduler wants done, and telling futures how their tasks ended.

use std::sync::Arc;

use super::core::{Core, OnFinish};
use super::failure::{Ended, Failure, broken_text};
use super::history::Facts;
use super::slot::Outcome;
use crate::ipc::Outgoing;
use crate::scheduler::types::{Action, Assignment, FailReason, TaskId, WorkerId};

impl Core {
    /// Do what the scheduler wants done.
    pub(super) fn run_actions(&mut self) {
        let mut dirty: Vec<WorkerId> = Vec::new();
        while let Some(action) = self.scheduler.poll_action() {
            match action {
                Action::Spawn(id) => {
                    self.seats[id.slot as usize].reserve(id);
                    self.spawns.push_back(id);
                }
                Action::Dispatch(id, job) => {
                    self.send(id, job);
                    dirty.push(id);
                }
                Action::Stop(id) => {
                    self.seats[id.slot as usize].push(Outgoing::Stop, None);
                    dirty.push(id);
                }
                Action::Kill(id, _) => self.seats[id.slot as usize].kill(),
                Action::Fail(task, reason) => self.fail(task, reason),
                Action::Broken => {
                    let why = || broken_text(&self.executable, self.last_ended.as_ref()).into();
                    self.broken.get_or_insert_with(why);
                }
                Action::Finished => {
                    self.finished = true;
                    self.collector = None;
                }
            }
        }
        for id in dirty {
            self.flush(id);
        }
        let earlier = match (self.scheduler.poll_timeout(), self.sleeps_until) {
            (Some(due), Some(sleeping)) => due < sleeping,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if earlier || !self.spawns.is_empty() || self.finished {
            self.waker.ring();
        }
    }

    fn send(&mut self, id: WorkerId, job: Assignment) {
        let now = self.now();
        let entry = self.entries.get_mut(&job.task).expect("a task that is dispatched is not resolved");
        entry.dispatched = Some((now, id));
        let payload = Arc::clone(&entry.payload);
        let frame = if entry.describe {
            Outgoing::TaskToDescribe(job, payload)
        } else {
            Outgoing::Task(job, payload)
        };
        self.seats[id.slot as usize].push(frame, Some(job));
    }

    fn fail(&mut self, task: TaskId, reason: FailReason) {
        let outcome = match reason {
            FailReason::Cancelled => Outcome::Cancelled,
            FailReason::Crashed { worker, .. } | FailReason::TimedOut { worker, .. } => {
                let ended = self.seats[worker.slot as usize].ended.as_ref();
                let ended = ended.filter(|(id, _)| *id == worker).map(|(_, ended)| ended);
                self.failure(task, reason, ended)
            }
            FailReason::PoolBroken => {
                let why = self
                    .broken
                    .get_or_insert_with(|| broken_text(&self.executable, self.last_ended.as_ref()).into());
                let name = self.entries.get(&task).map_or("", |entry| &entry.name);
                Outcome::Failed(Arc::new(Failure::broken(why, task.0, name)))
            }
            FailReason::PoolShutdown => self.failure(task, reason, None),
        };
        self.resolve(task, outcome);
    }

    fn failure(&self, task: TaskId, reason: FailReason, ended: Option<&Ended>) -> Outcome {
        let name = self.entries.get(&task).map_or("", |entry| &entry.name);
        Outcome::Failed(Arc::new(Failure::new(reason, task.0, name, ended)))
    }

    pub(super) fn resolve(&mut self, task: TaskId, outcome: Outcome) {
        // Only after `abandon`, which has resolved everything, can the entry be missing.
        let Some(entry) = self.entries.remove(&task) else { return };
        let now = self.now();
        self.results.finish(task, outcome.size(), now);
        let pid = entry.dispatched.and_then(|(_, worker)| self.seats[worker.slot as usize].pid_of(worker));
        let facts = Facts {
            task,
            name: entry.name,
            submitted: entry.submitted,
            dispatched: entry.dispatched.map(|(at, _)| at),
            ended: now,
            pid,
        };
        self.history.record(facts, &outcome);
        if entry.slot.resolve(outcome)
            && let Some(collector) = &self.collector
        {
            // Unbounded; the receiver lives as long as the pool, so this fails only when nobody is left to care.
            let _ = collector.send(task);
        }
        self.on_finish.retain(|OnFinish(call)| call());
    }

    /// Our own bug has stopped the driver: nobody will run anything any more, so say so to everybody.
    pub(super) fn abandon(&mut self, why: &str) {
        let why: Arc<str> = why.into();
        self.broken = Some(Arc::clone(&why));
        let entries = std::mem::take(&mut self.entries);
        for (task, entry) in entries {
            let failure = Failure::broken(&why, task.0, &entry.name);
            let outcome = Outcome::Failed(Arc::new(failure));
            self.note_abandoned(task, &entry, &outcome);
            if !entry.slot.is_resolved()
                && entry.slot.resolve(outcome)
                && let Some(collector) = &self.collector
            {
                let _ = collector.send(task);
            }
        }
        for seat in &mut self.seats {
            seat.kill();
        }
        self.collector = None;
        self.finished = true;
        self.wake_abandoned();
    }
}
