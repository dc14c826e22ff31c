//! `_native.Input`: what tasks are given besides their arguments, as the host's Python holds it; and how a worker loads it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::exceptions::{PyLookupError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use super::memory::{new_bytes, no_addresses};
use super::{buffer, codec};
use crate::ipc::{Input as Shared, Payload};
use crate::pool::{Need, Slot};

/// Something that pickles name by key. It is kept for as long as this is, and while a task needs it.
#[pyclass(frozen, module = "disttask._native")]
pub(super) struct Input {
    shared: Arc<Shared>,
    from: Option<Arc<Slot>>,
    pool: u64,
}

impl Input {
    /// An object that was put into this pool.
    pub(super) fn of(payload: Payload, constant: bool, pool: u64) -> Self {
        Self { shared: Shared::of(payload, constant), from: None, pool }
    }

    /// The value of a task; `None` where only its owner has that.
    pub(super) fn from_task(slot: &Arc<Slot>, pool: u64) -> Option<Self> {
        Some(Self { shared: slot.share()?, from: Some(Arc::clone(slot)), pool })
    }
}

#[pymethods]
impl Input {
    #[getter]
    fn key(&self) -> u64 {
        self.shared.key()
    }

    #[getter]
    fn pool_id(&self) -> u64 {
        self.pool
    }

    /// Bytes of its pickle; `None`: it is not there yet.
    #[getter]
    fn nbytes(&self) -> Option<usize> {
        self.shared.value().map(Payload::len)
    }
}

/// What a list of inputs means for a task of this pool.
pub(super) fn needs(list: Option<&Bound<'_, PyList>>, pool: u64) -> PyResult<Box<[Need]>> {
    let Some(list) = list else { return Ok(Box::default()) };
    let need = |item: Bound<'_, PyAny>| {
        let input = item.cast::<Input>()?.get();
        if input.pool != pool {
            return Err(PyValueError::new_err("an input of another pool"));
        }
        Ok(Need { input: Arc::clone(&input.shared), from: input.from.clone() })
    };
    list.iter().map(need).collect()
}

/// One input, as a worker has it.
struct Gift {
    /// Or how large it is, where it cannot be mapped.
    payload: Result<Payload, u64>,
    constant: bool,
}

/// All that it has.
#[derive(Default)]
pub(super) struct Gifts(Mutex<HashMap<u64, Kept>>);

/// With the object, where it was loaded for good.
type Kept = (Arc<Gift>, Option<Py<PyAny>>);

impl Gifts {
    pub(super) fn add(&self, key: u64, payload: Result<Payload, u64>, constant: bool) {
        let gift = Arc::new(Gift { payload, constant });
        let old = self.0.lock().insert(key, (gift, None));
        drop(old); // outside the lock: that may run Python code
    }

    pub(super) fn remove(&self, key: u64) {
        let old = self.0.lock().remove(&key);
        drop(old);
    }

    /// The object: a new one for each task, unless no task can change it.
    pub(super) fn load<'py>(&self, py: Python<'py>, key: u64) -> PyResult<Bound<'py, PyAny>> {
        let found = self
            .0
            .lock()
            .get(&key)
            .map(|(gift, object)| (Arc::clone(gift), object.as_ref().map(|o| o.clone_ref(py))));
        let Some((gift, object)) = found else {
            return Err(PyLookupError::new_err(
                "this value is there only while the task that was given it is loaded: pass it to the task as an argument",
            ));
        };
        if let Some(object) = object {
            return Ok(object.into_bound(py));
        }
        let object = loads(py, gift.payload.as_ref().map_err(|&bytes| no_addresses(bytes))?)?;
        if gift.constant
            && let Some((_, kept)) = self.0.lock().get_mut(&key)
        {
            kept.get_or_insert_with(|| object.clone().unbind());
        }
        Ok(object)
    }
}

fn loads<'py>(py: Python<'py>, payload: &Payload) -> PyResult<Bound<'py, PyAny>> {
    if let Some(object) = payload.as_private().and_then(|bytes| codec::decode(py, bytes)) {
        return Ok(object);
    }
    let (pickle, buffers): (Bound<'py, PyBytes>, _) = match payload.as_private() {
        Some(bytes) => (new_bytes(py, bytes)?, None),
        // Copied: others look at the same bytes.
        None => buffer::parts(py, payload, true)?,
    };
    let loads = py.import(intern!(py, "_pickle"))?.getattr(intern!(py, "loads"))?;
    let kwargs = PyDict::new(py);
    if let Some(buffers) = buffers {
        kwargs.set_item(intern!(py, "buffers"), buffers)?;
    }
    loads.call((pickle,), Some(&kwargs))
}
