//! Whether a signal handler has raised an exception: its traceback tells.
//!
//! Python calls a handler from the frame that the signal has interrupted, and with that frame: nothing else is called so but
//! what traces a program. One that deletes its arguments is known by its code, as long as it is installed. A handler that is no
//! Python code leaves no trace; that of Ctrl-C, as Python comes with it, raises `KeyboardInterrupt`.
//!
//! No Python code runs in here, so that no other handler can raise meanwhile. So nothing is imported but what is there.

use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyFunction, PyTuple};

/// In a code's `co_flags`: the function takes any number of arguments.
const VARARGS: u32 = 0x04;

/// A partial of a partial of a method: nobody goes further.
const MAX_WRAPPED: usize = 8;

/// Who has raised an exception.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Raiser {
    /// A signal handler.
    Handler,
    /// No signal handler.
    Other,
    /// A signal handler may have, of a kind that leaves no trace.
    Unclear,
}

/// Who has raised this, by the whole of its traceback.
pub(super) fn raiser(error: &PyErr, py: Python<'_>) -> Raiser {
    looked_at(error, py, false).unwrap_or(Raiser::Unclear)
}

/// For Python, where the first frame is that of the caller, who has caught it.
#[pyfunction]
#[pyo3(signature = (exc, /))]
pub(super) fn raised_by_handler(exc: &Bound<'_, PyAny>) -> Option<bool> {
    // Not `exc.__traceback__`: a class may have a property of that name.
    match looked_at(&PyErr::from_value(exc.clone()), exc.py(), true) {
        Ok(Raiser::Handler) => Some(true),
        Ok(Raiser::Other) => Some(false),
        Ok(Raiser::Unclear) | Err(_) => None,
    }
}

fn looked_at(error: &PyErr, py: Python<'_>, caught_in_first: bool) -> PyResult<Raiser> {
    let (codes, has_others) = installed(py)?;
    let mut step = error.traceback(py).map(Bound::into_any);
    if caught_in_first && let Some(first) = step {
        step = below(&first)?;
    }
    while let Some(entry) = step {
        let frame = entry.getattr(intern!(py, "tb_frame"))?;
        let code = frame.getattr(intern!(py, "f_code"))?;
        if codes.iter().any(|known| known.is(&code)) || is_given_its_caller(&frame, &code)? {
            return Ok(Raiser::Handler);
        }
        step = below(&entry)?;
    }
    let unseen = has_others || error.get_type(py).is_subclass_of::<PyKeyboardInterrupt>()?;
    Ok(if unseen { Raiser::Unclear } else { Raiser::Other })
}

fn below<'py>(entry: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let next = entry.getattr(intern!(entry.py(), "tb_next"))?;
    Ok((!next.is_none()).then_some(next))
}

/// Whether the frame's function was called with the frame that has called it.
fn is_given_its_caller(frame: &Bound<'_, PyAny>, code: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = frame.py();
    let caller = frame.getattr(intern!(py, "f_back"))?;
    let positional: usize = code.getattr(intern!(py, "co_argcount"))?.extract()?;
    let flags: u32 = code.getattr(intern!(py, "co_flags"))?.extract()?;
    let takes_any = flags & VARARGS != 0;
    if caller.is_none() || (positional == 0 && !takes_any) {
        return Ok(false);
    }
    let names = code.getattr(intern!(py, "co_varnames"))?.cast_into::<PyTuple>()?;
    let locals = frame.getattr(intern!(py, "f_locals"))?;
    for name in names.iter().take(positional) {
        // Whatever was deleted is not there.
        if locals.get_item(name).is_ok_and(|value| value.is(&caller)) {
            return Ok(true);
        }
    }
    if !takes_any {
        return Ok(false);
    }
    let by_keyword: usize = code.getattr(intern!(py, "co_kwonlyargcount"))?.extract()?;
    let rest = locals.get_item(names.get_item(positional + by_keyword)?);
    Ok(rest.is_ok_and(|rest| {
        rest.cast_exact::<PyTuple>().is_ok_and(|rest| rest.iter().any(|value| value.is(&caller)))
    }))
}

/// The codes of the handlers that are Python functions, and whether there are others besides that of Ctrl-C.
fn installed(py: Python<'_>) -> PyResult<(Vec<Bound<'_, PyAny>>, bool)> {
    let signal = py.import(intern!(py, "_signal"))?;
    let get = signal.getattr(intern!(py, "getsignal"))?;
    let of_ctrl_c = signal.getattr(intern!(py, "default_int_handler"))?;
    let end: u32 = signal.getattr(intern!(py, "NSIG"))?.extract()?;
    let mut codes = Vec::new();
    let mut has_others = false;
    for number in 1..end {
        let Ok(handler) = get.call1((number,)) else { continue };
        if handler.is_callable() && !handler.is(&of_ctrl_c) {
            match code_of(handler)? {
                Some(code) => codes.push(code),
                None => has_others = true,
            }
        }
    }
    Ok((codes, has_others))
}

/// The code that runs when this is called; `None`: it is not Python's.
fn code_of(mut handler: Bound<'_, PyAny>) -> PyResult<Option<Bound<'_, PyAny>>> {
    let py = handler.py();
    let method = py.import(intern!(py, "disttask._references"))?.getattr(intern!(py, "METHOD"))?;
    let partial = py.import(intern!(py, "_functools"))?.getattr(intern!(py, "partial"))?;
    for _ in 0..MAX_WRAPPED {
        let kind = handler.get_type();
        handler = if handler.is_exact_instance_of::<PyFunction>() {
            return handler.getattr(intern!(py, "__code__")).map(Some);
        } else if handler.is_exact_instance_of::<PyCFunction>() {
            return Ok(None);
        } else if kind.is(&method) {
            handler.getattr(intern!(py, "__func__"))?
        } else if kind.is(&partial) {
            handler.getattr(intern!(py, "func"))?
        } else {
            kind.getattr(intern!(py, "__call__"))?
        };
    }
    Ok(None)
}
