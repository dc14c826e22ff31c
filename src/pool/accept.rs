//! Tasks come.

use std::sync::Arc;

use super::core::{Core, Entry};
use super::needs::awaited;
use super::slot::Slot;
use super::work::{Keep, Manner, Work, weight};
use crate::ipc::Form;
use crate::scheduler::SubmitError;
use crate::scheduler::types::{TaskSpec, Time};

impl Core {
    pub(super) fn submit(
        &mut self,
        work: Work,
        name: &str,
        mut spec: TaskSpec,
        keep: Keep,
        manner: &Manner,
    ) -> Result<Arc<Slot>, SubmitError> {
        if self.finished && self.broken.is_none() {
            return Err(SubmitError::ShutDown);
        }
        let now = self.now();
        // First: who has done what he had takes this one as well, and nobody is woken for it; and what this one needs may be
        // there after it.
        self.look_at_some(now);
        let (name, function) = self.names.get(name, work.form);
        spec.function = function;
        let awaited = if work.needs.is_empty() { Vec::new() } else { awaited(&work.needs) };
        // Where it is refused, whoever waits for what the look has found is told all the same.
        let accepted = self.scheduler.submit_after(spec, &awaited, now);
        let id = accepted.inspect_err(|_| self.run_actions(now))?;
        let slot = Slot::new(id, keep != Keep::ForTheFuture, manner.kill_on_cancel);
        if keep != Keep::ForTheFuture {
            self.results.insert(Arc::clone(&slot));
        }
        let name = manner.name.clone().unwrap_or(name);
        self.enter(work, name, manner.tags.clone(), &slot, spec, now);
        if !awaited.is_empty() {
            self.tell_of_failed(&awaited, now);
        }
        self.run_actions(now);
        Ok(slot)
    }

    /// The scheduler has accepted it.
    pub(super) fn enter(
        &mut self,
        work: Work,
        name: Arc<str>,
        tags: Option<Arc<Vec<String>>>,
        slot: &Arc<Slot>,
        spec: TaskSpec,
        now: Time,
    ) {
        let (again, limited) = (spec.retries > 0, spec.max_memory.is_some());
        let slot = Arc::clone(slot);
        self.waiting_bytes += weight(&work, &name, tags.as_ref());
        let id = slot.id();
        self.entries
            .insert(id, Entry { work, name, tags, slot, again, limited, submitted: now, dispatched: None });
    }

    pub(super) fn usual(&mut self, name: &str, form: Form) -> Option<u64> {
        let (_, function) = self.names.get(name, form);
        self.scheduler.usual(function)
    }
}
