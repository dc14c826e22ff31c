//! Functions that are called under terms (`disttask._options.Guarded`): what exceptions are worth another try, and a soft
//! time-out. Both are the worker's business: the host does not unpickle, and so cannot tell a class, nor can it interrupt.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pyo3::intern;
use pyo3::prelude::*;

use super::worker::Loop;
use crate::ipc::SoftTimer;
use crate::scheduler::types::Assignment;

/// The stage of an exception that is worth another try.
pub(super) const AGAIN: &str = "again";

/// The main thread's task, while that has a soft time-out.
#[derive(Default)]
pub(super) struct Soft {
    timer: SoftTimer,
    task: Mutex<Option<(Py<PyAny>, Assignment)>>,
}

impl Soft {
    /// See `disttask._native.Worker.claim_soft_timeout`.
    pub(super) fn claim(&self, py: Python<'_>) -> Option<(Py<PyAny>, u64, u32)> {
        if !self.timer.claim() {
            return None;
        }
        let task = self.task.lock();
        task.as_ref().map(|(guard, run)| (guard.clone_ref(py), run.task.0, run.attempt.0))
    }
}

impl<'py> Loop<'py> {
    /// The function to call, and its terms.
    pub(super) fn unwrapped(
        &self,
        function: Bound<'py, PyAny>,
    ) -> PyResult<(Bound<'py, PyAny>, Option<Bound<'py, PyAny>>)> {
        if !function.get_type().is(&self.helpers.guarded) {
            return Ok((function, None));
        }
        Ok((function.getattr(intern!(self.py, "func"))?, Some(function)))
    }

    /// Call it, and if it takes longer than it may, have the main thread interrupted. No Python code runs between its end and
    /// that of the alarm: what comes later hits nobody.
    pub(super) fn called(
        &self,
        guard: Option<&Bound<'py, PyAny>>,
        call: impl FnOnce() -> PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let Some(guard) = guard else { return call() };
        let limit: Option<f64> = guard.getattr(intern!(self.py, "soft_timeout"))?.extract()?;
        // What is too long to express is no limit.
        let limit = limit.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let due =
            limit.zip(self.begun).and_then(|(limit, (run, since))| Some((run, since.checked_add(limit)?)));
        let Some((run, due)) = due else { return call() };
        *self.soft.task.lock() = Some((guard.clone().unbind(), run));
        self.soft.timer.arm(due)?;
        let result = call();
        self.soft.timer.disarm();
        let task = self.soft.task.lock().take();
        drop(task); // outside the lock: that may run Python code
        result
    }

    /// What the function raised, and what that means. What goes wrong in judging it is raised instead.
    pub(super) fn judged(&self, guard: Option<&Bound<'py, PyAny>>, error: PyErr) -> (&'static str, PyErr) {
        let Some(guard) = guard else { return ("run", error) };
        match guard
            .call_method1(intern!(self.py, "matches"), (error.value(self.py),))
            .and_then(|is| is.is_truthy())
        {
            Ok(true) => (AGAIN, error),
            Ok(false) => ("run", error),
            Err(broken) => ("run", broken),
        }
    }

    /// The loop takes this up now.
    pub(super) fn begin(&mut self, run: Assignment, now: Instant) {
        self.begun = Some((run, now));
    }
}
