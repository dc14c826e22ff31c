//! Tasks come, and are cancelled.

use std::sync::Arc;

use super::core::{Core, Entry};
use super::needs::awaited;
use super::slot::{Outcome, Slot};
use super::work::{Keep, Work};
use crate::ipc::Form;
use crate::scheduler::SubmitError;
use crate::scheduler::types::{Cancel, TaskId, TaskSpec, Time};

impl Core {
    pub(super) fn submit(
        &mut self,
        work: Work,
        name: &str,
        mut spec: TaskSpec,
        keep: Keep,
    ) -> Result<Arc<Slot>, SubmitError> {
        if self.finished && self.broken.is_none() {
            return Err(SubmitError::ShutDown);
        }
        let now = self.now();
        let (name, function) = self.names.get(name, work.form);
        spec.function = function;
        let awaited = if work.needs.is_empty() { Vec::new() } else { awaited(&work.needs) };
        let id = self.scheduler.submit_after(spec, &awaited, now)?;
        let slot = Slot::new(id, keep != Keep::ForTheFuture);
        if keep != Keep::ForTheFuture {
            self.results.insert(Arc::clone(&slot));
        }
        self.enter(work, name, &slot, spec, now);
        if !awaited.is_empty() {
            self.tell_of_failed(&awaited, now);
        }
        self.look_at_some(now);
        self.run_actions(now);
        Ok(slot)
    }

    /// The scheduler has accepted it.
    pub(super) fn enter(&mut self, work: Work, name: Arc<str>, slot: &Arc<Slot>, spec: TaskSpec, now: Time) {
        let again = spec.retries > 0;
        let slot = Arc::clone(slot);
        self.waiting_bytes += work.payload.len();
        let id = slot.id();
        self.entries.insert(id, Entry { work, name, slot, again, submitted: now, dispatched: None });
    }

    pub(super) fn usual(&mut self, name: &str, form: Form) -> Option<u64> {
        let (_, function) = self.names.get(name, form);
        self.scheduler.usual(function)
    }

    pub(super) fn cancel(&mut self, id: TaskId) -> bool {
        let now = self.now();
        let cancelled = match self.scheduler.cancel(id, now) {
            Cancel::Cancelled => true,
            Cancel::TooLate => false,
            Cancel::Sent(worker, run) => {
                let back = self.seat(worker).is_some_and(|seat| seat.retract(run));
                if back {
                    self.scheduler.cancel_taken_back(worker, run, now);
                }
                back
            }
        };
        if cancelled {
            self.resolve(id, Outcome::Cancelled, now);
        }
        self.run_actions(now);
        cancelled
    }
}
