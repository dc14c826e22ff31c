//! A nested task is run by whoever waits for it, on the waiter's own stack.
//!
//! Any call of Python in here may end in the exception of a signal handler. What that hits before the function is called, or
//! inside it, is the task's own end; later it is the waiter's, and the task's outcome stays what it was.

use std::cell::Cell;

use pyo3::exceptions::{PyBaseException, PyRecursionError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use super::handlers::{Raiser, raiser};
use crate::ipc::{Ending, fork_generation};

/// Tasks run within each other by one thread: each takes some six frames of Python's stack, which holds a thousand.
const MAX_DEPTH: u32 = 100;

/// So often is it tried to describe an exception, or to leave a forked child. Each failure is a signal handler that raises
/// within less than a millisecond: whoever does that four times in a row does not mean to be served.
const TRIES: usize = 4;

/// What came of it.
pub(super) struct Ran<'py> {
    /// A value or an error.
    pub(super) kind: Ending,
    /// The pickle of the value, or the description.
    pub(super) pickle: Bound<'py, PyBytes>,
    /// This is for the waiter, besides.
    pub(super) raised: Option<PyErr>,
}

impl Ran<'_> {
    /// This came before.
    fn hit(mut self, hit: Option<PyErr>) -> Self {
        self.raised = hit.or(self.raised);
        self
    }
}

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// One more task within the others; until it is dropped.
struct Level;

impl Level {
    fn enter() -> Option<Self> {
        let depth = DEPTH.get();
        (depth < MAX_DEPTH).then(|| {
            DEPTH.set(depth + 1);
            Self
        })
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// Run a pickled call as the worker's loop would. `steps` is `disttask._worker`.
pub(super) fn perform<'py>(
    py: Python<'py>,
    steps: &Bound<'py, PyAny>,
    call: Option<Py<PyBytes>>,
    generation: u32,
) -> Ran<'py> {
    let Some(_level) = Level::enter() else {
        let deep = format!(
            "nested tasks are {MAX_DEPTH} deep in this worker, each of which waits for the next: return the rest of the \
             work to the caller, or call the function directly"
        );
        return described(py, steps, "run", PyRecursionError::new_err(deep), None);
    };
    let loaded = told_apart(py, || steps.call_method1(intern!(py, "load"), (&call,))?.extract());
    drop(call);
    let (func, args, kwargs): (Bound<'py, PyAny>, Bound<'py, PyTuple>, Option<Bound<'py, PyDict>>) =
        match loaded {
            (Ok(call), None) => call,
            (Ok(_), Some(hit)) => return described(py, steps, "run", hit, None), // as if in the function's first line
            (Err(error), hit) => return described(py, steps, "load", error, None).hit(hit),
        };
    let result = func.call(args, kwargs.as_ref());
    drop((func, kwargs));
    if fork_generation() != generation {
        let error = result.as_ref().err();
        let (leave, _) = told_apart(py, || steps.getattr(intern!(py, "leave_child")));
        leave.map_or_else(|_| std::process::exit(1), |leave| leave_child(py, &leave, error));
    }
    let value = match result {
        Ok(value) => value,
        Err(error) => return described(py, steps, "run", error, None),
    };
    let dump = || Ok(steps.call_method1(intern!(py, "dump"), (&value,))?.cast_into::<PyBytes>()?);
    match told_apart(py, dump) {
        (Ok(pickle), raised) => Ran { kind: Ending::Value, pickle, raised },
        (Err(error), hit) => described(py, steps, "dump", error, Some(&value)).hit(hit),
    }
}

/// So often is a step tried that signal handlers hit, or may have.
const STEP_TRIES: usize = 3;

/// What came of the step, and what a signal handler has raised meanwhile. Its traceback shows the handler. Where there is one
/// that leaves no trace, what fails once and not twice was hit by it; if it fails in two ways, one is likely to be that, and the
/// third time tells which. As `disttask._pickling.told_apart`.
fn told_apart<T>(py: Python<'_>, step: impl Fn() -> PyResult<T>) -> (PyResult<T>, Option<PyErr>) {
    let mut failures: Vec<(PyErr, Raiser)> = Vec::new();
    loop {
        let error = match step() {
            Ok(made) => return (Ok(made), failures.pop().map(|(hit, _)| hit)),
            Err(error) => error,
        };
        let by = raiser(&error, py);
        if by == Raiser::Other {
            return (Err(error), failures.pop().map(|(hit, _)| hit));
        }
        let again = failures.last().is_some_and(|(before, was)| {
            was == &by && by == Raiser::Unclear && before.get_type(py).is(error.get_type(py))
        });
        failures.push((error, by));
        if again || failures.len() == STEP_TRIES {
            return settled(py, failures);
        }
    }
}

/// Of failures of which none is surely the step's own.
fn settled<T>(py: Python<'_>, mut failures: Vec<(PyErr, Raiser)>) -> (PyResult<T>, Option<PyErr>) {
    let shown = failures.iter().position(|(_, by)| *by == Raiser::Handler);
    let odd = |at: usize| {
        let is_like_last = |(error, _): &(PyErr, Raiser)| {
            failures.last().is_some_and(|(last, _)| error.get_type(py).is(last.get_type(py)))
        };
        !is_like_last(&failures[at]) && failures.iter().filter(|failure| !is_like_last(failure)).count() == 1
    };
    let hit = shown.or_else(|| (0..failures.len()).find(|&at| odd(at)));
    let hit = hit.map(|at| failures.remove(at).0);
    let own = failures.iter().position(|(_, by)| *by != Raiser::Handler);
    let error = failures.swap_remove(own.unwrap_or(failures.len() - 1)).0;
    (Err(error), hit)
}

/// It has ended by an exception.
fn described<'py>(
    py: Python<'py>,
    steps: &Bound<'py, PyAny>,
    stage: &str,
    error: PyErr,
    value: Option<&Bound<'py, PyAny>>,
) -> Ran<'py> {
    // `into_value` puts the traceback where Python looks for it.
    let exc = error.into_value(py);
    let mut raised = None;
    match steps.call_method1(intern!(py, "is_told"), (&exc,)).and_then(|is| is.is_truthy()) {
        // It was meant for the waiting task, and has hit a part of it.
        Ok(true) => raised = Some(PyErr::from_value(exc.bind(py).clone().into_any())),
        Ok(false) => {}
        Err(hit) => raised = Some(hit),
    }
    for _ in 0..TRIES {
        match describe(steps, stage, &exc, value) {
            Ok((pickle, hit)) => {
                return Ran { kind: Ending::Error, pickle, raised: raised.or(hit) };
            }
            Err(hit) => {
                raised.get_or_insert(hit);
            }
        }
    }
    let text = plain("a signal handler raised while the task's exception was described, again and again");
    Ran { kind: Ending::Error, pickle: PyBytes::new(py, &text), raised }
}

