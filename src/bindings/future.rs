//! `_native.Future`: the base class of `disttask.Future` that holds the task's slot.

use std::sync::{Arc, Weak};

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::memory::{copied, new_bytes};
use super::pool::Pool;
use super::wait::wait_interruptibly;
use crate::pool::{Ident, Keep, Outcome, Shared, Slot, value_pickle};
use crate::scheduler::types::TaskSpec;

#[pyclass(subclass, frozen, module = "disttask._native")]
pub(super) struct Future {
    slot: Arc<Slot>,
    home: Option<Home>,
}

/// Where the task was submitted. A future that is kept does not keep the pool's descriptors open.
struct Home {
    pool: Weak<Shared>,
    ident: Arc<Ident>,
}

impl Future {
    pub(super) fn attached(pool: &Arc<Shared>, slot: Arc<Slot>) -> Self {
        Self { slot, home: Some(Home { pool: Arc::downgrade(pool), ident: pool.ident() }) }
    }

    /// The slot, unless this process is a fork of the one that it belongs to: its lock may be held for ever there.
    fn slot(&self) -> PyResult<&Slot> {
        if let Some(home) = &self.home {
            home.ident.check_owner()?;
        }
        Ok(&self.slot)
    }

    fn pool(&self) -> Option<Arc<Shared>> {
        self.home.as_ref()?.pool.upgrade()
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
            return Ok(Self { slot: Slot::detached(), home: None });
        };
        let timeout = timeout.and_then(|seconds| std::time::Duration::try_from_secs_f64(seconds).ok());
        let spec = TaskSpec { priority, retries, crash_limit: None, timeout };
        let keep = if retain { Keep::ForItsId } else { Keep::ForTheFuture };
        let slot = pool.shared.submit(copied(payload)?, name, spec, keep)?;
        Ok(Self::attached(&pool.shared, slot))
    }

    #[getter]
    fn _seq(&self) -> u64 {
        self.slot.id().0
    }

    #[getter]
    fn _task_id(&self) -> Option<String> {
        self.home.as_ref().map(|home| home.ident.id_text(self.slot.id()))
    }

    #[getter]
    fn _pool_id(&self) -> u64 {
        self.home.as_ref().map_or(0, |home| home.ident.id)
    }

    /// How it ended, without the data.
    fn _kind(&self) -> PyResult<Option<&'static str>> {
        Ok(self.slot()?.kind())
    }

    fn _is_observed(&self) -> bool {
        self.slot.is_observed()
    }

    fn _is_resolved(&self) -> PyResult<bool> {
        Ok(self.slot()?.is_resolved())
    }

    fn _is_running(&self) -> PyResult<bool> {
        let slot = self.slot()?;
        Ok(!slot.is_resolved() && self.pool().is_some_and(|pool| pool.is_running(slot.id())))
    }

    fn _observe(&self) -> PyResult<bool> {
        Ok(self.slot()?.observe())
    }

    fn _cancel(&self) -> PyResult<bool> {
        let slot = self.slot()?;
        match self.pool() {
            Some(pool) if !slot.is_resolved() => Ok(pool.cancel(slot.id())?),
            Some(_) | None => Ok(false),
        }
    }

    fn _release(&self) -> PyResult<()> {
        self.slot()?.release();
        Ok(())
    }

    #[pyo3(signature = (timeout=None))]
    fn _wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let slot = self.slot()?;
        if slot.is_resolved() {
            return Ok(true);
        }
        let deadline = timeout.and_then(Shared::deadline);
        Ok(wait_interruptibly(py, deadline, |slice| slot.wait(slice).then_some(()))?.is_some())
    }

    fn _outcome<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let Some(outcome) = self.slot()?.outcome() else { return Ok(None) };
        let data = match &outcome {
            Outcome::Value(bytes) | Outcome::Error(bytes) => new_bytes(py, bytes)?.into_any(),
            Outcome::Described(bytes) => new_bytes(py, value_pickle(bytes))?.into_any(),
            Outcome::Failed(failure) => pythonize::pythonize(py, &**failure)?,
            Outcome::Cancelled | Outcome::Released => py.None().into_bound(py),
        };
        Ok(Some((outcome.kind(), data).into_pyobject(py)?))
    }
}
