//! Functions that travel once: which ones may, and whether they still are what was sent.
//!
//! `disttask._functions` decides, on the first submit of a function; here is what happens on all the others.

use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyBytes, PyCFunction, PyDict, PyFunction, PyString, PyType, PyWeakrefMethods, PyWeakrefReference,
};
use rustc_hash::FxHashMap;

use super::buffer;
use super::handlers::{Raiser, raiser};
use super::memory::{place, room};
use super::pickling::{apart, has_met};
use super::pool::Pool;
use crate::ipc::{Code, Payload, Purpose};
use crate::pool::Shared;

/// Functions that are remembered. With more than this all are looked at anew.
const MAX_KNOWN: usize = 1024;

/// The first byte of a function's code: the worker may call the same object for each task.
pub(super) const CODE_REUSED: u8 = b'R';

/// ... or must load it for each.
const CODE_LOADED_ANEW: u8 = b'A';

/// Numbers functions, for all pools of this process.
static NEXT_NUMBER: AtomicU32 = AtomicU32::new(1);

/// What a function that travels by value was made of when it was pickled: all of it immutable, so that it is enough to see
/// whether the parts are still the same objects.
#[derive(FromPyObject)]
struct Shape {
    /// Weakly: a function is not to live longer because it was sent.
    #[pyo3(item(0))]
    function: Py<PyWeakrefReference>,
    #[pyo3(item(1))]
    code: Py<PyAny>,
    #[pyo3(item(2))]
    defaults: Py<PyAny>,
    #[pyo3(item(3))]
    closure: Py<PyAny>,
    /// Cells, and what was in them.
    #[pyo3(item(4))]
    cells: Vec<(Py<PyAny>, u8, Py<PyAny>)>,
    #[pyo3(item(5))]
    globals: Py<PyDict>,
    /// Global names that it uses, and what they meant.
    #[pyo3(item(6))]
    names: Vec<(Py<PyAny>, u8, Py<PyAny>)>,
}

/// As in `disttask._functions`: there was this value, none, or the function that was sent.
const SAME: u8 = 0;
const MISSING: u8 = 1;

fn is_as_noted(now: Option<&Bound<'_, PyAny>>, mark: u8, noted: &Py<PyAny>, root: &Bound<'_, PyAny>) -> bool {
    match (now, mark) {
        (Some(now), SAME) => now.is(noted.bind(now.py())),
        (now, MISSING) => now.is_none(),
        (Some(now), _) => now.is(root),
        (None, _) => false,
    }
}

