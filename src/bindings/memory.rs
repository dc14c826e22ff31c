//! Copies between Python and Rust that end in `MemoryError` when there is no memory, not in an abort.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::ipc::Payload;

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
