//! Which futures the garbage collector looks at: only those that may be part of a cycle. That is none that is just waited
//! for, and of those somebody may hold a million, each of which every full collection would walk.
//!
//! `CPython` leaves out tuples and dicts of plain values in the same way.
#![allow(unsafe_code)] // as in `buffer.rs`: this is the interpreter's own interface, for which pyo3 has no safe one

use pyo3::ffi;
use pyo3::prelude::*;

use super::future::Future;

/// Have the collector leave it out, until [`track`]. It must refer to nothing that could lead back to it.
pub(super) fn untrack(future: &Bound<'_, Future>) {
    // SAFETY: a living object of a type that the collector knows, with the GIL.
    unsafe { ffi::PyObject_GC_UnTrack(future.as_ptr().cast()) };
}

/// Have the collector look at it from now on. Called before it is given a reference.
#[pyfunction]
pub(super) fn track(future: &Bound<'_, Future>) {
    // SAFETY: as above; what is tracked already must not be once more.
    unsafe {
        if ffi::PyObject_GC_IsTracked(future.as_ptr()) == 0 {
            ffi::PyObject_GC_Track(future.as_ptr().cast());
        }
    }
}