impl Shape {
    /// `root` is the function that was sent, of which this is one part.
    fn is_unchanged(&self, root: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = root.py();
        let Some(function) = self.function.bind(py).upgrade() else { return Ok(false) };
        let same = |name: &Bound<'_, PyString>, part: &Py<PyAny>| {
            Ok::<_, PyErr>(function.getattr(name)?.is(part.bind(py)))
        };
        if !same(intern!(py, "__code__"), &self.code)?
            || !same(intern!(py, "__defaults__"), &self.defaults)?
            || !same(intern!(py, "__closure__"), &self.closure)?
            || !function.getattr(intern!(py, "__kwdefaults__"))?.is_none()
            || function.getattr(intern!(py, "__dict__"))?.len()? > 0
        {
            return Ok(false);
        }
        for (cell, mark, content) in &self.cells {
            // An empty cell raises, and is a change.
            let Ok(now) = cell.bind(py).getattr(intern!(py, "cell_contents")) else { return Ok(false) };
            if !is_as_noted(Some(&now), *mark, content, root) {
                return Ok(false);
            }
        }
        let globals = self.globals.bind(py);
        for (name, mark, meant) in &self.names {
            let now = globals.get_item(name.bind(py))?;
            if !is_as_noted(now.as_ref(), *mark, meant, root) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A function whose pickle need not be made again.
pub(super) struct Known {
    pub(super) code: Arc<Code>,
    pub(super) name: Arc<str>,
    shapes: Vec<Shape>,
}

/// `_native.Function`: a function that was pickled once, because somebody said that once is enough.
#[pyclass(frozen, module = "disttask._native")]
pub(super) struct Function {
    pub(super) code: Arc<Code>,
    pub(super) name: Arc<str>,
}

#[pymethods]
impl Function {
    #[new]
    fn new(py: Python<'_>, pool: &Pool, pickle: &[u8], name: &str, reuse: bool) -> PyResult<Self> {
        Ok(Self { code: new_code(py, &pool.shared, pickle, reuse)?, name: name.into() })
    }

    #[getter]
    fn name(&self) -> &str {
        &self.name
    }
}

/// Called when a function is gone: nothing of it is kept until another one is met, neither its pickle nor what it captured.
#[pyclass(frozen, module = "disttask._native")]
struct Farewell {
    table: Weak<Functions>,
    address: usize,
}

#[pymethods]
impl Farewell {
    fn __call__(&self, reference: &Bound<'_, PyAny>) {
        let Some(functions) = self.table.upgrade() else { return };
        let mut table = functions.0.lock();
        let gone = match table.entry(self.address) {
            Entry::Occupied(met) if met.get().reference.is(reference) => Some(met.remove()),
            Entry::Occupied(_) | Entry::Vacant(_) => None, // another function has its place
        };
        drop(table);
        drop(gone); // outside the lock: that may run Python code
    }
}

struct Met {
    /// That it is the same function, and not another one in the same place.
    reference: Py<PyWeakrefReference>,
    /// `None`: it is pickled with each task.
    function: Option<Arc<Known>>,
}

/// What `disttask._functions.prepare` returns: the pickle, the name, the shapes that it rests on, whether to reuse it.
type Prepared<'py> = Option<(Bound<'py, PyBytes>, String, Vec<Shape>, bool)>;

/// The functions that a pool has met, by address.
#[derive(Default)]
pub(super) struct Functions(Mutex<FxHashMap<usize, Met>>);

impl Functions {
    /// This function, if it travels by number; looked at anew if it has changed.
    pub(super) fn get(
        self: &Arc<Self>,
        pool: &Shared,
        function: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Arc<Known>>> {
        let py = function.py();
        let address = function.as_ptr() as usize;
        // The lock is let go of before any Python code can run.
        let known =
            self.0.lock().get(&address).map(|known| (known.reference.clone_ref(py), known.function.clone()));
        if let Some((reference, known)) = known
            && reference.bind(py).upgrade().is_some_and(|living| living.is(function))
        {
            let Some(known) = known else { return Ok(None) };
            let mut changed = false;
            for shape in &known.shapes {
                changed |= !shape.is_unchanged(function)?;
            }
            if !changed {
                return Ok(Some(known));
            }
        }
        self.meet(pool, function)
    }

    /// The pool is gone: nothing of what was sent to it is of use any more.
    pub(super) fn clear(&self) {
        let met = std::mem::take(&mut *self.0.lock());
        drop(met); // outside the lock: that may run Python code
    }

    #[cold]
    fn meet(self: &Arc<Self>, pool: &Shared, function: &Bound<'_, PyAny>) -> PyResult<Option<Arc<Known>>> {
        let py = function.py();
        let helpers = py.import(intern!(py, "disttask._functions"))?;
        let simple = function.is_exact_instance_of::<PyFunction>()
            || function.is_exact_instance_of::<PyCFunction>()
            || function.is_instance_of::<PyType>()
            || function.get_type().is(helpers.getattr(intern!(py, "Task"))?);
        if !simple {
            return Ok(None);
        }
        let prepare = helpers.getattr(intern!(py, "prepare"))?;
        let prepared: Prepared<'_> = {
            let _apart = apart(); // it is used for other calls, too
            prepare.call1((function,))?.extract()?
        };
        let met = match prepared {
            None => None,
            Some((pickle, name, shapes, reuse)) => Some(Arc::new(Known {
                code: new_code(py, pool, pickle.as_bytes(), reuse)?,
                name: name.into(),
                shapes,
            })),
        };
        let address = function.as_ptr() as usize;
        let farewell = Farewell { table: Arc::downgrade(self), address };
        let reference = PyWeakrefReference::new_with(function, Bound::new(py, farewell)?)?.unbind();
        let mut table = self.0.lock();
        // Dropped outside the lock, for that may run Python code.
        let dropped =
            if table.len() >= MAX_KNOWN { std::mem::take(&mut *table) } else { FxHashMap::default() };
        let old = table.insert(address, Met { reference, function: met.clone() });
        drop(table);
        drop((dropped, old));
        Ok(met)
    }
}

/// A function's pickle under a new number. `reuse`: a worker loads it once; else anew for each task.
fn new_code(py: Python<'_>, pool: &Shared, pickle: &[u8], reuse: bool) -> PyResult<Arc<Code>> {
    let mut marked = Vec::with_capacity(pickle.len() + 1);
    marked.push(if reuse { CODE_REUSED } else { CODE_LOADED_ANEW });
    marked.extend_from_slice(pickle);
    let pickle = place(py, pool, Purpose::Kept, &marked)?;
    Ok(Arc::new(Code { number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed), pickle }))
}

/// A pickle (of arguments, say) in a place that workers can see, as long as it needs nothing from `__main__`.
pub(super) fn dumps(
    py: Python<'_>,
    pool: &Shared,
    purpose: Purpose,
    value: &Bound<'_, PyAny>,
) -> PyResult<Option<Payload>> {
    let _apart = apart();
    dumps_noting(py, pool, purpose, value)
}

/// An error for whoever submits, or none where it was the value that could not be pickled. If a signal handler may have raised
/// it that leaves no trace, what fails once and not twice was hit by that. It is not tried again where no Python code has raised
/// it, or a future has, which waits to be noted. What is no `Exception` (Ctrl-C) is never a value's own failure.
fn not_its_own(py: Python<'_>, error: PyErr, value: &Bound<'_, PyAny>) -> Option<PyErr> {
    if !error.is_instance_of::<PyException>(py) {
        return Some(error);
    }
    error.traceback(py)?;
    match raiser(&error, py) {
        Raiser::Handler => return Some(error),
        Raiser::Other => return None,
        Raiser::Unclear if has_met(py) => return None,
        Raiser::Unclear => {}
    }
    match buffer::dumps(py, value) {
        Ok(_) => Some(error),
        Err(again) => (!again.is_instance_of::<PyException>(py)).then_some(again),
    }
}

/// As [`dumps`], for the call that the thread is pickling for: it notes the futures and refs that are met.
pub(super) fn dumps_noting(
    py: Python<'_>,
    pool: &Shared,
    purpose: Purpose,
    value: &Bound<'_, PyAny>,
) -> PyResult<Option<Payload>> {
    let pickled = match buffer::dumps(py, value) {
        Ok(pickled) => pickled,
        // Ctrl-C, or whatever else a signal handler raises; or none: cloudpickle may know how.
        Err(error) => return not_its_own(py, error, value).map_or(Ok(None), Err),
    };
    if pickled.needs_care() {
        return Ok(None);
    }
    if pickled.is_plain() {
        return place(py, pool, purpose, pickled.pickle.as_bytes()).map(Some);
    }
    let range = room(py, pool, purpose, pickled.size(py)?)?;
    Ok(Some(Payload::Ours(Arc::new(pickled.fill(py, range)?))))
}
