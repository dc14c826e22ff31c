//! `_native.Nest`: what a task in a worker asks of the host about the tasks that it has submitted itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyList, PyTuple};

use super::error::PoolBroken;
use super::memory::new_bytes;
use super::wait::wait_interruptibly;
use crate::ipc::{Asker, Ending, MAX_PIECE_BYTES, Part, Request, Response, fork_generation};
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

    /// Ask with the GIL released. A child that a task has forked must not: its parent would get its answers.
    fn ask(&self, py: Python<'_>, request: Request<'_>) -> PyResult<Option<Response>> {
        if self.generation != fork_generation() {
            return Err(PyRuntimeError::new_err(
                "a process that a task has forked cannot submit tasks or wait for them: do that in the task itself",
            ));
        }
        Ok(py.detach(|| self.asker.ask(&request))?)
    }

    fn read_all(
        &self,
        py: Python<'_>,
        key: u64,
        bytes: usize,
        mut data: Vec<u8>,
    ) -> PyResult<Option<Vec<u8>>> {
        while data.len() < bytes {
            match self.ask(py, Request::Read(key, data.len() as u64))? {
                Some(Response::Piece(piece)) if !piece.is_empty() => data.extend(piece),
                _ => return Ok(None),
            }
        }
        Ok(Some(data))
    }
}

/// An answer that makes no sense: our bug, or a task that plays with our descriptors.
fn nonsense() -> PyErr {
    PyRuntimeError::new_err("the host gave no sensible answer about a nested task")
}

#[pymethods]
impl Nest {
    /// Submit a pickled call.
    fn submit(
        &self,
        py: Python<'_>,
        data: &[u8],
        name: &str,
        priority: i32,
        retries: u32,
    ) -> PyResult<(u64, u64)> {
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        let (mut piece, mut rest) = data.split_at(data.len().min(MAX_PIECE_BYTES));
        let bytes = data.len() as u64;
        let mut request = Request::Submit { key, priority, retries, bytes, name, piece };
        loop {
            match self.ask(py, request)? {
                Some(Response::Accepted(task)) => return Ok((key, task)),
                Some(Response::Continue) if !rest.is_empty() => {
                    (piece, rest) = rest.split_at(rest.len().min(MAX_PIECE_BYTES));
                    request = Request::More(key, piece);
                }
                Some(Response::Refused { broken: true, why }) => return Err(PoolBroken::new_err(why)),
                Some(Response::Refused { broken: false, why }) => return Err(PyRuntimeError::new_err(why)),
                _ => return Err(nonsense()),
            }
        }
    }

    /// How a task has ended, as kind and data. If not: the kind is ``"pending"``, ``"running"`` or, where it may be claimed,
    /// ``"yours"``.
    fn look<'py>(&self, py: Python<'py>, key: u64, claim: bool) -> PyResult<Bound<'py, PyTuple>> {
        let (kind, bytes, parts, piece) = match self.ask(py, Request::Look { key, claim })? {
            Some(Response::Pending(running)) => {
                let kind = if running { "running" } else { "pending" };
                return (kind, py.None()).into_pyobject(py);
            }
            Some(Response::Yours) => return ("yours", py.None()).into_pyobject(py),
            Some(Response::Done { kind, bytes, parts, piece }) => (kind, bytes, parts, piece),
            _ => return Err(nonsense()),
        };
        if kind == Ending::Cancelled {
            return (kind.name(), py.None()).into_pyobject(py);
        }
        let bytes = usize::try_from(bytes).map_err(|_| nonsense())?;
        let data = self.read_all(py, key, bytes, piece)?.ok_or_else(nonsense)?;
        let _ = self.ask(py, Request::Drop(key))?;
        match parts.split_first() {
            None => (kind.name(), new_bytes(py, &data)?).into_pyobject(py),
            Some((&pickle, buffers)) => {
                let pickle = new_bytes(py, slice(&data, pickle)?)?;
                let list = PyList::empty(py);
                for &part in buffers {
                    list.append(PyByteArray::new(py, slice(&data, part)?))?;
                }
                (kind.name(), (pickle, list)).into_pyobject(py)
            }
        }
    }

    /// How many tasks have ended so far.
    fn ended(&self) -> u32 {
        self.asker.ended()
    }

    /// Wait until more than `seen` have, for so many seconds at most. Signals are served.
    fn wait(&self, py: Python<'_>, seen: u32, seconds: f64) -> PyResult<()> {
        let more = |slice| {
            self.asker.sleep(seen, slice);
            (self.asker.ended() != seen).then_some(())
        };
        wait_interruptibly(py, Shared::deadline(seconds), more).map(drop)
    }

    /// Cancel a task that nobody has begun. Whether it is cancelled.
    fn cancel(&self, py: Python<'_>, key: u64) -> PyResult<bool> {
        match self.ask(py, Request::Cancel(key))? {
            Some(Response::Cancelled(cancelled)) => Ok(cancelled),
            _ => Err(nonsense()),
        }
    }

    /// Nobody here will ask for it again.
    fn forget(&self, py: Python<'_>, key: u64) -> PyResult<()> {
        if self.generation == fork_generation() {
            self.ask(py, Request::Drop(key))?;
        }
        Ok(())
    }

    /// It was run here. `error`: the description of what it raised.
    fn ran(&self, py: Python<'_>, key: u64, error: Option<&[u8]>) -> PyResult<()> {
        // Only the history wants it; what is too long for a message loses its end, the pickle.
        let error = error.map(|error| &error[..error.len().min(MAX_PIECE_BYTES)]);
        self.ask(py, Request::Ran(key, error)).map(drop)
    }
}

fn slice(data: &[u8], (at, bytes): Part) -> PyResult<&[u8]> {
    at.checked_add(bytes).and_then(|end| data.get(at..end)).ok_or_else(nonsense)
}
