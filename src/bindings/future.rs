//! `_native.Future`: the base class of `disttask.Future` that holds the task's slot.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use pyo3::exceptions::{PyTimeoutError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::input::Input;
use super::memory::new_bytes;
use super::wait::wait_interruptibly;
use super::{buffer, codec, numbers};
use crate::ipc::Stream;
use crate::pool::{
    Ident, Outcome, SPIN_WITH_GIL, STACK_LOOKS, Shared, Slot, StackLook, dropped_notice, value_pickle,
};

#[pyclass(subclass, frozen, module = "disttask._native")]
pub(super) struct Future {
    task: OnceLock<(Arc<Slot>, Arc<Home>)>,
    loaded: OnceLock<Loaded>,
}

/// What the task returned or raised, once somebody has asked for it: every call returns the same object.
struct Loaded {
    value: Py<PyAny>,
    exception: Option<Py<PyAny>>,
}

/// Where tasks were submitted. A future that is kept does not keep the pool's descriptors open.
pub(super) struct Home {
    pool: Weak<Shared>,
    ident: Arc<Ident>,
}

impl Home {
    pub(super) fn new(pool: &Arc<Shared>) -> Arc<Self> {
        Arc::new(Self { pool: Arc::downgrade(pool), ident: pool.ident() })
    }

    pub(super) fn ident(&self) -> &Ident {
        &self.ident
    }

    /// `None`: it is gone, and all its tasks have ended.
    pub(super) fn pool(&self) -> PyResult<Option<Arc<Shared>>> {
        self.ident.check_owner()?;
        Ok(self.pool.upgrade())
    }
}

impl Future {
    pub(super) fn attached(slot: Arc<Slot>, home: &Arc<Home>) -> Self {
        Self { task: OnceLock::from((slot, Arc::clone(home))), loaded: OnceLock::new() }
    }

    /// Of a future that was made without a task.
    pub(super) fn attach(&self, slot: Arc<Slot>, home: Arc<Home>) {
        let _ = self.task.set((slot, home));
    }

    /// The slot, unless this process is a fork of the one that it belongs to: its lock may be held for ever there.
    /// `None`: there is no task behind this future.
    fn slot(&self) -> PyResult<Option<&Slot>> {
        let Some((slot, home)) = self.task.get() else { return Ok(None) };
        home.ident.check_owner()?;
        Ok(Some(slot))
    }

    fn pool(&self) -> Option<Arc<Shared>> {
        self.task.get()?.1.pool.upgrade()
    }

    /// Whether the pool has output that nobody has shown yet. One load.
    fn has_output(&self) -> bool {
        self.task.get().is_some_and(|(_, home)| home.ident.output.is_pending())
    }

    /// Wait until it is resolved. `false`: the time is over.
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let Some(slot) = self.slot()? else { return Ok(true) };
        if slot.is_resolved() {
            return Ok(true);
        }
        let pool = self.pool();
        if timeout.is_none_or(|timeout| timeout > 0.0)
            && pool.as_ref().is_some_and(|pool| pool.spin(slot, SPIN_WITH_GIL))
        {
            return Ok(true);
        }
        let deadline = timeout.and_then(Shared::deadline);
        let wait = |slice| match &pool {
            Some(pool) => pool.wait(slot, slice),
            None => slot.wait(slice),
        };
        Ok(wait_interruptibly(py, deadline, |slice| wait(slice).then_some(()))?.is_some())
    }

    fn kept<'py>(&self, py: Python<'py>) -> Option<(Bound<'py, PyAny>, Option<Bound<'py, PyAny>>)> {
        let Loaded { value, exception } = self.loaded.get()?;
        Some((value.bind(py).clone(), exception.as_ref().map(|exception| exception.bind(py).clone())))
    }

    /// The value, where it is one of the plainest and nobody needs to be told. Python does the rest.
    fn plain_value<'py>(&self, py: Python<'py>, slot: &Slot) -> Option<Bound<'py, PyAny>> {
        if slot.is_observed() {
            return None;
        }
        // Copied out of the slot's lock: making an object may run the garbage collector, and so anybody's code.
        let bytes = slot.with_outcome(|outcome| match outcome {
            Some(Outcome::Value(payload)) => payload.as_small().cloned(),
            _ => None,
        })?;
        let value = codec::decode(py, &bytes)?;
        let loaded = Loaded { value: value.clone().unbind(), exception: None };
        let _ = self.loaded.set(loaded);
        slot.release();
        Some(value)
    }
}

