//! `_native.Nest` and `_native.NestedTask`: the tasks that a task in a worker has submitted itself.
//!
//! How such a task stands is known here and not in Python, and each step is one native call: a signal handler that raises
//! runs before or after a step, never inside. So no answer of the host gets lost on its way, and what was taken to be run
//! here has ended when the call returns, however it returns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyTuple};

use super::error::PoolBroken;
use super::inline::{Ran, perform, too_long};
use super::memory::new_bytes;
use super::wait::wait_interruptibly;
use crate::ipc::{
    Asker, Ended, Ending, LinkError, MAX_PIECE_BYTES, Part, Refusal, Standing, fork_generation,
};
use crate::pool::Shared;

#[pyclass(frozen, module = "disttask._native")]
pub(super) struct Nest {
    asker: Arc<Asker>,
    /// Numbers this worker's tasks.
    next: AtomicU64,
    generation: u32,
}

impl Nest {
    pub(super) fn new(asker: Arc<Asker>) -> Self {
        Self { asker, next: AtomicU64::new(1), generation: fork_generation() }
    }
}

/// A child that a task has forked must not ask: its parent would get its answers.
fn check_process(generation: u32) -> PyResult<()> {
    if generation == fork_generation() {
        return Ok(());
    }
    Err(PyRuntimeError::new_err(
        "a process that a task has forked cannot submit tasks or wait for them: do that in the task itself",
    ))
}

fn error_of(error: LinkError) -> PyErr {
    match error {
        LinkError::Malformed(_) => {
            PyRuntimeError::new_err("the host gave no sensible answer about a nested task")
        }
        other => other.into(),
    }
}

#[pymethods]
impl Nest {
    fn submit(
        &self,
        py: Python<'_>,
        call: Bound<'_, PyBytes>,
        name: &str,
        priority: i32,
        retries: u32,
    ) -> PyResult<NestedTask> {
        check_process(self.generation)?;
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        let bytes = call.as_bytes();
        let accepted = py.detach(|| self.asker.submit(key, priority, retries, name, bytes));
        let number = accepted.map_err(error_of)?.map_err(|Refusal { broken, why }| {
            if broken { PoolBroken::new_err(why) } else { PyRuntimeError::new_err(why) }
        })?;
        Ok(NestedTask {
            asker: Arc::clone(&self.asker),
            key,
            number,
            generation: self.generation,
            state: Mutex::new(State::Submitted),
            changed: Condvar::new(),
            pickle: Mutex::new(Some(call.unbind())),
        })
    }

    fn ended(&self) -> u32 {
        self.asker.ended()
    }

    fn wait(&self, py: Python<'_>, seen: u32, seconds: f64) -> PyResult<()> {
        let more = |slice| {
            self.asker.sleep(seen, slice);
            (self.asker.ended() != seen).then_some(())
        };
        wait_interruptibly(py, Shared::deadline(seconds), more).map(drop)
    }
}

/// As far as this process knows.
#[derive(Debug)]
enum State {
    /// The pool has it.
    Submitted,
    /// A thread of this process runs it.
    Running,
    /// It was run here; [`NestedTask::pickle`] is what came of it.
    RanHere(Ending),
    /// The host has said what came of it.
    Told(Arc<Ended>),
    /// That was loaded, and is here no more.
    Loaded(Ending),
}

impl State {
    fn ending(&self) -> Option<Ending> {
        match self {
            Self::Submitted | Self::Running => None,
            Self::Told(ended) => Some(ended.kind),
            Self::RanHere(kind) | Self::Loaded(kind) => Some(*kind),
        }
    }
}

enum Step {
    Is(&'static str),
    /// It has just become [`State::Running`], by us.
    Run,
}

#[pyclass(frozen, module = "disttask._native")]
pub(super) struct NestedTask {
    asker: Arc<Asker>,
    key: u64,
    number: u64,
    generation: u32,
    /// Held while the host is asked. Whoever holds it must not want the GIL.
    state: Mutex<State>,
    changed: Condvar,
    /// The call; later on the outcome, if it was run here. Touched with the GIL only.
    pickle: Mutex<Option<Py<PyBytes>>>,
}

#[pymethods]
impl NestedTask {
    #[getter]
    fn number(&self) -> u64 {
        self.number
    }

    fn look(&self, py: Python<'_>, claim: bool, steps: &Bound<'_, PyAny>) -> PyResult<&'static str> {
        if let Some(ending) = self.known() {
            return Ok(ending.name());
        }
        check_process(self.generation)?;
        match py.detach(|| self.step(claim)).map_err(error_of)? {
            Step::Is(how) => Ok(how),
            Step::Run => self.run(py, steps),
        }
    }

