//! A function that a worker was sent, and what it makes of it.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::functions::CODE_REUSED;
use super::memory::new_bytes;
use crate::ipc::note_freed;

pub(super) struct Defined {
    /// The object may be called by each task; else each has one of its own.
    reused: bool,
    /// As it came: a mark, and the pickle. Gone once `pickle` is there: a large one is not to be in memory twice.
    code: Vec<u8>,
    /// As Python reads it. Gone once it is not needed any more.
    pickle: Option<Py<PyBytes>>,
    object: Option<Py<PyAny>>,
    /// Of the code, also when that is gone: the object has about as many.
    bytes: usize,
}

impl Defined {
    pub(super) fn new(code: Vec<u8>) -> Self {
        let (reused, bytes) = (code.first() == Some(&CODE_REUSED), code.len());
        Self { reused, code, pickle: None, object: None, bytes }
    }

    /// The function. It is loaded once, if no task can change it.
    pub(super) fn function<'py>(&mut self, load: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = load.py();
        if let Some(object) = &self.object {
            return Ok(object.bind(py).clone());
        }
        let pickle = if let Some(pickle) = &self.pickle {
            pickle.bind(py).clone()
        } else {
            let (_, pickle) = self.code.split_first().expect("code has a mark");
            let pickle = new_bytes(py, pickle)?;
            self.pickle = Some(pickle.clone().unbind());
            self.code = Vec::new();
            note_freed(self.bytes);
            pickle
        };
        let object = load.call1((pickle,))?;
        if self.reused {
            self.object = Some(object.clone().unbind());
            self.pickle = None;
            note_freed(self.bytes);
        }
        Ok(object)
    }

    /// No task will name it: drop it, with what it captured.
    pub(super) fn forget(self) {
        let bytes = self.bytes;
        drop(self);
        note_freed(bytes);
    }
}
