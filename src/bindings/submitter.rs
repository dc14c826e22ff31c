//! `_native.Submitter`: the base class of whatever has a `submit`, with the options that its tasks get.

use std::num::NonZeroU32;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyDictMethods, PyList, PyTuple, PyType};

use super::calls::{Calls, NewFuture};
use super::codec;
use super::functions::{Function, Functions, dumps, dumps_noting};
use super::future::Home;
use super::input::{Input, needs};
use super::memory::place;
use super::numbers;
use super::pool::Pool;
use super::wait::wait_interruptibly;
use crate::ipc::{Form, Payload, Purpose};
use crate::pool::{Keep, Manner, Need, PoolError, Shared, Slot, Work};
use crate::scheduler::types::{Backoff, TaskSpec};

/// What was asked for, as far as this side is concerned.
#[derive(FromPyObject)]
struct Asked {
    priority: i32,
    retries: u32,
    retry_timeouts: bool,
    crash_limit: Option<u32>,
    /// In seconds.
    timeout: Option<f64>,
    /// In bytes.
    max_memory: Option<u64>,
    retry_over_memory: bool,
    backoff_ms: Option<(u32, u32)>,
    name: Option<String>,
    tags: Vec<String>,
    kill_on_cancel: bool,
}

impl Asked {
    fn split(self) -> (TaskSpec, Manner) {
        let spec = TaskSpec {
            priority: self.priority,
            retries: self.retries,
            retry_timeouts: self.retry_timeouts,
            crash_limit: self.crash_limit.and_then(NonZeroU32::new),
            // What is too long to express is no limit.
            timeout: self.timeout.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            max_memory: self.max_memory,
            retry_over_memory: self.retry_over_memory,
            backoff: self
                .backoff_ms
                .map_or_else(Backoff::default, |(base_ms, cap_ms)| Backoff { base_ms, cap_ms }),
            ..TaskSpec::default()
        };
        let tags = if self.tags.is_empty() { None } else { Some(Arc::new(self.tags)) };
        let manner = Manner { name: self.name.map(Arc::from), tags, kill_on_cancel: self.kill_on_cancel };
        (spec, manner)
    }
}

#[pyclass(subclass, frozen, module = "disttask._native")]
pub(super) struct Submitter(OnceLock<Binding>);

struct Binding {
    pool: Arc<Shared>,
    home: Arc<Home>,
    functions: Arc<Functions>,
    spec: TaskSpec,
    manner: Manner,
    new_future: NewFuture,
    bound: Option<QueueBound>,
}

/// How many tasks may be unfinished, and what comes of one too many.
#[derive(Clone, Copy)]
pub(super) struct QueueBound {
    pub(super) tasks: usize,
    /// It waits; else it is refused.
    pub(super) waits: bool,
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
        let slot = match self.bound {
            None => self.pool.submit(work, name, self.spec, keep, &self.manner)?,
            Some(bound) => self.submit_in_turn(py, bound, &work, name, keep)?,
        };
        self.new_future.attached(py, slot, &self.home)
    }

    /// Where the queue has a bound: wait for room in it, interruptibly, or raise `QueueFull`.
    fn submit_in_turn(
        &self,
        py: Python<'_>,
        bound: QueueBound,
        work: &Work,
        name: &str,
        keep: Keep,
    ) -> PyResult<Arc<Slot>> {
        loop {
            let (work, manner) = (work.clone(), &self.manner);
            match self.pool.submit_within(bound.tasks, work, name, self.spec, keep, manner) {
                Err(PoolError::QueueFull(_)) if bound.waits => {
                    let turn = |slice| self.pool.wait_for_turn(bound.tasks, slice).then_some(());
                    wait_interruptibly(py, None, turn)?;
                }
                done => return Ok(done?),
            }
        }
    }

    /// Many calls of a function that was pickled before, as one task.
    fn chunk<'py>(
        &self,
        py: Python<'py>,
        function: &Function,
        spread: bool,
        items: &Bound<'py, PyList>,
    ) -> PyResult<Work> {
        let packed = if spread { None } else { numbers::encode(items) };
        let (payload, needs) = match packed {
            Some(packed) => (self.payload(py, &packed)?, Box::default()),
            None => self.pickled_chunk(py, spread, items)?,
        };
        Ok(Work { form: Form::Chunk, code: Some(Arc::clone(&function.code)), payload, needs })
    }

    /// The call of one item of `map`. As a chunk where only cloudpickle knows how to pickle it.
    fn single<'py>(
        &self,
        py: Python<'py>,
        function: &Function,
        spread: bool,
        item: Bound<'py, PyAny>,
    ) -> PyResult<Work> {
        let args = if spread { item.cast_into::<PyTuple>()? } else { PyTuple::new(py, [item])? };
        let payload = match codec::encode_tuple(&args) {
            Some(bytes) => Some(Payload::Private(bytes)),
            None => dumps(py, &self.pool, Purpose::Passing, args.as_any())?,
        };
        let code = Some(Arc::clone(&function.code));
        if let Some(payload) = payload {
            return Ok(Work { form: Form::Call, code, payload, needs: Box::default() });
        }
        let item = if spread { args.into_any() } else { args.get_item(0)? };
        let (payload, needs) = self.pickled_by_python(py, spread, &PyList::new(py, [item])?)?;
        Ok(Work { form: Form::Chunk, code, payload, needs })
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
            && let Some(payload) =
                dumps(py, &self.pool, Purpose::Passing, (spread, false, items).into_pyobject(py)?.as_any())?
        {
            return Ok((payload, Box::default()));
        }
        self.pickled_by_python(py, spread, items)
    }

    fn pickled_by_python<'py>(
        &self,
        py: Python<'py>,
        spread: bool,
        items: &Bound<'py, PyList>,
    ) -> PyResult<(Payload, Box<[Need]>)> {
        let pool = self.pool.ident().id;
        let made = py
            .import(intern!(py, "disttask._map"))?
            .call_method1(intern!(py, "pickled"), (pool, spread, items))?;
        let (pickled, inputs): (Bound<'py, PyBytes>, Bound<'py, PyList>) = made.extract()?;
        Ok((self.payload(py, pickled.as_bytes())?, needs(Some(&inputs), pool)?))
    }

    /// A place for a payload; waits for one, interruptibly.
    fn payload(&self, py: Python<'_>, bytes: &[u8]) -> PyResult<Payload> {
        place(py, &self.pool, Purpose::Passing, bytes)
    }
}

