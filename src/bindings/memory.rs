//! Copies between Python and Rust that end in `MemoryError` when there is no memory, not in an abort.

use std::sync::Arc;

use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// A payload to keep.
pub(super) fn copied(bytes: &[u8]) -> PyResult<Arc<Vec<u8>>> {
    let mut copy = Vec::new();
    if copy.try_reserve_exact(bytes.len()).is_err() {
        return Err(PyMemoryError::new_err(format!(
            "no memory for a copy of the task's {} bytes",
            bytes.len()
        )));
    }
    copy.extend_from_slice(bytes);
    Ok(Arc::new(copy))
}

/// Bytes for Python.
pub(super) fn new_bytes<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    PyBytes::new_with(py, bytes.len(), |place| {
        place.copy_from_slice(bytes);
        Ok(())
    })
}
