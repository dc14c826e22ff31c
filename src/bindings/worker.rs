//! `_native.Worker`: the worker process's loop. Short calls of plain values go round in here; Python is asked for the rest.

use std::collections::HashMap;
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pyo3::PyTypeInfo;
use pyo3::exceptions::{PyMemoryError, PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyMemoryView, PyTuple};

use super::buffer;
use super::codec;
use super::defined::Defined;
use super::guarded::{AGAIN, Soft};
use super::helpers::Helpers;
use super::inline::leave_child;
use super::input::Gifts;
use super::memory::new_bytes;
use super::nested::Nest;
use super::reply::Reply;
use crate::ipc::{
    Answer, Form, Large, OutputSender, Payload, Stream, Taken, Task, WorkerLink, fork_generation,
};
use crate::scheduler::types::Assignment;

/// How long to look for the next task without letting other Python threads run.
const SPIN_WITH_GIL: Duration = Duration::from_micros(10);

/// How long altogether; what is worth it is less, mostly (see `WorkerLink::spin`).
const SPIN: Duration = Duration::from_micros(50);

/// A task that ran for longer, in nanoseconds, is asked what it or its child processes have written to descriptors 1 and 2:
/// two system calls, which a shorter one would feel, and in which no process could be started.
const LOOK_AT_DESCRIPTORS: u64 = 100_000;

/// Tasks after which other Python threads get a chance, if the tasks themselves (functions written in C) give them none.
const TASKS_PER_BREATH: u32 = 256;

#[pyclass(frozen, module = "disttask._native")]
pub(super) struct Worker {
    pub(super) link: Mutex<WorkerLink>,
    pub(super) gifts: Gifts,
    output: Arc<OutputSender>,
    soft: Arc<Soft>,
}

pub(super) struct Loop<'py> {
    pub(super) py: Python<'py>,
    pub(super) helpers: Helpers<'py>,
    pub(super) soft: Arc<Soft>,
    /// What it is at, and since when.
    pub(super) begun: Option<(Assignment, Instant)>,
    functions: HashMap<u32, Defined>,
    generation: u32,
}

#[pymethods]
impl Worker {
    #[staticmethod]
    fn attach(py: Python<'_>) -> PyResult<(Self, Nest, Bound<'_, PyBytes>, Vec<i32>)> {
        let (link, config, shared) = py.detach(crate::worker::attach)?;
        let (output, nest) = (link.output(), Nest::new(link.asker()));
        let shared = shared.into_iter().map(IntoRawFd::into_raw_fd).collect();
        let worker = Self { link: Mutex::new(link), gifts: Gifts::default(), output, soft: Arc::default() };
        Ok((worker, nest, new_bytes(py, &config)?, shared))
    }

    /// What the task that is being loaded was given under this key.
    fn input<'py>(&self, py: Python<'py>, key: u64) -> PyResult<Bound<'py, PyAny>> {
        self.gifts.load(py, key)
    }

    fn claim_soft_timeout(&self, py: Python<'_>) -> Option<(Py<PyAny>, u64, u32)> {
        self.soft.claim(py)
    }

    fn ready(&self, hello: &[u8]) -> PyResult<()> {
        Ok(self.link.lock().ready(hello)?)
    }

    /// Print for the task that runs. Other threads go on meanwhile: the host may be slow to take it.
    fn write(&self, py: Python<'_>, stream: &str, data: &Bound<'_, PyAny>) -> PyResult<usize> {
        let stream = Stream::from_name(stream).ok_or_else(|| PyValueError::new_err("no such stream"))?;
        let data = match data.cast::<PyBytes>() {
            Ok(data) => data.clone(),
            Err(_) => PyMemoryView::from(data)?.call_method0(intern!(py, "tobytes"))?.cast_into()?,
        };
        let bytes = data.as_bytes();
        if !self.output.append(stream, bytes) {
            py.detach(|| self.output.write(stream, bytes));
        }
        Ok(bytes.len())
    }

    /// Send partial lines, too.
    fn flush(&self, py: Python<'_>) {
        py.detach(|| self.output.flush());
    }

    /// Where stacks are written to.
    fn stack_fd(&self) -> i32 {
        self.output.raw_fd()
    }

    /// Serve the host until it says stop.
    fn serve(slf: &Bound<'_, Self>, helpers: &Bound<'_, PyAny>) -> PyResult<()> {
        // What it has is closed by the end of the process: a task may have closed the descriptors, and their numbers may
        // be other files' by now. (A build with debug assertions would abort where one is closed twice.)
        std::mem::forget(slf.clone());
        slf.get().take_tasks(slf.py(), helpers)
    }
}

