//! Doing what the scheduler wants done, and telling futures how their tasks ended.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::core::{Core, OnFinish};
use super::failure::{Ended, Failure, broken_text};
use super::history::Facts;
use super::seat::{SEATS_PER_SLOT, Seat};
use super::slot::Outcome;
use super::work::{tags_of, weight};
use crate::ipc::{Form, Order};
use crate::scheduler::types::{Action, Assignment, FailReason, TaskId, Time, WorkerId};

impl Core {
    /// Do what the scheduler wants done, and tell whom that concerns.
    pub(super) fn run_actions(&mut self, now: Time) {
        self.do_actions(now);
        self.tell(now);
    }

    /// Do what the scheduler wants done. [`Self::tell`] is to follow.
    pub(super) fn do_actions(&mut self, now: Time) {
        while let Some(action) = self.scheduler.poll_action() {
            match action {
                Action::Spawn(id) => {
                    let seats = SEATS_PER_SLOT * (id.slot as usize + 1);
                    if self.seats.len() < seats {
                        self.seats.resize_with(seats, Seat::default);
                    }
                    let place = self.vacant_place(id.slot);
                    self.seats[place].reserve(id);
                    self.spawns.push_back(id);
                }
                Action::Dispatch(id, job) => self.send(id, job, now),
                Action::Retract(id, count) => {
                    let back = self.seat(id).map_or(0, |seat| seat.retract_last(count));
                    self.scheduler.handle_retracted(id, back, now);
                }
                Action::Stop(id) => {
                    let place = self.place(id);
                    self.seats[place].stopping = true;
                    self.touch(place);
                }
                Action::Kill(id, why) => {
                    let place = self.place(id);
                    let seat = &mut self.seats[place];
                    seat.killed = Some(why);
                    if self.gentle_until.is_some() { seat.terminate() } else { seat.kill() }
                }
                Action::Fail(task, reason) => self.fail(task, reason, now),
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
        while let Some(slot) = self.dirty.pop() {
            self.pump(slot);
        }
    }

    /// Whom this concerns: a thread that sleeps while its result is here, the driver if it must look earlier.
    pub(super) fn tell(&mut self, now: Time) {
        if std::mem::take(&mut self.resolved) {
            self.bell.wake();
        }
        let earlier = match (self.next_due(), self.sleeps_until) {
            (Some(due), Some(sleeping)) => due < sleeping,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if earlier || !self.spawns.is_empty() || self.finished {
            self.sleeps_until = Some(now); // once is enough
            self.waker.ring();
        }
    }

    /// This worker is to be woken, and told when to call.
    fn touch(&mut self, place: usize) {
        if self.dirty.last() != Some(&place) {
            self.dirty.push(place);
        }
    }

    fn send(&mut self, id: WorkerId, job: Assignment, now: Time) {
        let entry = self.entries.get_mut(job.task);
        let limited = entry.is_some_and(|entry| {
            entry.dispatched = Some((now, id));
            entry.limited
        });
        let slot = self.place(id);
        if limited {
            self.watch_memory(slot, job, now);
        }
        if !self.seats[slot].outbox.is_empty() || !self.send_now(slot, job) {
            self.seats[slot].outbox.push_back(job);
        }
        self.touch(slot);
    }

    /// Put a dispatch into the worker's ring. `false`: there is no room.
    pub(super) fn send_now(&mut self, slot: usize, run: Assignment) -> bool {
        let Some(link) = self.seats[slot].link.as_mut() else { return true }; // its exit tells the rest
        let Some(entry) = self.entries.get(run.task) else { return true };
        if !entry.work.needs.iter().all(|need| link.give(&need.input)) {
            return false;
        }
        let work = &entry.work;
        let order = match (&work.code, work.form) {
            (Some(code), form) => Order::Call { run, form, code, payload: &work.payload, again: entry.again },
            (None, form) => Order::Whole {
                run,
                describe: form == Form::ToDescribe,
                payload: &work.payload,
                again: entry.again,
            },
        };
        link.send(&order)
    }

    pub(super) fn fail(&mut self, task: TaskId, reason: FailReason, now: Time) {
        let outcome = match reason {
            FailReason::Cancelled => Outcome::Cancelled,
            FailReason::DependencyFailed(of) => self.unmet(task, of),
            FailReason::Crashed { worker, .. }
            | FailReason::TimedOut { worker, .. }
            | FailReason::OverMemory { worker, .. } => {
                let ended = self.ended_of(worker);
                self.failure(task, reason, ended)
            }
            FailReason::PoolBroken => {
                let why = self
                    .broken
                    .get_or_insert_with(|| broken_text(&self.executable, self.last_ended.as_ref()).into());
                let name = self.entries.get(task).map_or("", |entry| &entry.name);
                Outcome::Failed(Arc::new(Failure::broken(why, task.0, name)))
            }
            FailReason::PoolShutdown => self.failure(task, reason, None),
        };
        self.resolve(task, outcome, now);
    }

    fn failure(&self, task: TaskId, reason: FailReason, ended: Option<&Ended>) -> Outcome {
        let entry = self.entries.get(task);
        let name = entry.map_or("", |entry| &entry.name);
        let mut failure = Failure::new(reason, task.0, name, ended, self.earlier.of(task));
        failure.tags = entry.map(|entry| tags_of(entry.tags.as_ref())).unwrap_or_default();
        if entry.is_none_or(|entry| entry.work.form != Form::Chunk) {
            failure.item = None; // the counter is of an earlier task
        }
        Outcome::Failed(Arc::new(failure))
    }

    pub(super) fn resolve(&mut self, task: TaskId, outcome: Outcome, now: Time) {
        // Only after `abandon`, which has resolved everything, can the entry be missing.
        let Some(entry) = self.entries.remove(task) else { return };
        self.earlier.forget(task);
        self.waiting_bytes -= weight(&entry.work, &entry.name, entry.tags.as_ref());
        self.resolved = true;
        if entry.slot.is_retained() {
            self.results.finish(task, outcome.size(), now);
        }
        let pid = entry.dispatched.and_then(|(_, worker)| self.pid_of(worker));
        let facts = Facts {
            task,
            name: entry.name,
            tags: entry.tags,
            submitted: entry.submitted,
            dispatched: entry.dispatched.map(|(at, _)| at),
            ended: now,
            pid,
        };
        self.history.record(facts, &outcome);
        let has_value = matches!(outcome, Outcome::Value(_));
        if entry.slot.resolve(outcome) {
            self.announce(task);
        }
        self.tell_of_end(task, has_value, now);
        self.tell_submitter(task);
        self.call_hooks();
    }

    /// Tell whoever wants to know of every ending.
    pub(super) fn call_hooks(&mut self) {
        let before = self.on_finish.len();
        self.on_finish.retain(|OnFinish(call)| call());
        for _ in self.on_finish.len()..before {
            self.attention.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Somebody has looked at this future in ways that only Python can serve.
    fn announce(&self, task: TaskId) {
        self.attention.fetch_sub(1, Ordering::SeqCst);
        if let Some(collector) = &self.collector {
            // Unbounded; the receiver lives as long as the pool, so this fails only when nobody is left to care.
            let _ = collector.send(task);
        }
    }

    /// Our own bug has stopped the driver: nobody will run anything any more, so say so to everybody.
    pub(super) fn abandon(&mut self, why: &str) {
        let why: Arc<str> = why.into();
        self.broken = Some(Arc::clone(&why));
        for task in self.entries.ids() {
            let Some(entry) = self.entries.remove(task) else { continue };
            let failure = Failure::broken(&why, task.0, &entry.name);
            let outcome = Outcome::Failed(Arc::new(failure));
            self.note_abandoned(task, &entry, &outcome);
            if !entry.slot.is_resolved() && entry.slot.resolve(outcome) {
                self.announce(task);
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
