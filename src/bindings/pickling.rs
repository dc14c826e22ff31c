//! `_native.Pickling`: for which call a thread is pickling, so that futures and refs know where to be noted.
//!
//! A block is entered and left here and not in Python, where a signal handler may raise between any two steps: what the
//! thread pickled next would then count as a part of a call that is over.

use std::cell::RefCell;

use parking_lot::Mutex;
use pyo3::intern;
use pyo3::prelude::*;

thread_local! {
    static CALL: RefCell<Option<Py<PyAny>>> = const { RefCell::new(None) };
}

/// Within its block this thread is pickling for that call; with `None`, for none.
#[pyclass(frozen, module = "disttask._native")]
pub(super) struct Pickling {
    call: Option<Py<PyAny>>,
    /// What it was pickling for before, where this block is within another: an argument's `__reduce__` may submit a task.
    outer: Mutex<Option<Py<PyAny>>>,
}

#[pymethods]
impl Pickling {
    #[new]
    #[pyo3(signature = (call))]
    fn new(call: Option<Py<PyAny>>) -> Self {
        Self { call, outer: Mutex::new(None) }
    }

    fn __enter__(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let call = self.call.as_ref().map(|call| call.clone_ref(py));
        let outer = CALL.replace(call.as_ref().map(|call| call.clone_ref(py)));
        *self.outer.lock() = outer;
        call
    }

    #[pyo3(signature = (_kind=None, _exc=None, _traceback=None))]
    fn __exit__(
        &self,
        _kind: Option<&Bound<'_, PyAny>>,
        _exc: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) {
        let outer = self.outer.lock().take();
        drop(CALL.replace(outer));
    }

    /// What this thread is pickling for.
    #[staticmethod]
    fn call(py: Python<'_>) -> Option<Py<PyAny>> {
        CALL.with_borrow(|call| call.as_ref().map(|call| call.clone_ref(py)))
    }
}

/// While this lives, its thread is pickling for no call whose futures are noted: this one is submitted as it is.
pub(super) struct Apart(Option<Py<PyAny>>);

pub(super) fn apart() -> Apart {
    Apart(CALL.take())
}

impl Drop for Apart {
    fn drop(&mut self) {
        if self.0.is_some() {
            drop(CALL.replace(self.0.take()));
        }
    }
}

/// Whether this thread has met a future or a `Ref` while it was pickling for no call: see `disttask._inputs.take_met`.
pub(super) fn has_met(py: Python<'_>) -> bool {
    let met = || {
        py.import(intern!(py, "disttask._inputs"))?
            .getattr(intern!(py, "_local"))?
            .getattr(intern!(py, "met"))
    };
    met().and_then(|met: Bound<'_, PyAny>| met.is_truthy()).unwrap_or(false)
}
