//! Copies between Python and Rust that end in `MemoryError` when there is no memory, not in an abort; and places for payloads,
//! which are waited for.

use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::wait::wait_interruptibly;
use crate::ipc::{Payload, Purpose, Range};
use crate::pool::{Patience, PoolError, Shared};

/// A worker cannot look at a payload of so many bytes.
pub(super) fn no_addresses(bytes: u64) -> PyErr {
    PyMemoryError::new_err(format!(
        "the worker has no addresses left for an argument of {bytes} bytes: pass less, or raise its limit (RLIMIT_AS, ulimit -v)"
    ))
}

/// Bytes for Python.
pub(super) fn new_bytes<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    PyBytes::new_with(py, bytes.len(), |place| {
        place.copy_from_slice(bytes);
        Ok(())
    })
}

/// A payload's bytes for Python.
pub(super) fn payload_bytes<'py>(py: Python<'py>, payload: &Payload) -> PyResult<Bound<'py, PyBytes>> {
    PyBytes::new_with(py, payload.len(), |place| {
        payload.read(place);
        Ok(())
    })
}

/// A place for a payload in memory that workers can see; waits until there is one, interruptibly.
pub(super) fn place(py: Python<'_>, pool: &Shared, purpose: Purpose, bytes: &[u8]) -> PyResult<Payload> {
    once_there_is_room(py, pool, bytes.len(), || pool.payload(purpose, bytes))
}

/// Room for a payload, to be filled; waits until there is some, interruptibly.
pub(super) fn room(py: Python<'_>, pool: &Shared, purpose: Purpose, bytes: usize) -> PyResult<Range> {
    once_there_is_room(py, pool, bytes, || pool.room(purpose, bytes))
}

/// From this size on other threads run meanwhile: finding the pages and copying take a millisecond and more.
const LONG_COPY_BYTES: usize = 4 << 20;

fn once_there_is_room<T: Send>(
    py: Python<'_>,
    pool: &Shared,
    bytes: usize,
    get: impl Fn() -> Result<Option<T>, PoolError> + Send + Sync,
) -> PyResult<T> {
    let at_once = if bytes < LONG_COPY_BYTES { get() } else { py.detach(&get) };
    if let Some(got) = at_once? {
        return Ok(got);
    }
    let mut patience = Patience::default();
    let got = wait_interruptibly(py, None, |slice| match pool.wait_for_room(bytes, &mut patience, slice) {
        Ok(()) => get().transpose(),
        Err(error) => Some(Err(error)),
    })?;
    Ok(got.ok_or_else(|| PyErr::from(PoolError::Full(bytes)))??)
}
