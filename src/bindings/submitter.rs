//! `_native.Submitter`: the base class of whatever has a `submit`, with the options that its tasks get.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyDictMethods, PyList, PyTuple, PyType};

use super::codec;
use super::functions::{Function, Functions, dumps};
use super::future::{Future, Home};
use super::input::{Input, needs};
use super::numbers;
use super::pool::Pool;
use super::wait::wait_interruptibly;
use crate::ipc::{Form, Payload, Range};
use crate::pool::{Keep, Need, Patience, PoolError, Shared, Work};
use crate::scheduler::types::{FunctionId, TaskSpec};

#[pyclass(subclass, frozen, module = "disttask._native")]
pub(super) struct Submitter(OnceLock<Binding>);

struct Binding {
    pool: Arc<Shared>,
    home: Arc<Home>,
    functions: Arc<Functions>,
    spec: TaskSpec,
    /// `Future.__new__` and `Future`.
    new_future: Py<PyAny>,
    future: Py<PyType>,
}

impl Submitter {
    /// An error in a forked child, before any lock or memory of the parent's is touched.
    fn inner(&self) -> PyResult<&Binding> {
        let inner = self.0.get();
        let inner = inner.ok_or_else(|| PyRuntimeError::new_err("Executor.__init__() was not called"))?;
        inner.pool.check_owner()?;
        Ok(inner)
    }
}

impl Binding {
    fn queue<'py>(&self, py: Python<'py>, work: Work, name: &str, keep: Keep) -> PyResult<Bound<'py, PyAny>> {
        let slot = self.pool.submit(work, name, self.spec, keep)?;
        let future = self.new_future.bind(py).call1((self.future.bind(py),))?;
        future.cast::<Future>()?.get().attach(slot, Arc::clone(&self.home));
        Ok(future)
    }

    /// A chunk that is no list of numbers. What items have in common must not become one object in the worker, as it would in
    /// one pickle: an item could then see what another has done to it. So each that is not plain has a pickle of its own.
    fn pickled_chunk<'py>(
        &self,
        py: Python<'py>,
        spread: bool,
        items: &Bound<'py, PyList>,
    ) -> PyResult<(Payload, Box<[Need]>)> {
        let plain = items.len() == 1 || items.iter().all(|item| codec::encode(&item).is_some());
        if plain
            && let Some(payload) = dumps(py, &self.pool, (spread, false, items).into_pyobject(py)?.as_any())?
        {
            return Ok((payload, Box::default()));
        }
        let helper = py.import(intern!(py, "disttask._map"))?.getattr(intern!(py, "pickled"))?;
        let pool = self.pool.ident().id;
        let (pickled, inputs): (Bound<'py, PyBytes>, Bound<'py, PyList>) =
            helper.call1((pool, spread, items))?.extract()?;
        Ok((self.payload(py, pickled.as_bytes())?, needs(Some(&inputs), pool)?))
    }

    /// A place for a payload; waits for one, interruptibly.
    fn payload(&self, py: Python<'_>, bytes: &[u8]) -> PyResult<Payload> {
        place(py, &self.pool, bytes)
    }
}

/// A place for a payload in memory that workers can see; waits until there is one, interruptibly.
pub(super) fn place(py: Python<'_>, pool: &Shared, bytes: &[u8]) -> PyResult<Payload> {
    once_there_is_room(py, pool, bytes.len(), || pool.payload(bytes))
}

/// Room for a payload, to be filled; waits until there is some, interruptibly.
pub(super) fn room(py: Python<'_>, pool: &Shared, bytes: usize) -> PyResult<Range> {
    once_there_is_room(py, pool, bytes, || pool.room(bytes))
}

fn once_there_is_room<T: Send>(
    py: Python<'_>,
    pool: &Shared,
    bytes: usize,
    get: impl Fn() -> Result<Option<T>, PoolError> + Send + Sync,
) -> PyResult<T> {
    if let Some(got) = get()? {
        return Ok(got);
    }
    let mut patience = Patience::default();
    let got = wait_interruptibly(py, None, |slice| match pool.wait_for_room(bytes, &mut patience, slice) {
        Ok(()) => get().transpose(),
        Err(error) => Some(Err(error)),
    })?;
    Ok(got.ok_or_else(|| PyErr::from(PoolError::Full(bytes)))??)
}

