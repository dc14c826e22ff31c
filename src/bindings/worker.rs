//! `_native.Worker`: what the worker process's Python loop is built on.

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::memory::new_bytes;
use crate::ipc::WorkerLink;
use crate::scheduler::types::{Assignment, Attempt, TaskId};

#[pyclass(frozen, module = "disttask._native")]
pub(super) struct Worker {
    link: Mutex<WorkerLink>,
}

#[pymethods]
impl Worker {
    #[staticmethod]
    fn attach(py: Python<'_>) -> PyResult<(Self, Bound<'_, PyBytes>)> {
        let (link, config) = py.detach(crate::worker::attach)?;
        Ok((Self { link: Mutex::new(link) }, new_bytes(py, &config)?))
    }

    fn ready(&self, hello: &[u8]) -> PyResult<()> {
        Ok(self.link.lock().ready(hello)?)
    }

    fn next_task<'py>(&self, py: Python<'py>) -> PyResult<Option<(u64, u32, Bound<'py, PyBytes>)>> {
        let next = py.detach(|| self.link.lock().next_task())?;
        next.map(|(job, payload)| Ok((job.task.0, job.attempt.0, new_bytes(py, &payload)?))).transpose()
    }

    fn reply(&self, py: Python<'_>, task: u64, attempt: u32, raised: bool, payload: &[u8]) -> PyResult<()> {
        let job = Assignment { task: TaskId(task), attempt: Attempt(attempt) };
        Ok(py.detach(|| self.link.lock().reply(job, raised, payload))?)
    }
}