    /// What has ended, as far as is known without asking.
    fn ended(&self) -> Option<&'static str> {
        self.known().map(Ending::name)
    }

    fn outcome<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        // Nothing is made for Python under the lock: that may run anybody's code.
        let (told, kind) = match &*self.state.lock() {
            State::Told(ended) => (Some(Arc::clone(ended)), ended.kind),
            State::RanHere(kind) => (None, *kind),
            State::Submitted | State::Running | State::Loaded(_) => return Ok(None),
        };
        if let Some(ended) = told {
            return outcome(py, &ended).map(Some);
        }
        let pickle = self.pickle.lock().as_ref().map(|pickle| pickle.clone_ref(py));
        pickle.map(|pickle| (kind.name(), pickle).into_pyobject(py)).transpose()
    }

    fn loaded(&self, py: Python<'_>) {
        let gone = {
            let mut state = self.state.lock();
            let Some(kind) = state.ending() else { return };
            (std::mem::replace(&mut *state, State::Loaded(kind)), self.pickle.lock().take())
        };
        py.detach(|| drop(gone.0)); // giving large memory back takes long
    }

    fn wait(&self, py: Python<'_>, seconds: f64) -> PyResult<()> {
        let ended = |slice| {
            let mut state = self.state.lock();
            if state.ending().is_none() {
                self.changed.wait_for(&mut state, slice);
            }
            state.ending()
        };
        wait_interruptibly(py, Shared::deadline(seconds), ended).map(drop)
    }

    fn cancel(&self, py: Python<'_>) -> PyResult<bool> {
        if let Some(ending) = self.known() {
            return Ok(ending == Ending::Cancelled);
        }
        check_process(self.generation)?;
        py.detach(|| {
            let mut state = self.state.lock();
            if matches!(*state, State::Submitted) && self.asker.cancel(self.key)? {
                self.told(
                    &mut state,
                    Ended { kind: Ending::Cancelled, bytes: Vec::new(), parts: Vec::new() },
                );
            }
            Ok(state.ending() == Some(Ending::Cancelled))
        })
        .map_err(error_of)
    }
}

impl NestedTask {
    /// How it has ended, without waiting for anybody who asks the host just now.
    fn known(&self) -> Option<Ending> {
        self.state.try_lock()?.ending()
    }

    /// Ask the host, if need be. An outcome is kept before the host may forget it.
    fn step(&self, claim: bool) -> Result<Step, LinkError> {
        let mut state = self.state.lock();
        if let Some(ending) = state.ending() {
            return Ok(Step::Is(ending.name()));
        }
        if matches!(*state, State::Running) {
            return Ok(Step::Is("here"));
        }
        match self.asker.look(self.key, claim)? {
            Standing::Pending(running) => Ok(Step::Is(if running { "running" } else { "pending" })),
            Standing::Yours => {
                *state = State::Running;
                Ok(Step::Run)
            }
            Standing::Ended(ended) => {
                let kind = ended.kind;
                self.told(&mut state, ended);
                Ok(Step::Is(kind.name()))
            }
        }
    }

    fn told(&self, state: &mut State, ended: Ended) {
        *state = State::Told(Arc::new(ended));
        self.changed.notify_all();
        let _ = self.asker.forget(self.key); // if the host is gone, so are we in a moment
    }

    /// Run it, and keep what comes of it, whatever that is.
    fn run(&self, py: Python<'_>, steps: &Bound<'_, PyAny>) -> PyResult<&'static str> {
        let call = self.pickle.lock().take();
        let Ran { kind, pickle, raised } = perform(py, steps, call, self.generation);
        let mut error = (kind == Ending::Error).then(|| pickle.as_bytes().to_vec());
        if let Some(error) = error.as_mut().filter(|error| error.len() > MAX_PIECE_BYTES) {
            *error = too_long(); // the host wants it for its history only
        }
        *self.pickle.lock() = Some(pickle.unbind());
        py.detach(|| {
            let _ = self.asker.ran(self.key, error.as_deref()); // as in `told`
            *self.state.lock() = State::RanHere(kind);
            self.changed.notify_all();
        });
        raised.map_or(Ok(kind.name()), Err)
    }
}

impl Drop for NestedTask {
    /// Nobody here can ask any more. It may be run all the same.
    fn drop(&mut self) {
        if matches!(self.state.get_mut(), State::Submitted) && self.generation == fork_generation() {
            let _ = self.asker.forget(self.key);
        }
    }
}

/// Kind and data. Arrays are writable, and so anew each time.
fn outcome<'py>(py: Python<'py>, ended: &Ended) -> PyResult<Bound<'py, PyTuple>> {
    let kind = ended.kind.name();
    let Some((&pickle, buffers)) = ended.parts.split_first() else {
        return (kind, new_bytes(py, &ended.bytes)?).into_pyobject(py);
    };
    let pickle = new_bytes(py, slice(&ended.bytes, pickle)?)?;
    let list = PyList::empty(py);
    for &part in buffers {
        list.append(PyByteArray::new(py, slice(&ended.bytes, part)?))?;
    }
    (kind, (pickle, list)).into_pyobject(py)
}

fn slice(data: &[u8], (at, bytes): Part) -> PyResult<&[u8]> {
    let part = at.checked_add(bytes).and_then(|end| data.get(at..end));
    part.ok_or_else(|| error_of(LinkError::Malformed("parts")))
}