#[pymethods]
impl Future {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { task: OnceLock::new(), loaded: OnceLock::new() }
    }

    #[expect(clippy::needless_pass_by_value, reason = "the signature that pyo3 calls")]
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(loaded) = self.loaded.get() {
            visit.call(&loaded.value)?;
            visit.call(&loaded.exception)?;
        }
        Ok(())
    }

    /// The task's value, or its exception.
    #[pyo3(signature = (timeout=None))]
    fn result<'py>(slf: &Bound<'py, Self>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        if let Some(Loaded { value, exception: None }) = this.loaded.get() {
            return Ok(value.bind(py).clone());
        }
        if !this.wait(py, timeout)? {
            return Err(PyTimeoutError::new_err(()));
        }
        if this.has_output() {
            slf.call_method0(intern!(py, "_show_output"))?;
        }
        if let Some(slot) = this.slot()?
            && let Some(value) = this.plain_value(py, slot)
        {
            return Ok(value);
        }
        slf.call_method0(intern!(py, "_load_result"))
    }

    /// Wait until the first of these futures of one pool is resolved, or `count` of them are, at most so long. `False`: neither.
    #[staticmethod]
    fn _wait_first(
        py: Python<'_>,
        futures: Vec<Bound<'_, Self>>,
        count: usize,
        timeout: Option<f64>,
    ) -> PyResult<bool> {
        let mut slots = Vec::with_capacity(futures.len());
        let mut pool = None;
        for future in futures {
            let Some((slot, home)) = future.get().task.get() else { return Ok(true) };
            home.ident.check_owner()?;
            pool = home.pool.upgrade();
            slots.push(Arc::clone(slot));
        }
        let Some(pool) = pool else { return Ok(true) }; // with the pool gone, all are resolved
        let deadline = timeout.and_then(Shared::deadline);
        let wait = |slice| pool.wait_first(&slots, count, slice).then_some(());
        Ok(wait_interruptibly(py, deadline, wait)?.is_some())
    }

    /// The values of a chunk of `map`, where they are all numbers.
    fn _numbers<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyList>>> {
        let Some(slot) = self.slot()? else { return Ok(None) };
        let Some(Outcome::Values(payload, _)) = slot.outcome() else { return Ok(None) };
        Ok(match payload.as_private() {
            Some(bytes) => numbers::decode(py, bytes),
            None => numbers::decode(py, &payload.to_vec()),
        })
    }

    /// How long a chunk of `map` took, in nanoseconds.
    fn _ran(&self) -> PyResult<Option<u64>> {
        let Some(slot) = self.slot()? else { return Ok(None) };
        Ok(slot.with_outcome(|outcome| match outcome {
            Some(Outcome::Values(_, ran)) => u64::try_from(ran.as_nanos()).ok(),
            _ => None,
        }))
    }

    /// Bytes of the outcome.
    fn _bytes(&self) -> PyResult<usize> {
        let Some(slot) = self.slot()? else { return Ok(0) };
        Ok(slot.with_outcome(|outcome| outcome.map_or(0, Outcome::size)))
    }

    /// Keep what was loaded; what was kept first counts.
    fn _keep<'py>(
        &self,
        py: Python<'py>,
        value: Py<PyAny>,
        exception: Option<Py<PyAny>>,
    ) -> (Bound<'py, PyAny>, Option<Bound<'py, PyAny>>) {
        let _ = self.loaded.set(Loaded { value, exception });
        self.kept(py).unwrap_or_else(|| (py.None().into_bound(py), None))
    }

    /// What was kept.
    fn _kept<'py>(&self, py: Python<'py>) -> Option<(Bound<'py, PyAny>, Option<Bound<'py, PyAny>>)> {
        self.kept(py)
    }

    #[getter]
    fn _seq(&self) -> u64 {
        self.task.get().map_or(0, |(slot, _)| slot.id().0)
    }

    #[getter]
    fn _task_id(&self) -> Option<String> {
        self.task.get().map(|(slot, home)| home.ident.id_text(slot.id()))
    }

    #[getter]
    fn _pool_id(&self) -> u64 {
        self.task.get().map_or(0, |(_, home)| home.ident.id)
    }

    /// The name of its function, as long as the pool remembers it.
    fn _name(&self) -> PyResult<Option<String>> {
        let (Some(slot), Some(pool)) = (self.slot()?, self.pool()) else { return Ok(None) };
        let present = pool.find_present(slot.id()).map(|present| present.name);
        let name = present.or_else(|| Some(pool.find_past(slot.id())?.name));
        Ok(name.map(|name| name.to_string()))
    }

    /// How it ended, without the data.
    fn _kind(&self) -> PyResult<Option<&'static str>> {
        Ok(match self.slot()? {
            Some(slot) => slot.kind(),
            None => Some(Outcome::Released.kind()),
        })
    }

    fn _is_observed(&self) -> bool {
        self.task.get().is_some_and(|(slot, _)| slot.is_observed())
    }

    fn _is_resolved(&self) -> PyResult<bool> {
        let Some(slot) = self.slot()? else { return Ok(true) };
        if !slot.is_resolved()
            && let Some(pool) = self.pool()
        {
            pool.turn(); // it may be there, and nobody has looked
        }
        Ok(slot.is_resolved())
    }

    fn _is_running(&self) -> PyResult<bool> {
        let Some(slot) = self.slot()? else { return Ok(false) };
        Ok(!slot.is_resolved() && self.pool().is_some_and(|pool| pool.is_running(slot.id())))
    }

    fn _observe(&self) -> PyResult<bool> {
        let Some(slot) = self.slot()? else { return Ok(false) };
        Ok(match self.pool() {
            Some(pool) => pool.observe(slot),
            None => slot.is_announced(), // the pool is gone, so it is resolved
        })
    }

    fn _cancel(&self) -> PyResult<bool> {
        match (self.slot()?, self.pool()) {
            (Some(slot), Some(pool)) if slot.is_killed_by_cancel() => Ok(pool.kill(slot.id())?),
            (Some(slot), Some(pool)) if !slot.is_resolved() => Ok(pool.cancel(slot.id())?),
            _ => Ok(false),
        }
    }

    /// Cancel it, and stop it where a worker runs it.
    fn _kill(&self) -> PyResult<bool> {
        match (self.slot()?, self.pool()) {
            (Some(slot), Some(pool)) if !slot.is_resolved() => Ok(pool.kill(slot.id())?),
            _ => Ok(false),
        }
    }

    fn _has_output(&self) -> bool {
        self.has_output()
    }

    /// What is kept of the task's output; how much is not stands in its first line.
    #[pyo3(signature = (stream=None))]
    fn _output(&self, stream: Option<&str>) -> PyResult<String> {
        let stream = match stream {
            None => None,
            Some(name) => Some(Stream::from_name(name).ok_or_else(|| {
                PyValueError::new_err(format!(
                    "stream must be 'stdout', 'stderr', 'log' or None, not '{name}'"
                ))
            })?),
        };
        if let Some(pool) = self.pool() {
            pool.turn(); // it may be there, and nobody has looked
        }
        let Some(slot) = self.slot()? else { return Ok(String::new()) };
        let (_, home) = self.task.get().expect("there is a slot");
        let (text, dropped) = home.ident.output.of_task(slot.id(), stream);
        Ok(if dropped > 0 { dropped_notice(dropped) + &text } else { text })
    }

    /// The stacks of a task's worker. `None`: it does not run. An error: they did not come in time.
    fn _stack(&self, py: Python<'_>, timeout: f64) -> PyResult<Option<String>> {
        let (Some(slot), Some(pool)) = (self.slot()?, self.pool()) else { return Ok(None) };
        let Some(mut request) = pool.ask_for_stack(slot.id())? else { return Ok(None) };
        let look = wait_interruptibly(py, Shared::deadline(timeout), |slice| {
            let start = Instant::now();
            loop {
                match pool.look_for_stack(&mut request) {
                    StackLook::NotYet if start.elapsed() >= slice => return None,
                    StackLook::NotYet => std::thread::sleep(STACK_LOOKS),
                    look => return Some(look),
                }
            }
        });
        if !matches!(look, Ok(Some(_))) {
            pool.drop_stack(&request);
        }
        match look? {
            Some(StackLook::Stack(text)) => Ok(Some(text)),
            Some(StackLook::Ended | StackLook::NotYet) => Ok(None),
            None => Err(PyTimeoutError::new_err(format!(
                "the worker has not shown its stack within {timeout} s: it is stopped, or not scheduled"
            ))),
        }
    }

    fn _release(&self) -> PyResult<()> {
        if let Some(slot) = self.slot()? {
            slot.release();
        }
        Ok(())
    }

    #[pyo3(signature = (timeout=None))]
    fn _wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        self.wait(py, timeout)
    }

    fn _outcome<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let Some(slot) = self.slot()? else {
            return Ok(Some((Outcome::Released.kind(), py.None()).into_pyobject(py)?));
        };
        let Some((outcome, copied)) = slot.lend() else { return Ok(None) };
        let data = data_of(py, &outcome, copied)?;
        Ok(Some((outcome.kind(), data).into_pyobject(py)?))
    }

    /// Its value, to be given to other tasks; `None`: only its owner has it.
    fn _input(&self) -> PyResult<Option<Input>> {
        self.slot()?;
        Ok(self.task.get().and_then(|(slot, home)| Input::from_task(slot, home.ident.id)))
    }
}

/// What Python loads a value or an exception from.
fn data_of<'py>(py: Python<'py>, outcome: &Outcome, copied: bool) -> PyResult<Bound<'py, PyAny>> {
    let data = match outcome {
        Outcome::Value(payload) | Outcome::Values(payload, _) | Outcome::Error(payload) => {
            match buffer::parts(py, payload, copied)? {
                (pickle, None) => pickle.into_any(),
                parts => parts.into_pyobject(py)?.into_any(),
            }
        }
        Outcome::Described(payload) => new_bytes(py, value_pickle(&payload.to_vec()))?.into_any(),
        Outcome::Failed(failure) => {
            let facts = pythonize::pythonize(py, &**failure)?;
            if let Some(cause) = &failure.cause {
                let cause = (cause.kind(), data_of(py, cause, copied)?);
                facts.set_item(intern!(py, "cause"), cause)?;
            }
            facts
        }
        Outcome::Cancelled | Outcome::Released => py.None().into_bound(py),
    };
    Ok(data)
}
