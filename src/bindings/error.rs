//! The one place where errors become exceptions.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::{PyErr, import_exception, pyfunction};

use crate::ipc::LinkError;
use crate::pool::PoolError;

import_exception!(disttask._exceptions, ForkedPoolError);
import_exception!(disttask._exceptions, PoolBroken);
import_exception!(disttask._exceptions, SerializationError);
import_exception!(disttask._flow, QueueFull);

/// The main thread has ended, and with it, soon, the interpreter.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Called when the main thread has ended, before other threads are waited for.
#[pyfunction]
pub(super) fn ending() {
    ENDING.store(true, Ordering::Relaxed);
}

/// Why a pool that was shut down takes no task. The standard library makes the same difference.
#[pyfunction]
pub(super) fn after_shutdown() -> String {
    if ENDING.load(Ordering::Relaxed) {
        "cannot schedule new futures after interpreter shutdown: the main thread has ended, and every Executor was shut \
         down then"
            .into()
    } else {
        PoolError::ShutDown.to_string()
    }
}

impl From<PoolError> for PyErr {
    fn from(error: PoolError) -> Self {
        let message = error.to_string();
        match error {
            PoolError::ShutDown => PyRuntimeError::new_err(after_shutdown()),
            PoolError::Leaving => PyRuntimeError::new_err(message),
            PoolError::Broken(_) => PoolBroken::new_err(message),
            PoolError::QueueFull(_) => QueueFull::new_err(message),
            PoolError::Forked => ForkedPoolError::new_err(message),
            PoolError::Backlog | PoolError::Full(_) | PoolError::TooLarge(..) | PoolError::Kept { .. } => {
                SerializationError::new_err(message)
            }
        }
    }
}

impl From<LinkError> for PyErr {
    fn from(error: LinkError) -> Self {
        PyOSError::new_err(error.to_string())
    }
}