#[pymethods]
impl Submitter {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self(OnceLock::new())
    }

    /// `options` is made, and checked, by `disttask._options`.
    #[pyo3(signature = (pool, future, options=None))]
    fn _bind(&self, pool: &Pool, future: Bound<'_, PyType>, options: Option<Asked>) -> PyResult<()> {
        let (spec, manner) = options.map(Asked::split).unwrap_or_default();
        let bound = Binding {
            pool: Arc::clone(&pool.shared),
            home: Arc::clone(&pool.home),
            functions: Arc::clone(&pool.functions),
            spec,
            manner,
            new_future: NewFuture::of(future)?,
            bound: pool.bound,
        };
        self.0.set(bound).map_err(|_| PyRuntimeError::new_err("Executor.__init__() was called twice"))
    }

    /// Schedule ``fn(*args, **kwargs)`` and return its `Future`. Futures of this executor among the arguments are waited
    /// for, and stand for their values.
    #[pyo3(signature = (r#fn, /, *args, **kwargs))]
    fn submit<'py>(
        slf: &Bound<'py, Self>,
        r#fn: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let inner = slf.get().inner()?;
        let plain = kwargs.is_none_or(PyDictMethods::is_empty);
        if plain && let Some(function) = inner.functions.get(&inner.pool, r#fn)? {
            let payload = match codec::encode_tuple(args) {
                Some(bytes) => Some(Payload::Private(bytes)),
                None => dumps(py, &inner.pool, Purpose::Passing, args.as_any())?,
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
        slf.call_method1(intern!(py, "_submit_whole"), (r#fn, args, kwargs))
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
            (None, None) => match dumps_noting(py, &inner.pool, Purpose::Passing, args.as_any())? {
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
        let work = inner.chunk(py, function, spread, items)?;
        // `map` has bounds of its own.
        let slot = inner.pool.submit(work, &function.name, inner.spec, Keep::ForTheFuture, &inner.manner)?;
        inner.new_future.attached(py, slot, &inner.home)
    }

    /// Queue calls of a function that was pickled before, `size` of them as one task. Stops at one that cannot be sent.
    fn _submit_calls<'py>(
        &self,
        py: Python<'py>,
        function: &Function,
        spread: bool,
        items: &Bound<'py, PyList>,
        size: usize,
    ) -> PyResult<(Calls, Option<PyErr>)> {
        let inner = self.inner()?;
        let mut slots = Vec::with_capacity(items.len().div_ceil(size));
        let mut submit = |first: usize| -> PyResult<()> {
            let work = if size == 1 {
                inner.single(py, function, spread, items.get_item(first)?)?
            } else {
                inner.chunk(py, function, spread, &items.get_slice(first, first + size))?
            };
            slots.push(inner.pool.submit(
                work,
                &function.name,
                inner.spec,
                Keep::ForTheFuture,
                &inner.manner,
            )?);
            Ok(())
        };
        let error = (0..items.len()).step_by(size).find_map(|first| submit(first).err());
        let form = if size == 1 { Form::Call } else { Form::Chunk };
        let calls = Calls::new(
            slots,
            Arc::clone(&inner.home),
            inner.new_future.clone_ref(py),
            Arc::clone(&function.name),
            form,
        );
        Ok((calls, error))
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
        inner.pool.check_accepting()?;
        let payload = match (data, codec::encode(value)) {
            (Some(data), _) => place(py, &inner.pool, Purpose::Kept, data)?,
            (None, Some(bytes)) => Payload::Private(bytes),
            (None, None) => match dumps(py, &inner.pool, Purpose::Kept, value)? {
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
