//! `_native.Future`: the base class of `disttask.Future` that holds the task's slot.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use super::pool::Pool;
use super::wait::wait_interruptibly;
use crate::pool::{Keep, Outcome, Shared, Slot, value_pickle};
use crate::scheduler::types::TaskSpec;

#[pyclass(subclass, frozen, module = "disttask._native")]
pub(super) struct Future {
    slot: Arc<Slot>,
    pool: Option<Arc<Shared>>,
}

impl Future {
    pub(super) fn attached(pool: &Arc<Shared>, slot: Arc<Slot>) -> Self {
        Self { slot, pool: Some(Arc::clone(pool)) }
    }
}

#[pymethods]
impl Future {
    #[new]
    #[pyo3(signature = (pool=None, payload=None, name="", priority=0, retries=0, timeout=None, retain=false))]
    fn new(
        pool: Option<&Pool>,
        payload: Option<&[u8]>,
        name: &str,
        priority: i32,
        retries: u32,
        timeout: Option<f64>,
        retain: bool,
    ) -> PyResult<Self> {
        let (Some(pool), Some(payload)) = (pool, payload) else {
            return Ok(Self { slot: Slot::detached(), pool: None });
        };
        let timeout = timeout.and_then(|seconds| std::time::Duration::try_from_secs_f64(seconds).ok());
        let spec = TaskSpec { priority, retries, crash_limit: None, timeout };
        let slot = pool.shared.submit(
            Arc::from(payload),
            name,
            spec,
            if retain { Keep::ForItsId } else { Keep::ForTheFuture },
        )?;
        Ok(Self::attached(&pool.shared, slot))
    }

    #[getter]
    fn _seq(&self) -> u64 {
        self.slot.id().0
    }

    #[getter]
    fn _task_id(&self) -> Option<String> {
        self.pool.as_ref().map(|pool| pool.id_text(self.slot.id()))
    }

    #[getter]
    fn _pool_id(&self) -> u64 {
        self.pool.as_ref().map_or(0, |pool| pool.id())
    }

    /// How it ended, without the data.
    fn _kind(&self) -> Option<&'static str> {
        self.slot.kind()
    }

    fn _is_observed(&self) -> bool {
        self.slot.is_observed()
    }

    fn _is_resolved(&self) -> bool {
        self.slot.is_resolved()
    }

    fn _is_running(&self) -> bool {
        self.pool.as_ref().is_some_and(|pool| pool.is_running(self.slot.id()))
    }

    fn _observe(&self) -> bool {
        self.slot.observe()
    }

    fn _cancel(&self) -> PyResult<bool> {
        match &self.pool {
            Some(pool) => Ok(pool.cancel(self.slot.id())?),
            None => Ok(false),
        }
    }

    fn _release(&self) {
        self.slot.release();
    }

    #[pyo3(signature = (timeout=None))]
    fn _wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        if self.slot.is_resolved() {
            return Ok(true);
        }
        if let Some(pool) = &self.pool {
            pool.check_owner()?;
        }
        let deadline = timeout.and_then(Shared::deadline);
        let slot = &self.slot;
        Ok(wait_interruptibly(py, deadline, |slice| slot.wait(slice).then_some(()))?.is_some())
    }

    fn _outcome<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let Some(outcome) = self.slot.outcome() else { return Ok(None) };
        let data = match &outcome {
            Outcome::Value(bytes) | Outcome::Error(bytes) => PyBytes::new(py, bytes).into_any(),
            Outcome::Described(bytes) => PyBytes::new(py, value_pickle(bytes)).into_any(),
            Outcome::Failed(failure) => pythonize::pythonize(py, &**failure)?,
            Outcome::Cancelled | Outcome::Released => py.None().into_bound(py),
        };
        Ok(Some((outcome.kind(), data).into_pyobject(py)?))
    }
}