/// The description, and what has hit this thread meanwhile.
fn describe<'py>(
    steps: &Bound<'py, PyAny>,
    stage: &str,
    exc: &Py<PyBaseException>,
    value: Option<&Bound<'py, PyAny>>,
) -> PyResult<(Bound<'py, PyBytes>, Option<PyErr>)> {
    let described = steps.call_method1(intern!(steps.py(), "error_and_hits"), (stage, exc, value))?;
    let (pickle, mut hits): (Bound<'py, PyBytes>, Vec<Bound<'py, PyAny>>) = described.extract()?;
    Ok((pickle, hits.pop().map(PyErr::from_value)))
}

/// In place of a description that the host would not take.
pub(super) fn too_long() -> Vec<u8> {
    plain("an exception with a description that is too long")
}

/// A `RuntimeError`, in the format of `disttask._pickling.dump_exception`.
fn plain(message: &str) -> Vec<u8> {
    let sections = ["run", "RuntimeError", message, message, ""]; // stage, type, message, traceback; no pickle
    let mut bytes = (sections.len() as u32).to_le_bytes().to_vec();
    for section in sections {
        bytes.extend((section.len() as u64).to_le_bytes());
    }
    bytes.extend(sections.concat().as_bytes());
    bytes
}

/// The task has forked, and this is the child.
pub(super) fn leave_child(py: Python<'_>, leave: &Bound<'_, PyAny>, error: Option<&PyErr>) -> ! {
    for _ in 0..TRIES {
        let _ = leave.call1((error.map(|error| error.value(py)),)); // it does not return, unless a signal handler raises
    }
    std::process::exit(1)
}
