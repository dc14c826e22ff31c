//! The one place where errors become exceptions.

use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::{PyErr, import_exception};

use crate::ipc::LinkError;
use crate::pool::PoolError;

import_exception!(disttask._exceptions, ForkedPoolError);
import_exception!(disttask._exceptions, PoolBroken);
import_exception!(disttask._exceptions, SerializationError);
import_exception!(disttask._flow, QueueFull);

impl From<PoolError> for PyErr {
    fn from(error: PoolError) -> Self {
        let message = error.to_string();
        match error {
            PoolError::ShutDown | PoolError::Leaving => PyRuntimeError::new_err(message),
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