impl Worker {
    fn take_tasks(&self, py: Python<'_>, helpers: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut work = Loop {
            py,
            helpers: Helpers::of(helpers)?,
            soft: Arc::clone(&self.soft),
            begun: None,
            functions: HashMap::new(),
            generation: fork_generation(),
        };
        let mut payload = Vec::new();
        let mut tasks = 0_u32;
        loop {
            let taken = self.link.lock().take(&mut payload)?;
            let Some((taken, large)) = taken else {
                tasks = 0;
                self.idle(py)?;
                continue;
            };
            let large = match large {
                Large::None => None,
                Large::Here(payload) => Some(payload),
                Large::NoAddresses(bytes) => {
                    self.do_without(&work, &taken, bytes)?;
                    continue;
                }
            };
            match taken.task {
                Task::Stop => {
                    self.flush(py);
                    return Ok(());
                }
                Task::Define => {
                    let code = large.map_or_else(|| payload.clone(), |large| large.to_vec());
                    work.functions.insert(taken.function, Defined::new(code));
                }
                Task::Give { constant } => {
                    let value = large.unwrap_or_else(|| Payload::copied(&payload));
                    self.gifts.add(taken.key(), Ok(value), constant);
                }
                Task::TakeAway => self.gifts.remove(taken.key()),
                Task::Unmap => {}
                Task::Forget => drop(work.functions.remove(&taken.function).map(Defined::forget)),
                Task::Run(form) => {
                    let start = Instant::now();
                    work.begin(taken.run, start);
                    let before = self.output.begin(taken.run);
                    let reply = if form == Form::Chunk {
                        work.run_chunk(&self.link.lock(), &taken, &payload, large)?
                    } else {
                        work.run(&taken, form, &payload, large)?
                    };
                    let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
                    self.finish_output(py, nanos);
                    self.output.begin(before);
                    self.reply(py, &taken, nanos, &reply)?;
                    tasks += 1;
                    if tasks >= TASKS_PER_BREATH {
                        tasks = 0;
                        py.detach(|| ());
                        py.check_signals()?;
                    }
                }
            }
        }
    }

    /// What the task has printed goes before its answer, and the host is told to take it first.
    fn finish_output(&self, py: Python<'_>, nanos: u64) {
        let spoke = self.output.take_spoke();
        if spoke {
            self.flush(py);
        }
        if spoke || (nanos > LOOK_AT_DESCRIPTORS && OutputSender::raw_waits()) {
            self.link.lock().note_spoke();
        }
    }

    /// Nothing to do: look for the next task for a while, then sleep.
    fn idle(&self, py: Python<'_>) -> PyResult<()> {
        let mut guard = self.link.lock();
        let link = &mut *guard;
        if link.spin(SPIN_WITH_GIL) {
            return Ok(());
        }
        py.detach(|| {
            if !link.spin(SPIN) {
                link.wait();
            }
        });
        drop(guard);
        py.check_signals()
    }
}

