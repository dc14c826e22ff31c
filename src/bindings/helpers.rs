//! The Python functions that a worker's loop calls.

use pyo3::intern;
use pyo3::prelude::*;

/// What `disttask._worker` does for the loop.
pub(super) struct Helpers<'py> {
    /// The pickle of a call, as function, arguments and keyword arguments.
    pub(super) load: Bound<'py, PyAny>,
    /// A value's pickle, or its description.
    pub(super) dump: Bound<'py, PyAny>,
    pub(super) describe: Bound<'py, PyAny>,
    /// What became of the items of a chunk: values, errors by index.
    pub(super) dump_chunk: Bound<'py, PyAny>,
    /// An exception's description: stage, exception, value.
    pub(super) error: Bound<'py, PyAny>,
    /// What stands for a function whose exceptions may be worth another try.
    pub(super) guarded: Bound<'py, PyAny>,
    /// A forked child has come back into the loop.
    pub(super) leave_child: Bound<'py, PyAny>,
}

impl<'py> Helpers<'py> {
    /// As the module has them.
    pub(super) fn of(module: &Bound<'py, PyAny>) -> PyResult<Self> {
        let py = module.py();
        Ok(Self {
            load: module.getattr(intern!(py, "load"))?,
            dump: module.getattr(intern!(py, "dump"))?,
            describe: module.getattr(intern!(py, "describe"))?,
            dump_chunk: module.getattr(intern!(py, "dump_chunk"))?,
            error: module.getattr(intern!(py, "error"))?,
            guarded: module.getattr(intern!(py, "Guarded"))?,
            leave_child: module.getattr(intern!(py, "leave_child"))?,
        })
    }
}
