//! Waiting with the GIL released, without losing signals or the end of the interpreter.

use std::sync::OnceLock;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use pyo3::prelude::*;

/// A native wait is not ended by a signal, so it is cut into slices, and Python's handlers (Ctrl-C) run between
/// them. 50 ms is at once for a person, and costs a waiting thread nothing measurable.
const SLICE: Duration = Duration::from_millis(50);

/// As good as for ever, and short enough to be added to any clock.
const LONG: Duration = Duration::from_secs(3600);

/// The thread that finalizes the interpreter, once it does.
static FINALIZER: OnceLock<ThreadId> = OnceLock::new();

/// Called by `atexit`, when all non-daemon threads have ended.
#[pyfunction]
pub(super) fn finalizing() {
    let _ = FINALIZER.set(std::thread::current().id());
}

/// A daemon thread that wants the GIL back while the interpreter goes away is ended by CPython (before 3.14) in
/// the middle of our frames, which aborts the process. Such a thread stays here until the process is gone.
fn stay_if_finalizing() {
    while FINALIZER.get().is_some_and(|&finalizer| finalizer != std::thread::current().id()) {
        std::thread::park();
    }
}

/// Call `wait` with slices of time until it returns something, the deadline passes (`None`), or a signal
/// handler raises.
pub(super) fn wait_interruptibly<T: Send>(
    py: Python<'_>,
    deadline: Option<Instant>,
    mut wait: impl FnMut(Duration) -> Option<T> + Send,
) -> PyResult<Option<T>> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let slice = left.map_or(SLICE, |left| left.min(SLICE));
        let result = py.detach(|| {
            let result = wait(slice);
            stay_if_finalizing();
            result
        });
        if result.is_some() {
            return Ok(result);
        }
        py.check_signals()?;
        if left.is_some_and(|left| left <= slice) {
            return Ok(None);
        }
    }
}

/// As [`wait_interruptibly`], on a thread that serves no signals and mostly sleeps: it wants the GIL for nothing else than
/// what it waits for.
pub(super) fn wait_quietly<T: Send>(py: Python<'_>, wait: impl FnOnce(Duration) -> T + Send) -> T {
    py.detach(|| {
        let result = wait(LONG);
        stay_if_finalizing();
        result
    })
}