impl<'py> Loop<'py> {
    /// Run one task. What it raises is its answer; an error here is our own.
    fn run(
        &mut self,
        taken: &Taken,
        form: Form,
        payload: &[u8],
        large: Option<Payload>,
    ) -> PyResult<Reply<'py>> {
        match self.call(taken, form, payload, large) {
            Ok(value) => {
                self.check_fork(None);
                self.answer(&value, form)
            }
            Err((AGAIN, error)) => {
                self.check_fork(Some(&error));
                Ok(Reply::Bytes(Answer::Raised, self.described("run", error, None)?))
            }
            Err((stage, error)) => {
                self.check_fork(Some(&error));
                self.error(stage, error, None)
            }
        }
    }

    fn call(
        &mut self,
        taken: &Taken,
        form: Form,
        payload: &[u8],
        large: Option<Payload>,
    ) -> Result<Bound<'py, PyAny>, (&'static str, PyErr)> {
        let py = self.py;
        let at_load = |error| (stage_of_loading(py, &error), error);
        debug_assert!(form != Form::Chunk);
        if form == Form::Call {
            let function = self.function(taken.function).map_err(at_load)?;
            let args = self.arguments(taken, payload, large.as_ref()).map_err(at_load)?;
            drop(large); // from here on the arguments alone keep it: it is free before the answer is seen
            let (function, guard) = self.unwrapped(function).map_err(at_load)?;
            let result = self.called(guard.as_ref(), || function.call1(args));
            return result.map_err(|error| self.judged(guard.as_ref(), error));
        }
        let call = self.load(taken, payload, large.as_ref()).map_err(at_load)?;
        drop(large);
        let (function, args, kwargs): (Bound<'py, PyAny>, Bound<'py, PyTuple>, Bound<'py, PyAny>) =
            call.extract().map_err(at_load)?;
        drop(call);
        let kwargs =
            if kwargs.is_none() { None } else { Some(kwargs.cast_into().map_err(|e| at_load(e.into()))?) };
        let (function, guard) = self.unwrapped(function).map_err(at_load)?;
        let result = self.called(guard.as_ref(), || function.call(args, kwargs.as_ref()));
        result.map_err(|error| self.judged(guard.as_ref(), error))
    }

    pub(super) fn load(
        &self,
        taken: &Taken,
        payload: &[u8],
        large: Option<&Payload>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let Some(large) = large else { return self.helpers.load.call1((new_bytes(self.py, payload)?,)) };
        let (pickle, buffers) = buffer::parts(self.py, large, taken.copied)?;
        let kwargs = PyDict::new(self.py);
        kwargs.set_item(intern!(self.py, "buffers"), buffers)?;
        self.helpers.load.call((pickle,), Some(&kwargs))
    }

    fn arguments(
        &self,
        taken: &Taken,
        payload: &[u8],
        large: Option<&Payload>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        if large.is_none()
            && let Some(args) = codec::decode_tuple(self.py, payload)
        {
            return Ok(args);
        }
        Ok(self.load(taken, payload, large)?.cast_into()?)
    }

    /// The function with this number.
    pub(super) fn function(&mut self, number: u32) -> PyResult<Bound<'py, PyAny>> {
        let defined = self.functions.get_mut(&number).expect("functions are defined before they are called");
        defined.function(&self.helpers.load)
    }

    fn answer(&self, value: &Bound<'py, PyAny>, form: Form) -> PyResult<Reply<'py>> {
        let describe = form == Form::ToDescribe;
        if !describe && let Some(bytes) = codec::encode(value) {
            return Ok(Reply::Small(Answer::Value, bytes));
        }
        if !describe
            && let Ok(pickled) = buffer::dumps(self.py, value)
            && !pickled.needs_care()
        {
            return Ok(if pickled.is_plain() {
                Reply::Bytes(Answer::Value, pickled.pickle)
            } else {
                Reply::Parts(Answer::Value, pickled)
            });
        }
        let dump = if describe { &self.helpers.describe } else { &self.helpers.dump };
        let answer = if describe { Answer::Described } else { Answer::Value };
        // What fails once and not twice was hit by a signal handler of the task's, which has returned.
        match dump.call1((value,)).or_else(|_| dump.call1((value,))) {
            Ok(bytes) => Ok(Reply::Bytes(answer, bytes.cast_into()?)),
            Err(error) => self.error("dump", error, Some(value)),
        }
    }

    pub(super) fn error(
        &self,
        stage: &str,
        error: PyErr,
        value: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Reply<'py>> {
        Ok(Reply::Bytes(Answer::Error, self.described(stage, error, value)?))
    }

    pub(super) fn described(
        &self,
        stage: &str,
        error: PyErr,
        value: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        // `into_value` puts the traceback where Python looks for it.
        let described = self.helpers.error.call1((stage, error.into_value(self.py), value));
        // A signal handler of the task's may raise there, and memory may be short: that, too, is this task's failure alone.
        let described = described.or_else(|_| {
            let text =
                "the task failed, and so did describing how: something interrupted that, or memory was short";
            self.helpers.error.call1((stage, PyRuntimeError::new_err(text), value))
        });
        Ok(described?.cast_into()?)
    }

    /// A child that the task forked must not answer in its parent's place: it leaves, as it would have.
    pub(super) fn check_fork(&self, error: Option<&PyErr>) {
        if fork_generation() != self.generation {
            leave_child(self.py, &self.helpers.leave_child, error);
        }
    }
}

/// What loading has raised is told as that. Too little memory says nothing of what is loaded, and is raised as itself.
pub(super) fn stage_of_loading(py: Python<'_>, error: &PyErr) -> &'static str {
    if error.get_type(py).is(PyMemoryError::type_object(py)) { "run" } else { "load" }
}
