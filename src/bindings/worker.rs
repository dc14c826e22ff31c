//! `_native.Worker`: what the worker process's Python loop is built on.

use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::memory::new_bytes;
use crate::ipc::{Answer, WorkerLink};
use crate::scheduler::types::{Assignment, Attempt, TaskId};

#[pyclass(frozen, module = "disttask._native")]
pub(super) struct Worker {
    link: Mutex<WorkerLink>,
}

/// Task, attempt, whether to describe the value, the pickled call.
type Job<'py> = (u64, u32, bool, Bound<'py, PyBytes>);

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

    fn next_task<'py>(&self, py: Python<'py>) -> PyResult<Option<Job<'py>>> {
        let next = py.detach(|| self.link.lock().next_task())?;
        next.map(|job| {
            let Assignment { task, attempt } = job.assignment;
            Ok((task.0, attempt.0, job.describe, new_bytes(py, &job.payload)?))
        })
        .transpose()
    }

    fn reply(&self, py: Python<'_>, task: u64, attempt: u32, kind: &str, payload: &[u8]) -> PyResult<()> {
        let job = Assignment { task: TaskId(task), attempt: Attempt(attempt) };
        let answer = match kind {
            "value" => Answer::Value,
            "described" => Answer::Described,
            "error" => Answer::Error,
            _ => return Err(PyValueError::new_err("kind must be 'value', 'described' or 'error'")),
        };
        Ok(py.detach(|| self.link.lock().reply(job, answer, payload))?)
    }
}
