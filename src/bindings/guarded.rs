//! Functions whose exceptions may be worth another try (`disttask._options.Guarded`). It is judged here, in the worker: a class
//! cannot be told without unpickling, which the host does not do.

use pyo3::intern;
use pyo3::prelude::*;

use super::worker::Loop;

/// The stage of an exception that is worth another try.
pub(super) const AGAIN: &str = "again";

impl<'py> Loop<'py> {
    /// The function to call, and what says whether an exception is worth another try.
    pub(super) fn unwrapped(
        &self,
        function: Bound<'py, PyAny>,
    ) -> PyResult<(Bound<'py, PyAny>, Option<Bound<'py, PyAny>>)> {
        if !function.get_type().is(&self.helpers.guarded) {
            return Ok((function, None));
        }
        Ok((function.getattr(intern!(self.py, "func"))?, Some(function)))
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
}
