//! Turning the crank: taking what workers have answered, and sending them what there is room for.

use std::time::Duration;

use super::answer::{error_text, shown, with_note};
use super::core::Core;
use super::evidence::{note_in_words, raised_in_words};
use super::slot::Outcome;
use crate::ipc::{Answer, Order, Received};
use crate::scheduler::types::{Completion, TaskId, Time, Tries, WorkerId};

/// Seats where a submitter looks for answers: half of them are empty, mostly.
const LOOKS_PER_SUBMIT: usize = 8;

/// Whoever submits in a row looks at every so many submits. Each look at an answer that has just been written fetches a line
/// of memory from the processor that wrote it; several answers share the way.
const SUBMITS_PER_LOOK: u32 = 8;

/// ... or when the last look is so long ago: about what those submits take, and less than what a worker that is in use has
/// to do ([`crate::scheduler`] sends a short task to another one only above 50 us of work).
const LOOK_EVERY: Duration = Duration::from_micros(20);

impl Core {
    /// Turn the crank: take all answers that there are, and do what follows. Whether there was anything to do.
    pub(super) fn turn(&mut self) -> bool {
        if !self.has_news() {
            return false;
        }
        let now = self.now();
        self.look_at_all(now);
        self.run_actions(now);
        true
    }

    /// The same by the thread that sleeps on the bell: it need not wake itself.
    pub(super) fn turn_as_leader(&mut self) {
        if self.has_news() {
            let now = self.now();
            self.look_at_all(now);
            self.do_actions(now);
            self.resolved = false;
            self.tell(now);
        }
    }

    /// Whether some worker has answered, or made room for what waits for that.
    pub(super) fn has_news(&self) -> bool {
        self.seats.iter().any(|seat| {
            let link = seat.link.as_ref();
            link.is_some_and(|link| (link.has_answer() || seat.has_room_again()) && !link.is_garbled())
        })
    }

    pub(super) fn look_at_all(&mut self, now: Time) {
        for slot in 0..self.seats.len() {
            self.receive(slot, now);
        }
    }

    /// A submitter looks at a few workers only, so that a submit costs the same however many there are.
    pub(super) fn look_at_some(&mut self, now: Time) {
        self.unlooked += 1;
        if self.unlooked < SUBMITS_PER_LOOK && now.saturating_sub(self.looked) < LOOK_EVERY {
            return;
        }
        self.unlooked = 0;
        self.looked = now;
        for _ in 0..LOOKS_PER_SUBMIT.min(self.seats.len()) {
            self.next_look = (self.next_look + 1) % self.seats.len();
            self.receive(self.next_look, now);
        }
    }

    /// Take what this worker has answered.
    pub(super) fn receive(&mut self, slot: usize, now: Time) {
        let id = self.seats[slot].id;
        let mut some = false;
        while let Some(link) = self.seats[slot].link.as_mut()
            && !link.is_garbled()
            && link.has_answer()
        {
            match link.receive() {
                Ok(Some(received)) => {
                    if received.spoke {
                        let newest = self.scheduler.submitted();
                        self.seats[slot].hear(received.run.task, newest, &self.output);
                    }
                    self.answered(id, received, now);
                }
                Ok(None) => break,
                Err(error) => {
                    self.seats[slot].give_up(&error.to_string()); // the link still says what it had begun
                    break;
                }
            }
            some = true;
        }
        if some || self.seats[slot].has_room_again() {
            self.pump(slot);
        }
    }

    fn answered(&mut self, id: WorkerId, received: Received, now: Time) {
        let Received { run, answer, nanos, payload, .. } = received;
        let ran = Duration::from_nanos(nanos);
        self.ran = ran;
        let outcome = match answer {
            Answer::Value => Outcome::Value(payload),
            Answer::Values => Outcome::Values(payload, ran),
            Answer::Described => Outcome::Described(payload),
            Answer::Error | Answer::Raised => Outcome::Error(payload),
        };
        let raised = answer == Answer::Raised;
        let tries = if raised || answer == Answer::Error { self.scheduler.tries(run.task) } else { None };
        let completion = if raised {
            self.scheduler.handle_raised(id, run, Some(ran), now)
        } else {
            self.scheduler.handle_completed(id, run, Some(ran), now)
        };
        match (completion, &outcome) {
            (Completion::Final, _) => {
                self.raised += u64::from(raised || answer == Answer::Error);
                let outcome = self.with_tries(run.task, outcome, tries);
                self.resolve(run.task, outcome, now);
            }
            (Completion::Again, Outcome::Error(payload)) => {
                let error = error_text(&shown(payload));
                self.note_lost(run.task, &raised_in_words(&error.type_name, &error.message));
            }
            (Completion::Again | Completion::Stale, _) => {}
        }
    }

    /// What a task raises at last says how often it was tried, and how the other attempts ended.
    fn with_tries(&self, task: TaskId, outcome: Outcome, tries: Option<Tries>) -> Outcome {
        match (outcome, tries) {
            (Outcome::Error(payload), Some(tries)) if tries.made > 1 => {
                let note = note_in_words(tries, &self.earlier.of(task));
                Outcome::Error(with_note(payload, &note))
            }
            (outcome, _) => outcome,
        }
    }

    /// Send this worker what there was no room for, and wake it.
    pub(super) fn pump(&mut self, slot: usize) {
        while let Some(&run) = self.seats[slot].outbox.front() {
            if !self.send_now(slot, run) {
                break;
            }
            self.seats[slot].outbox.pop_front();
        }
        let starving = self.scheduler.has_ready();
        let seat = &mut self.seats[slot];
        let Some(link) = seat.link.as_mut() else { return };
        if seat.stopping && link.send(&Order::Stop) {
            seat.stopping = false;
        }
        if starving || !seat.outbox.is_empty() {
            link.call_at_half();
        } else {
            link.call_never();
        }
        link.wake();
    }
}