#[pymethods]
impl Submitter {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self(OnceLock::new())
    }

    fn _bind(
        &self,
        py: Python<'_>,
        pool: &Pool,
        priority: i32,
        retries: u32,
        timeout: Option<f64>,
        future: Bound<'_, PyType>,
    ) -> PyResult<()> {
        let timeout = timeout.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let spec =
            TaskSpec { function: FunctionId::default(), priority, retries, crash_limit: None, timeout };
        let bound = Binding {
            pool: Arc::clone(&pool.shared),
            home: Arc::clone(&pool.home),
            functions: Arc::clone(&pool.functions),
            spec,
            new_future: future.getattr(intern!(py, "__new__"))?.unbind(),
            future: future.unbind(),
        };
        self.0.set(bound).map_err(|_| PyRuntimeError::new_err("Executor.__init__() was called twice"))
    }

    /// Schedule ``func(*args, **kwargs)`` and return its `Future`. Futures of this executor among the arguments are waited
    /// for, and stand for their values.
    #[pyo3(signature = (func, /, *args, **kwargs))]
    fn submit<'py>(
        slf: &Bound<'py, Self>,
        func: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let inner = slf.get().inner()?;
        let plain = kwargs.is_none_or(PyDictMethods::is_empty);
        if plain && let Some(function) = inner.functions.get(&inner.pool, func)? {
            let payload = match codec::encode_tuple(args) {
                Some(bytes) => Some(Payload::Private(bytes)),
                None => dumps(py, &inner.pool, args.as_any())?,
            };
            if let Some(payload) = payload {
                let work = Work {
                    form: Form::Call,
                    code: Some(Arc::clone(&function.code)),
                    payload,
                    needs: Box::default(),
                };
                return inner.queue(py, work, &function.name, Keep::ForTheFuture);
            }
        }
        slf.call_method1(intern!(py, "_submit_whole"), (func, args, kwargs))
    }

    /// Queue a pickled call, function and all, which needs these inputs.
    #[pyo3(signature = (data, name, retain, inputs=None))]
    fn _submit_pickled<'py>(
        &self,
        py: Python<'py>,
        data: &[u8],
        name: &str,
        retain: bool,
        inputs: Option<&Bound<'py, PyList>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let inner = self.inner()?;
        let payload = inner.payload(py, data)?;
        let needs = needs(inputs, inner.pool.ident().id)?;
        let keep = if retain { Keep::ForItsId } else { Keep::ForTheFuture };
        inner.queue(py, Work { form: Form::Whole, code: None, payload, needs }, name, keep)
    }

    /// Queue a call of a function that was pickled before. `inputs` are those that pickling the arguments has noted.
    #[pyo3(signature = (function, args, data, inputs=None))]
    fn _submit_call<'py>(
        &self,
        py: Python<'py>,
        function: &Function,
        args: &Bound<'py, PyTuple>,
        data: Option<&[u8]>,
        inputs: Option<&Bound<'py, PyList>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let inner = self.inner()?;
        let payload = match (data, codec::encode_tuple(args)) {
            (Some(data), _) => inner.payload(py, data)?,
            (None, Some(bytes)) => Payload::Private(bytes),
            (None, None) => match dumps(py, &inner.pool, args.as_any())? {
                Some(payload) => payload,
                None => return Ok(None),
            },
        };
        let needs = needs(inputs, inner.pool.ident().id)?;
        let work = Work { form: Form::Call, code: Some(Arc::clone(&function.code)), payload, needs };
        inner.queue(py, work, &function.name, Keep::ForTheFuture).map(Some)
    }

    /// Queue many calls of a function that was pickled before, as one task. `spread`: each item is a tuple of arguments.
    fn _submit_chunk<'py>(
        &self,
        py: Python<'py>,
        function: &Function,
        spread: bool,
        items: &Bound<'py, PyList>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let inner = self.inner()?;
        let packed = if spread { None } else { numbers::encode(items) };
        let (payload, needs) = match packed {
            Some(packed) => (inner.payload(py, &packed)?, Box::default()),
            None => inner.pickled_chunk(py, spread, items)?,
        };
        let work = Work { form: Form::Chunk, code: Some(Arc::clone(&function.code)), payload, needs };
        inner.queue(py, work, &function.name, Keep::ForTheFuture)
    }

    /// Put an object into the pool. `None`: it takes cloudpickle, and comes again as `data`.
    #[pyo3(signature = (value, constant, data=None))]
    fn _put(
        &self,
        py: Python<'_>,
        value: &Bound<'_, PyAny>,
        constant: bool,
        data: Option<&[u8]>,
    ) -> PyResult<Option<Input>> {
        let inner = self.inner()?;
        let payload = match (data, codec::encode(value)) {
            (Some(data), _) => inner.payload(py, data)?,
            (None, Some(bytes)) => Payload::Private(bytes),
            (None, None) => match dumps(py, &inner.pool, value)? {
                Some(payload) => payload,
                None => return Ok(None),
            },
        };
        Ok(Some(Input::of(payload, constant, inner.pool.ident().id)))
    }

    /// The function, if it need not be pickled again.
    fn _function(&self, func: &Bound<'_, PyAny>) -> PyResult<Option<Function>> {
        let inner = self.inner()?;
        let known = inner.functions.get(&inner.pool, func)?;
        Ok(known.map(|known| Function { code: Arc::clone(&known.code), name: Arc::clone(&known.name) }))
    }
}
